"""A run -> figures on held-out frames and a report. `evaluate` does it all; `evaluate_run` gives the figures alone."""

from __future__ import annotations

from being.eval.measure import evaluate_run
from being.eval.report import evaluate

__all__ = ["evaluate", "evaluate_run"]
