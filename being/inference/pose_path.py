"""Which pose of the training clip each frame of new sound takes."""

from __future__ import annotations

import numpy as np


def pose_path(frames: int, poses: int, start: int = 0) -> np.ndarray:
    """Pose of each frame int64 [frames] from frame `start` on: a loop forth and back without a
    jump.

    It is 0, 1, ..., P-1, P-2, ..., 0, 1, ... The P poses of a bundle are neighbouring frames of one
    segment of the clip (`Dataset.longest_stretch`), so the path never crosses one of its breaks.
    """
    assert frames >= 0 and poses > 0, (frames, poses)
    lap = max(2 * (poses - 1), 1)
    place = np.arange(start, start + frames) % lap
    return np.minimum(place, lap - place) if poses > 1 else np.zeros(frames, np.int64)
