"""Evaluation: measures a run, or compares any video with the true one, and writes a report."""

from __future__ import annotations

from being.eval.evaluation import evaluate, evaluate_pair
from being.eval.run_evaluation import evaluate_run

__all__ = ["evaluate", "evaluate_pair", "evaluate_run"]
