"""A drawn talking head as a video with its truth, and the dataset that preprocessing makes of it.

Both take long, so they are made once for all processes of a test run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from drawn_face import talking_head, write_clip

from being.media import read_audio
from being.preprocess.pipeline import preprocess_video
from being.sample import sample_clip

SIDE, FRAMES = 224, 56
LOST = (20, 21)  # frames without a face


@dataclass(frozen=True)
class DrawnClip:
    """A video, its true angles [F, 3] in radians, and its true landmarks [F, 468, 2] in px."""

    video: Path
    euler: np.ndarray
    points: np.ndarray


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The path `name`, which the first process of the test run makes; the others wait for it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    folder.mkdir(exist_ok=True)
    path = folder / name
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path


def drawn_clip(factory: pytest.TempPathFactory) -> DrawnClip:
    """The clip of FRAMES frames of SIDE x SIDE px."""

    def make(folder: Path) -> None:
        folder.mkdir()
        pictures, euler, points = talking_head(FRAMES, SIDE)
        for i in LOST:
            pictures[i] = np.full_like(pictures[i], 120)
        write_clip(folder / "drawn.mp4", pictures, read_audio(sample_clip())[: FRAMES * 640])
        np.savez(folder / "truth.npz", euler=euler, points=points)

    folder = made_once(factory, "clip", make)
    with np.load(folder / "truth.npz") as truth:
        return DrawnClip(folder / "drawn.mp4", truth["euler"], truth["points"])


def drawn_dataset(factory: pytest.TempPathFactory) -> Path:
    """The dataset of `drawn_clip`."""
    video = drawn_clip(factory).video
    return made_once(
        factory, "drawn", lambda path: preprocess_video(video, path, consent="nobody's face")
    )
