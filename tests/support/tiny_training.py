"""Settings of a training that takes seconds, and the metrics of a run, for the tests."""

from __future__ import annotations

import json
from typing import Any

from being.config import Config, load
from being.runs.run_directory import Run

TINY = [
    "data.size=48",
    "model.mouth=audio",
    "data.initial_gaussians=400",
    "train.fine.batch=2",
    "train.lips.warmup_steps=2",
    "train.preview_seconds=0",
    "train.density.start=20",
    "train.density.every=10",
    "train.density.stop=60",
    "train.density.prune_start=20",
    "train.density.gradient=0.0005",
    "train.evaluate_every=1000",
    "train.checkpoint_every=1000",
    "model.plane_resolution=16",
    "model.mouth=audio",  # the scene is too short to learn the mouth code
    "train.sh_degree_every=20",
    "train.loss.feature=0",
]


def settings(coarse: int, fine: int, *more: str, config: str = "quick") -> Config:
    """The tiny config with this number of steps and more `key=value` overrides."""
    return load(
        config,
        [*TINY, f"train.coarse.steps={coarse}", f"train.fine.steps={fine}", *more],
        environment={},
    )


def metrics(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl: one dict per evaluation."""
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
