"""Pieces that import and export both write: split files, tracker files, linked pictures, sound of a
clip's frames.
"""

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
from being.conventions import FPS, SAMPLE_RATE
from being.data.cameras import camera_to_world_json

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
IDENTITY_NUMBERS, EXPRESSION_NUMBERS = 100, 79  # widths of `id` and `exp` in track_params.pt


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a hard link where the disk allows it, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def each(work: Callable[[int], None], count: int, label: str) -> None:
    """Do `work(i)` for i in 0..count-1 on a few threads, with progress."""
    with (
        Progress(label, count, "frames") as progress,
        ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool,
    ):
        for _ in pool.map(work, range(count)):
            progress.advance()


def write_transforms(
    folder: Path,
    parts: Mapping[str, Iterable[int]],
    euler: np.ndarray,
    trans: np.ndarray,
    focal: float,
    width: int,
    height: int,
) -> None:
    """`transforms_PART.json` of each part: focal_len, cx, cy and the frames with their
    camera-to-world matrices.
    """
    matrices = camera_to_world_json(euler, trans)
    for part, numbers in parts.items():
        frames = [
            {"img_id": int(i), "aud_id": int(i), "transform_matrix": matrices[i].tolist()}
            for i in numbers
        ]
        value = {"focal_len": focal, "cx": width / 2, "cy": height / 2, "frames": frames}
        (folder / f"transforms_{part}.json").write_text(json.dumps(value, indent=1))


def write_track(
    folder: Path,
    euler: np.ndarray,
    trans: np.ndarray,
    focal: float,
    vertices: np.ndarray,
    identity: np.ndarray | None = None,
    expression: np.ndarray | None = None,
) -> None:
    """`track_params.pt`: float32 id [1, 100], exp [F, 79], euler and trans [F, 3], focal [1],
    vertices [1, V, 3].

    vertices: [V, 3]. Where there are no numbers of a face model, id and exp are zeros.
    """
    import torch

    values = {
        "id": np.zeros((1, IDENTITY_NUMBERS)) if identity is None else identity,
        "exp": np.zeros((len(euler), EXPRESSION_NUMBERS)) if expression is None else expression,
        "euler": euler,
        "trans": trans,
        "focal": np.array([focal]),
        "vertices": vertices[None],
    }
    torch.save(
        {
            name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
            for name, value in values.items()
        },
        folder / "track_params.pt",
    )


def write_units(
    file: Path, columns: Mapping[str, np.ndarray], blank: tuple[str, ...] = (" ",)
) -> None:
    """`au.csv` of columns [F] each, every column once for each prefix in `blank` (OpenFace writes
    one blank).
    """
    names = [name for name in columns if name != "frame"]
    with open(file, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["frame", *(prefix + name for prefix in blank for name in names)])
        for i, row in enumerate(zip(*(columns[name] for name in names), strict=True)):
            table.writerow([i + 1, *(f"{value:.6g}" for _ in blank for value in row)])


def sound_of_frames(samples: np.ndarray, first: int, count: int) -> np.ndarray:
    """Sound float32 [640 count] of `count` frames from frame `first` of `samples` on; silence
    outside.
    """
    start, stop = first * SAMPLES_PER_FRAME, (first + count) * SAMPLES_PER_FRAME
    inside = samples[max(start, 0) : max(stop, 0)]
    after = max(0, stop - max(len(samples), start, 0))
    return np.pad(inside, (max(0, -start), after)).astype(np.float32)[: stop - start]
