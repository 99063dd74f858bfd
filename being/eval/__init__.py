"""A run, or any two videos -> figures and a report. `evaluate` and `evaluate_pair` do it all;
`evaluate_run` gives the figures of a run alone."""

from __future__ import annotations

from being.eval.measure import evaluate_run
from being.eval.report import evaluate, evaluate_pair

__all__ = ["evaluate", "evaluate_pair", "evaluate_run"]
