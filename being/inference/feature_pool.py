"""The feature pool: one table on the device that holds the speech features of many audio tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from being.conventions import (
    ATTENTION_FUTURE,
    ATTENTION_OFFSETS,
    ATTENTION_WINDOW,
    FEATURE_WINDOW,
)

DEFAULT_CAPACITY = 128  # rows of a track that are kept at a time
INITIAL_BYTES = 32 * 2**20  # of the table, if that is enough for MIN_ROWS
MIN_ROWS = 4 * DEFAULT_CAPACITY  # of the table
# Rows after a frame's own row that its attention window reads.
LOOK_AHEAD_FRAMES = ATTENTION_FUTURE


class FeaturePool:
    """A table with one row per feature window, for all tracks of an engine.

    Row 0 stands for every frame outside a track.
    """

    def __init__(
        self,
        channels: int,
        device: torch.device,
        prepare: Callable[[Tensor], Tensor] | None = None,
        on_grow: Callable[[], None] = lambda: None,
        ordered: Callable[[], AbstractContextManager[object]] = nullcontext,
        offsets: Sequence[int] = ATTENTION_OFFSETS,
    ):
        """channels: C of the feature windows. offsets: the eight rows that a frame reads, relative
        to its own row.

        prepare: turns feature windows float32 [n, 16, C] into the rows [n, ...] that are kept;
        default: the windows themselves. on_grow: called after the table has moved to larger memory.
        ordered: makes a context in which writes are ordered with the renderer's reads.
        """
        self.device, self._prepare, self._ordered = device, prepare, ordered
        self.offsets = np.asarray(offsets)
        self._on_grow = on_grow

        outside = torch.zeros(1, FEATURE_WINDOW, channels, device=device)
        outside = prepare(outside) if prepare else outside
        rows = max(MIN_ROWS, INITIAL_BYTES // (outside[0].numel() * 4))
        self.table = torch.zeros(rows, *outside.shape[1:], device=device)
        self.table[:1] = outside
        self._free = [(1, rows)]  # [first, stop) of the free ranges, in order

    def allocate(self, count: int) -> int:
        """The first of `count` free rows in a line; the table grows when there are none."""
        for k, (first, stop) in enumerate(self._free):
            if stop - first >= count:
                self._free[k : k + 1] = [(first + count, stop)] if stop - first > count else []
                return first

        rows = len(self.table)
        with self._ordered():
            larger = torch.zeros(
                max(2 * rows, rows + count), *self.table.shape[1:], device=self.device
            )
            larger[:rows] = self.table
        self.table = larger
        self._on_grow()
        self._add_free(rows, len(larger))
        return self.allocate(count)

    def free(self, first: int, count: int) -> None:
        """Give back rows that `allocate` returned."""
        self._add_free(first, first + count)

    def _add_free(self, first: int, stop: int) -> None:
        """Add a free range and join ranges that touch."""
        ranges = sorted([*self._free, (first, stop)])
        self._free = ranges[:1]
        for first, stop in ranges[1:]:
            if first == self._free[-1][1]:
                self._free[-1] = (self._free[-1][0], stop)
            else:
                self._free.append((first, stop))

    def write(self, first: int, features: Tensor) -> None:
        """Fill the rows from `first` on with feature windows [n, 16, C]."""
        rows = self._prepare(features.to(self.device, torch.float32)) if self._prepare else features
        with self._ordered():
            self.table[first : first + len(rows)].copy_(rows, non_blocking=True)

    def scatter(self, rows: Sequence[int], features: Tensor) -> None:
        """Fill single `rows`, of any tracks, with feature windows [n, 16, C]."""
        values = features.to(self.device, torch.float32)
        values = self._prepare(values) if self._prepare else values
        index = torch.tensor(rows, dtype=torch.int64).to(self.device)
        with self._ordered():
            self.table[index] = values


class FeatureTrack:
    """The speech features of one audio track, as a ring of rows in a `FeaturePool`.

    Feature windows are pushed in order, and frames read the windows around them. New rows overwrite
    the oldest ones.
    """

    def __init__(self, pool: FeaturePool, capacity: int = DEFAULT_CAPACITY):
        """capacity: rows that are kept at a time."""
        assert capacity >= 2 * ATTENTION_WINDOW, capacity
        self.pool, self.capacity = pool, capacity
        self.pushed = 0  # rows so far
        self.first = pool.allocate(capacity)

    def push(self, features: Tensor) -> None:
        """Append the next feature windows, float32 [n, 16, C]."""
        while len(features):
            position = self.pushed % self.capacity
            part = features[: self.capacity - position]
            self.pool.write(self.first + position, part)
            self.pushed += len(part)
            features = features[len(part) :]

    def rows(self, frames: np.ndarray, spacing: int = 1) -> np.ndarray:
        """Rows of the pool, int32 [B, 8], in the attention windows of `frames` int64 [B].

        Row 0 stands for frames before the first and after the last pushed one. spacing: pushed rows
        from one frame of a window to the next, where rows between them were pushed too.
        """
        near = frames[:, None] + spacing * self.pool.offsets
        oldest = max(self.pushed - self.capacity, 0)
        assert len(frames) == 0 or near[near >= 0].min(initial=self.pushed) >= oldest, (
            "rows are no longer kept"
        )
        outside = (near < 0) | (near >= self.pushed)
        return np.where(outside, 0, self.first + near % self.capacity).astype(np.int32)

    def close(self) -> None:
        """Give the rows back to the pool."""
        if self.capacity:
            self.pool.free(self.first, self.capacity)
            self.capacity = 0

    def __enter__(self) -> FeatureTrack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FeatureFeeder:
    """Moves feature windows from an iterable into a track, only as many as are needed."""

    def __init__(self, features: Tensor | Iterable[Tensor], track: FeatureTrack):
        """features: feature windows [F, 16, C], whole or in blocks of windows."""
        self._blocks = iter([features] if isinstance(features, Tensor) else features)
        self._track, self._block = track, torch.zeros(0)

    def until(self, stop: int) -> int:
        """Push windows up to `stop`, or to the last; return how many the track holds now.

        They are pushed together whatever the size of the blocks, because sums round differently in
        batches of another size.
        """
        parts, missing = [], stop - self._track.pushed
        while missing > 0:
            if not len(self._block):
                block = next(self._blocks, None)
                if block is None:
                    break
                self._block = block
            parts.append(self._block[:missing])
            self._block = self._block[missing:]
            missing -= len(parts[-1])
        if parts:
            self._track.push(torch.cat(parts))
        return self._track.pushed
