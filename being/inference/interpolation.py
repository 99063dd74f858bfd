"""Frame interpolation: only each Nth frame runs the network, the others are interpolated.

A deformed frame (a key frame) costs the network. A frame between two key frames costs only the
interpolation of their Gaussians, the projection and the blending. The next key frame must be known
before the frames between can be drawn, so the look-ahead is up to N - 1 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from torch import Tensor

from being.inference.feature_pool import (
    DEFAULT_CAPACITY,
    LOOK_AHEAD_FRAMES,
    FeatureFeeder,
    FeatureTrack,
)
from being.inference.pose_path import pose_path
from being.inference.protocol import KeyFrameRenderer


def interpolated_frames(
    renderer: KeyFrameRenderer,
    every: int,
    pose_expression: np.ndarray,
    features: Tensor | Iterable[Tensor],
    batch: int,
    expression: Callable[[np.ndarray], np.ndarray] | None,
) -> Iterator[np.ndarray]:
    """Frames uint8 [S, S, 3] as from `Engine.stream`; each `every`th and the last are deformed.

    pose_expression: float32 [P, E], of all poses. The other arguments are those of `Engine.stream`.
    """
    poses = len(pose_expression)
    batch = max(1, batch // every) * every
    # The key frames of a batch, the one before them, and the last frame of all.
    slots = batch // every + 2
    last_key = -1  # the last key frame that is kept

    with FeatureTrack(renderer.pool, max(DEFAULT_CAPACITY, 4 * batch)) as track:
        feeder, start = FeatureFeeder(features, track), 0
        while (count := feeder.until(start + batch + 1 + LOOK_AHEAD_FRAMES)) > start:
            # Draw the frames [start, stop); `end` is the last key frame that they need.
            stop = min(start + batch, count)
            end = min(start + batch, count - 1)

            # The expression must be asked for in the order of the frames, for each frame once.
            path = pose_path(end - last_key, poses, last_key + 1)
            values = pose_expression[path]
            if expression is not None and len(values):
                values = expression(values)

            keys = np.array([k for k in {*range(start, end + 1, every), end} if k > last_key])
            if len(keys):
                keys.sort()
                chosen = keys - last_key - 1
                renderer.keep(
                    track.rows(keys), path[chosen], values[chosen], _slot(keys, every, slots)
                )
            last_key = end

            frames = np.arange(start, stop)
            before = frames // every * every
            after = np.minimum(before + every, end)
            share = (frames - before) / np.maximum(after - before, 1)
            yield from renderer.between(
                pose_path(len(frames), poses, start),
                _slot(before, every, slots),
                _slot(after, every, slots),
                share.astype(np.float32),
            )
            start = stop


def _slot(keys: np.ndarray, every: int, slots: int) -> np.ndarray:
    """The slot int64 [K] of each key frame: a ring, in the order of the key frames."""
    return -(-keys // every) % slots
