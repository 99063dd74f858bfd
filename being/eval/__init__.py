"""Evaluation: figures and a report of a run, or of any video compared with the true one."""

from __future__ import annotations

from being.eval.evaluation import evaluate, evaluate_pair
from being.eval.run_evaluation import evaluate_run

__all__ = ["evaluate", "evaluate_pair", "evaluate_run"]
