"""Lets time run slower in this process, for measurements on a machine that others use."""

from __future__ import annotations

import selectors
import time


def run_slowly(factor: float) -> None:
    """A second of this process's clocks and of its event loops takes `factor` seconds from here on.

    Processor time is counted as it is.
    """
    if factor == 1:
        return
    for name in ("monotonic", "perf_counter"):
        clock = getattr(time, name)
        start = clock()
        slowed = _Slowed(clock, start, factor)
        setattr(time, name, slowed)

    select = selectors.DefaultSelector.select

    def wait(self: selectors.BaseSelector, timeout: float | None = None) -> object:
        return select(self, None if timeout is None else timeout * factor)

    selectors.DefaultSelector.select = wait  # type: ignore[method-assign, assignment]


class _Slowed:
    """A clock that runs slower from `start` on."""

    def __init__(self, clock, start: float, factor: float):  # type: ignore[no-untyped-def]
        self._clock, self._start, self._factor = clock, start, factor

    def __call__(self) -> float:
        return self._start + (self._clock() - self._start) / self._factor
