"""Functions that write files in import and export: splits, track_params.pt, au.csv, audio."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from being.console import Progress
from being.conventions import SAMPLES_PER_FRAME
from being.data.cameras import camera_to_world_json
from being.threads import allowed_cores

# Widths of `id` and `exp` in track_params.pt.
IDENTITY_WIDTH, EXPRESSION_WIDTH = 100, 79


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link of `source`, or a copy where the disk has no hard links."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def for_each_frame(work: Callable[[int], None], count: int, label: str) -> None:
    """Call `work(i)` for i in 0..count-1 on a few threads, with progress."""
    with (
        Progress(label, count, "frames") as progress,
        ThreadPoolExecutor(min(8, allowed_cores())) as pool,
    ):
        for _ in pool.map(work, range(count)):
            progress.advance()


def write_transforms(
    folder: Path,
    splits: Mapping[str, Iterable[int]],
    euler: np.ndarray,
    trans: np.ndarray,
    focal: float,
    width: int,
    height: int,
) -> None:
    """Write `transforms_SPLIT.json` of each split: focal_len, cx, cy, and the frames' matrices."""
    matrices = camera_to_world_json(euler, trans)
    for split, numbers in splits.items():
        frames = [
            {"img_id": int(i), "aud_id": int(i), "transform_matrix": matrices[i].tolist()}
            for i in numbers
        ]
        value = {"focal_len": focal, "cx": width / 2, "cy": height / 2, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(value, indent=1))


def write_track(
    folder: Path,
    euler: np.ndarray,
    trans: np.ndarray,
    focal: float,
    vertices: np.ndarray,
    identity: np.ndarray | None = None,
    expression: np.ndarray | None = None,
) -> None:
    """Write `track_params.pt`, all float32.

    Its tensors: id [1, 100], exp [F, 79], euler and trans [F, 3], focal [1], vertices [1, V, 3].
    vertices: [V, 3]. id and exp are zeros without coefficients of a face model.
    """
    import torch

    values = {
        "id": np.zeros((1, IDENTITY_WIDTH)) if identity is None else identity,
        "exp": np.zeros((len(euler), EXPRESSION_WIDTH)) if expression is None else expression,
        "euler": euler,
        "trans": trans,
        "focal": np.array([focal]),
        "vertices": vertices[None],
    }
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
        for name, value in values.items()
    }
    torch.save(tensors, folder / "track_params.pt")


def write_au_table(
    file: Path, columns: Mapping[str, np.ndarray], prefixes: tuple[str, ...] = (" ",)
) -> None:
    """Write an au.csv of columns [F], every column once for each prefix of its name.

    OpenFace's own prefix is one blank.
    """
    names = [name for name in columns if name != "frame"]
    with open(file, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["frame", *(prefix + name for prefix in prefixes for name in names)])
        for i, row in enumerate(zip(*(columns[name] for name in names), strict=True)):
            table.writerow([i + 1, *(f"{value:.6g}" for _ in prefixes for value in row)])


def audio_of_frames(samples: np.ndarray, first: int, count: int) -> np.ndarray:
    """Audio float32 [640 count] of `count` frames from frame `first`, zeros outside `samples`."""
    start, stop = first * SAMPLES_PER_FRAME, (first + count) * SAMPLES_PER_FRAME
    inside = samples[max(start, 0) : max(stop, 0)]
    after = max(0, stop - max(len(samples), start, 0))
    return np.pad(inside, (max(0, -start), after)).astype(np.float32)[: stop - start]
