"""Motion of face points from each frame to the next by optical flow: finer than landmarks, but it drifts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

WINDOW = 21  # px at a picture side of 512 px
RETURN_MAX = 0.3  # px at 512: flow forth and back must end where it began

CHUNK = 64  # pairs of one task


def point_flow(frames: Sequence[np.ndarray] | np.ndarray, points: np.ndarray, workers: int | None = None,
               progress: Callable[[int], None] | None = None) -> np.ndarray:
    """Displacement float32 [F - 1, K, 2] px of points between neighbouring frames, NaN where it cannot be trusted.

    frames: F pictures uint8 [H, W, 3] RGB (index and len are used, from threads). points: float [F, K, 2] px, NaN in
    frames without a face. Pyramidal Lucas-Kanade (Bouguet 2001) with a forward-backward check.
    """
    assert len(frames) == len(points) and points.shape[-1] == 2, (len(frames), points.shape)
    flow = np.full((max(0, len(points) - 1), *points.shape[1:]), np.nan, np.float32)

    def follow(start: int) -> int:
        stop = min(start + CHUNK, len(flow))
        before = cv2.cvtColor(frames[start], cv2.COLOR_RGB2GRAY)
        for i in range(start, stop):
            after = cv2.cvtColor(frames[i + 1], cv2.COLOR_RGB2GRAY)
            if np.isfinite(points[i:i + 2]).all():
                flow[i] = _pair(before, after, points[i])
            before = after
        return stop - start

    with ThreadPoolExecutor(workers or max(1, min(8, os.cpu_count() or 1))) as pool:
        for done in pool.map(follow, range(0, len(flow), CHUNK)):
            if progress:
                progress(done)
    return flow


def _pair(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> np.ndarray:
    scale = max(before.shape) / 512
    window = max(9, round(WINDOW * scale)) | 1
    start = np.ascontiguousarray(points[:, None], np.float32)
    guess = np.empty_like(start)
    there, forth, _ = cv2.calcOpticalFlowPyrLK(before, after, start, guess, winSize=(window, window), maxLevel=2)
    guess = np.empty_like(start)
    back, home, _ = cv2.calcOpticalFlowPyrLK(after, before, there, guess, winSize=(window, window), maxLevel=2)
    good = (forth[:, 0] == 1) & (home[:, 0] == 1)
    good &= np.linalg.norm(back[:, 0] - start[:, 0], axis=1) < RETURN_MAX * scale
    return np.where(good[:, None], there[:, 0] - start[:, 0], np.nan)
