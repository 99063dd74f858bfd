"""A run, or any two videos -> figures and a report. `evaluate` and `evaluate_pair` do it all;
`evaluate_run` gives the figures of a run alone."""

from __future__ import annotations

from being.eval.report import evaluate, evaluate_pair
from being.eval.run_figures import evaluate_run

__all__ = ["evaluate", "evaluate_pair", "evaluate_run"]
