"""Compares the frame rates of an avatar deformed by its network and by its bases.

Both render the same frames in turn, call by call, so that other work on the machine slows both. The
processor time of the calls is beside the wall time: on a busy machine it alone can be compared.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from being.bench.fps import random_features
from being.inference.engine import DEFORMATIONS, Engine
from being.inference.feature_pool import FeatureTrack
from being.inference.pose_path import pose_path
from being.model.avatar import Avatar

BATCHES = (1, 8)
WARM_UP_CALLS = 3


@dataclass
class _Timed:
    """An engine, its track, and the times of its calls in ms."""

    engine: Engine
    track: FeatureTrack
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def compare_deformations(avatar: Avatar, precision: str, frames: int) -> list[dict[str, Any]]:
    """A row (JSON types) for each batch size: frames/s by network and by bases, and their ratio.

    frames: to time of each, at least 8. Raises as `Engine` does, for an avatar without bases too.
    """
    timed = {}
    for deform in DEFORMATIONS:
        engine = Engine(avatar, precision, deform=deform)
        timed[deform] = _Timed(engine, engine.track(random_features(engine, 100)))
    try:
        return [_compared(timed, batch, frames) for batch in BATCHES]
    finally:
        for one in timed.values():
            one.track.close()
            one.engine.close()


def _compared(timed: dict[str, _Timed], batch: int, frames: int) -> dict[str, Any]:
    """The row of one batch size."""
    calls = max(frames // batch, 8)
    for one in timed.values():
        one.wall, one.processor = [], []
        one.engine.renderer.warm_up(batch)
    for call in range(calls + WARM_UP_CALLS):
        for one in timed.values():
            _time_call(one, call, batch)
    row: dict[str, Any] = {"batch": batch, "calls": calls}
    for deform, one in timed.items():
        wall = np.median(one.wall[WARM_UP_CALLS:])
        spent = np.median(one.processor[WARM_UP_CALLS:])
        row[deform] = {
            "frames_per_second": round(1000 * batch / float(wall), 1),
            "p50_ms": round(float(wall), 3),
            "processor_ms_a_frame": round(float(spent) / batch, 3),
        }
    row["ratio"] = round(row["network"]["p50_ms"] / row["bases"]["p50_ms"], 2)
    row["processor_ratio"] = round(
        row["network"]["processor_ms_a_frame"] / row["bases"]["processor_ms_a_frame"], 2
    )
    return row


def _time_call(one: _Timed, call: int, batch: int) -> None:
    """Render one batch and append its times."""
    engine = one.engine
    numbers = (np.arange(batch) + call * batch) % 64
    poses = pose_path(batch, engine.avatar.pose_count, call * batch)
    engine.renderer.decode_plates(poses)
    rows, expression = one.track.rows(numbers), engine.expression[poses]
    start, started = time.perf_counter(), time.process_time()
    engine.submit(rows, poses, expression).images()
    one.wall.append((time.perf_counter() - start) * 1000)
    one.processor.append((time.process_time() - started) * 1000)


def comparison_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text for the terminal."""
    lines = [
        "network and bases in turn:"
        f"{'frames/s':>21}{'':>10}{'gain':>8}{'processor ms a frame':>24}{'':>10}{'gain':>8}",
        f"{'':>26}{'network':>10}{'bases':>10}{'':>8}{'network':>24}{'bases':>10}",
    ]
    for row in rows:
        name = "single frame" if row["batch"] == 1 else f"batch of {row['batch']}"
        rates = (row[deform]["frames_per_second"] for deform in DEFORMATIONS)
        spent = (row[deform]["processor_ms_a_frame"] for deform in DEFORMATIONS)
        rate_text = "".join(f"{value:>10.1f}" for value in rates)
        first, second = spent
        lines.append(
            f"{name:>26}{rate_text}{row['ratio']:>8.2f}{first:>24.2f}{second:>10.2f}"
            f"{row['processor_ratio']:>8.2f}"
        )
    return "\n".join(lines)
