"""Estimates the position on the timeline that a client plays.

The client's sound card is the clock. It reports its position some times a second; between reports
the server's clock carries the estimate on. So a card that runs 200 ppm fast or slow changes when
frames are made, and never what is in them.
"""

from __future__ import annotations

from being.session.timeline import FRAME, RATE

# Share of the difference to a report by which the estimate is corrected.
CORRECTION = 0.1
# A larger difference is no drift: the client has stalled, or has just begun. s.
JUMP_S = 0.25
# The estimate is carried on this long without a report of a client that reports. s.
MAX_SILENT_S = 1.0
# Positions ahead of the client, in samples: at first, and at most.
LEAD = 3 * FRAME
MAX_AHEAD = round(0.3 * RATE)
LEAD_STEP = FRAME
# By this much more, in samples, frames of streamed sound are made ahead, as soon as they can be.
EAGER = round(0.1 * RATE)
# A ring buffer that holds less, in samples, is about to run dry.
LOW_BUFFER = round(0.02 * RATE)
RAISE_EVERY_S = 1.0
# After a frame that was made early, the next one is due this much later, in samples: what it needs
# comes 40 ms after what the first one needed, or a little later.
SLACK = round(0.005 * RATE)


class PlaybackClock:
    """The position that the client plays, and how far ahead of it sound is made."""

    def __init__(self, now: float, at: int):
        """at: position in samples where the first epoch begins."""
        self.lead = self._base = LEAD
        self.eager = EAGER  # samples by which frames may be made early, beyond the lead
        self._raised = now
        self.begin(now, at)

    def begin(self, now: float, at: int) -> None:
        """A new epoch begins at position `at`: its first `lead` samples are due at once."""
        self._anchor, self._position = now, float(at)
        self._produced = at
        self.lead = self._base
        self._reported: float | None = None  # time of the last report
        self._hurried = False

    def position(self, now: float) -> float:
        """The estimated position in samples. It never passes what was produced."""
        elapsed = now - self._anchor
        if self._reported is not None:
            elapsed = min(elapsed, MAX_SILENT_S + self._reported - self._anchor)
        return min(self._position + RATE * max(0.0, elapsed), float(self._produced))

    def due(self, now: float) -> bool:
        """Whether the next frame must be made now."""
        return self._produced < self.position(now) + self.lead

    def allowed(self, now: float) -> bool:
        """Whether the next frame may be made now, though it is not due: its sound and its row of
        features are there, and waiting for its moment would only delay its picture.
        """
        return self.seconds_to_allowed(now) == 0

    def seconds_to_allowed(self, now: float) -> float:
        """Time until the next frame may be made, s; 0 when it may."""
        ahead = min(self.lead + self.eager, MAX_AHEAD)
        # Frames lie whole samples apart.
        missing = self._produced + 1 - self.position(now) - ahead
        return max(0.0, missing / RATE)

    def hurry(self, now: float) -> None:
        """Make the next frame due now, and the following ones 40 ms apart from it on.

        So speech does not wait up to 40 ms for the next beat. It moves the lead by less than a
        frame, until `relax`.
        """
        wanted = self._produced - self.position(now) + 1
        if self.lead < wanted <= MAX_AHEAD:
            self.lead = round(wanted)
            self._hurried = True

    def relax(self) -> None:
        """Go back to the usual lead."""
        self.lead = self._base

    def seconds_to_due(self, now: float) -> float:
        """Time until the next frame must be made, s; 0 when it is due."""
        missing = self._produced - self.lead - self.position(now)
        return max(0.0, missing / RATE)

    def produced(self, now: float, samples: int) -> None:
        """`samples` more were sent."""
        # A client that was served late has run dry, and waits for this.
        if self.position(now) >= self._produced:
            self._move(now, self._produced)
        self._produced += samples
        if self._hurried:
            self._hurried = False
            self.lead -= SLACK

    def report(self, now: float, position: int, buffered: int | None = None) -> None:
        """The client plays `position` now, with `buffered` samples after it in its buffer."""
        position = min(position, self._produced)
        difference = position - self.position(now)
        if abs(difference) > JUMP_S * RATE or self._reported is None:
            self._move(now, position)
        else:
            self._move(now, self.position(now) + CORRECTION * difference)
        self._reported = now
        if buffered is not None and buffered < LOW_BUFFER:
            self._widen(now)

    def picture_sent(self, now: float, at: int) -> None:
        """The picture of time `at` is on its way: the lead is too small where it comes late."""
        if at - self.position(now) < LOW_BUFFER:
            self._widen(now)

    def _widen(self, now: float) -> None:
        if now - self._raised > RAISE_EVERY_S:
            self._base, self._raised = min(MAX_AHEAD, self._base + LEAD_STEP), now
            self.lead = max(self.lead, self._base)

    def _move(self, now: float, position: float) -> None:
        self._anchor, self._position = now, float(position)
