"""Frames of which only each Nth is deformed, on the CPU: the others lie between two of these.

A frame that is deformed, a key, costs the network; one between two keys only the projection of
their mean, by distance, and the blending. The next key must be known before the frames between can
be drawn: up to N - 1 frames of look-ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from being.inference.feature_pool import AHEAD, ROOM, Feed
from being.inference.pose_path import pose_path

if TYPE_CHECKING:
    from being.inference.engine import Engine


def interpolated(
    engine: Engine,
    features: Tensor | Iterable[Tensor],
    batch: int,
    expression: Callable[[np.ndarray], np.ndarray] | None,
) -> Iterator[np.ndarray]:
    """Frames uint8 [S, S, 3] as `Engine.stream` gives them, of which each `engine.deform_every`th
    is deformed, and the last one."""
    head, every, poses = engine.head, engine.deform_every, engine.avatar.poses
    batch = max(1, batch // every) * every
    slots = batch // every + 2  # keys of a batch, the one before, and the last frame of all
    known = -1  # the last key that is kept
    with engine.sound(room=max(ROOM, 4 * batch)) as sound:
        heard, start = Feed(features, sound), 0
        while (count := heard.until(start + batch + 1 + AHEAD)) > start:
            stop, end = (
                min(start + batch, count),
                min(start + batch, count - 1),
            )  # frames drawn now, the last key
            keys = np.array([key for key in {*range(start, end + 1, every), end} if key > known])
            path = pose_path(end - known, poses, known + 1)
            face = engine.expression[path]
            if expression is not None and len(face):
                face = expression(face)
            if len(keys):
                keys.sort()
                head.keep(
                    sound.rows(keys),
                    path[keys - known - 1],
                    face[keys - known - 1],
                    _slot(keys, every, slots),
                )
            known = end
            frames = np.arange(start, stop)
            before = frames // every * every
            after = np.minimum(before + every, end)
            share = (frames - before) / np.maximum(after - before, 1)
            yield from head.between(
                pose_path(len(frames), poses, start),
                _slot(before, every, slots),
                _slot(after, every, slots),
                share.astype(np.float32),
            )
            start = stop


def _slot(keys: np.ndarray, every: int, slots: int) -> np.ndarray:
    """Where keys are kept, int64 [K]: one after the other in a ring."""
    return -(-keys // every) % slots
