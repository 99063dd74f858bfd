"""Speech features on the device, row by row as they come, for many sounds at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from being.conventions import ATTENTION_PAST, ATTENTION_WINDOW, FEATURE_WINDOW

ROOM = 128  # rows of a sound kept at a time, unless more are asked for
BYTES = 32 * 2**20  # of the table at first, if that is enough for LEAST rows
LEAST = 4 * ROOM
AHEAD = ATTENTION_WINDOW - ATTENTION_PAST - 1  # frames of sound past a frame's own that it hears
STEPS = np.arange(-ATTENTION_PAST, ATTENTION_WINDOW - ATTENTION_PAST)


class Sounds:
    """A table of what an engine keeps of each row of features; row 0 stands for rows outside a
    sound.

    `prepare` turns features float32 [n, 16, C] into rows [n, ...]; by default they are kept as they
    are. `grown` is called when the table moved to make room; `ordered` makes a context in which
    work is ordered with the frames.
    """

    def __init__(
        self,
        channels: int,
        device: torch.device,
        prepare: Callable[[Tensor], Tensor] | None = None,
        grown: Callable[[], None] = lambda: None,
        ordered: Callable[[], AbstractContextManager[object]] = nullcontext,
    ):
        self.device, self._prepare, self._grown, self._ordered = device, prepare, grown, ordered
        outside = torch.zeros(1, FEATURE_WINDOW, channels, device=device)
        outside = prepare(outside) if prepare else outside
        rows = max(LEAST, BYTES // (outside[0].numel() * 4))
        self.table = torch.zeros(rows, *outside.shape[1:], device=device)
        self.table[:1] = outside
        self._free = [(1, rows)]  # [first, stop) runs, in order

    def take(self, count: int) -> int:
        """The first of `count` rows that are free."""
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
        self._grown()
        self._release(rows, len(larger))
        return self.take(count)

    def _release(self, first: int, stop: int) -> None:
        runs = sorted([*self._free, (first, stop)])
        self._free = runs[:1]
        for first, stop in runs[1:]:
            if first == self._free[-1][1]:
                self._free[-1] = (self._free[-1][0], stop)
            else:
                self._free.append((first, stop))

    def give_back(self, first: int, count: int) -> None:
        """Free rows that `take` gave."""
        self._release(first, first + count)

    def write(self, first: int, features: Tensor) -> None:
        """Fill rows from `first` on with features [n, 16, C]."""
        rows = self._prepare(features.to(self.device, torch.float32)) if self._prepare else features
        with self._ordered():
            self.table[first : first + len(rows)].copy_(rows, non_blocking=True)


class Sound:
    """One sound: features come in order, frames ask for the windows round them. Old rows make room
    for new ones.
    """

    def __init__(self, sounds: Sounds, room: int = ROOM):
        assert room >= 2 * ATTENTION_WINDOW, room
        self.sounds, self.room, self.pushed = sounds, room, 0
        self.first = sounds.take(room)

    def push(self, features: Tensor) -> None:
        """Take in the next rows, float32 [n, 16, C]."""
        while len(features):
            at = self.pushed % self.room
            part = features[: self.room - at]
            self.sounds.write(self.first + at, part)
            self.pushed += len(part)
            features = features[len(part) :]

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """Rows of the table, int32 [B, 8], that the frames int64 [B] hear: of the frames round
        each, 0 outside.
        """
        near = frames[:, None] + STEPS
        oldest = max(self.pushed - self.room, 0)
        assert len(frames) == 0 or near[near >= 0].min(initial=self.pushed) >= oldest, (
            "rows are no longer kept"
        )
        return np.where(
            (near < 0) | (near >= self.pushed), 0, self.first + near % self.room
        ).astype(np.int32)

    def close(self) -> None:
        """Free its rows."""
        if self.room:
            self.sounds.give_back(self.first, self.room)
            self.room = 0

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Feed:
    """Rows of features on their way into a sound: no more of them than are asked for."""

    def __init__(self, features: Tensor | Iterable[Tensor], sound: Sound):
        """features: [F, 16, C], whole or as blocks of rows."""
        self._blocks = iter([features] if isinstance(features, Tensor) else features)
        self._sound, self._block = sound, torch.zeros(0)

    def until(self, stop: int) -> int:
        """Push rows up to `stop`, or to the last; how many there are now. They go together whatever
        the blocks are, as sums are rounded otherwise in batches of another size."""
        parts, missing = [], stop - self._sound.pushed
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
            self._sound.push(torch.cat(parts))
        return self._sound.pushed
