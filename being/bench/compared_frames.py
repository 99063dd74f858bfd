"""The frames that every variant of `being bench-fps --compare` renders, with reference images."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from being.inference.engine import Engine
from being.inference.feature_pool import DEFAULT_CAPACITY, FeatureTrack
from being.inference.pose_path import pose_path
from being.model.avatar import Avatar

MAX_PASSES = 5  # timed passes over the frames
MIN_SECONDS = 1.0  # after so long no further pass begins
UNTRAINED = "untrained"  # a note that begins so means: the images cannot be compared


class ComparedFrames:
    """Frames of an avatar with their images by the torch renderer in float32."""

    def __init__(self, avatar: Avatar, features: Tensor):
        """features: speech features [F, 16, C], one row a frame."""
        self.avatar, self.features = avatar, features
        self.numbers = np.arange(len(features))
        self.poses = pose_path(len(features), avatar.pose_count)
        self.reference = self.render(Engine(avatar, "float32", renderer="torch"))

    def track(self, engine: Engine) -> FeatureTrack:
        """A track of the engine that holds all features."""
        return engine.track(self.features, max(DEFAULT_CAPACITY, len(self.features)))

    def render(self, engine: Engine) -> np.ndarray:
        """Images uint8 [F, S, S, 3], one frame a call."""
        images = []
        with self.track(engine) as track:
            for row, pose in zip(track.rows(self.numbers), self.poses, strict=True):
                images.append(engine.submit(row[None], pose[None]).images().copy())
        return np.concatenate(images)

    def measure(
        self, name: str, render: Callable[[], np.ndarray], note: str = ""
    ) -> dict[str, Any]:
        """The row of a variant (JSON types); `render` returns the images of all frames."""
        images = render()  # warm-up
        spent: list[float] = []
        start = time.perf_counter()
        while len(spent) < MAX_PASSES and (not spent or time.perf_counter() - start < MIN_SECONDS):
            begin = time.perf_counter()
            render()
            spent.append(time.perf_counter() - begin)
        comparable = images.shape == self.reference.shape and not note.startswith(UNTRAINED)
        return {
            "road": name,
            "frames_per_second": round(len(self.numbers) / min(spent), 1),
            "psnr": round(worst_psnr(images, self.reference), 2) if comparable else None,
            "note": note,
        }


def missing_row(name: str, note: str) -> dict[str, Any]:
    """The row of a variant that did not run."""
    return {"road": name, "frames_per_second": None, "psnr": None, "note": note}


def worst_psnr(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR in dB of the worst frame of images uint8 [F, S, S, 3]; 99 for equal images."""
    error = ((one.astype(np.float32) - other) ** 2).mean((1, 2, 3)).max()
    return min(99.0, float(10 * np.log10(255**2 / max(error, 1e-9))))
