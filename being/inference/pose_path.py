"""The pose loop: chooses a pose of the training clip for each rendered frame."""

from __future__ import annotations

import numpy as np


def pose_path(frames: int, poses: int, start: int = 0) -> np.ndarray:
    """The pose int64 [frames] of each frame from frame `start` on: back and forth, without a jump.

    The path is 0, 1, ..., P-1, P-2, ..., 0, 1, ... The P poses of a bundle are neighbouring frames
    of one segment of the clip (`Dataset.longest_face_run`), so the path never crosses a cut.
    """
    assert frames >= 0 and poses > 0, (frames, poses)
    if poses == 1:
        return np.zeros(frames, np.int64)
    period = 2 * (poses - 1)
    position = np.arange(start, start + frames) % period
    return np.minimum(position, period - position)
