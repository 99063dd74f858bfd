"""Time of a session: samples on its timeline, and the clocks that it can run on."""

from __future__ import annotations

import time
from typing import Protocol

from being.conventions import FPS

# Samples/s of the timeline and of the sound that a session plays.
RATE = 24_000
# Samples of one picture.
FRAME = RATE // FPS


class Clock(Protocol):
    """A clock that never goes back."""

    def now(self) -> float:
        """Seconds since some start."""


class SystemClock:
    """The clock of the machine. Implements `Clock`."""

    def now(self) -> float:
        """Seconds since the machine was started."""
        return time.monotonic()


class VirtualClock:
    """A clock that stands still until it is moved. Implements `Clock`."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds since its start."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        assert seconds >= 0, seconds
        self._now += seconds
