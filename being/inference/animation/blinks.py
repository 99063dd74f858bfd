"""Blinks of a talking face: random times at human rates, often at the ends of phrases.

The rates are 26 a minute while speaking and 17 at rest (means of Bentivoglio et al., "Analysis of
blink rate patterns in normal subjects", Movement Disorders 12, 1997, where the rates of different
people are log-normal). That the intervals of one person are log-normal too, and how much they
spread, is assumed. Blinks are moved to where a phrase ends, as with speakers and listeners
(Nakano and Kitazawa, "Eyeblink entrainment at breakpoints of speech", Experimental Brain Research
205, 2010, cited from memory); how many and how far is chosen. The closure over time is the mean of
36 blinks of two people measured at 25 frames/s: shut within two frames, then an exponential return.
"""

from __future__ import annotations

import numpy as np

from being.conventions import FPS
from being.inference.animation.prosody import PAUSE_SECONDS, Prosody

RATE_AT_REST, RATE_SPEAKING = 17.0, 26.0  # blinks a minute
INTERVAL_SPREAD = 0.6  # standard deviation of the logarithm of an interval
MIN_INTERVAL = 0.4  # s from one blink to the next
PHRASE_END_REACH = 0.9  # s: a phrase end this near may take the blink
MOVED_SHARE = 0.8  # share of such blinks that are moved, chosen
MAX_AFTER_END = 0.15  # s after the phrase end
# s: closing, staying shut, time constant of opening.
CLOSING, SHUT, OPENING = 0.08, 0.03, 0.085
BLINK_SECONDS = 0.6  # s after which a blink is over
MIN_CLOSURE = 0.88  # a blink closes the eyes to between this and 1


class Blinks:
    """The lids of one face, frame after frame.

    A blink is due after a random interval, and moved to a phrase end near by. With enough
    look-ahead this is decided before the blink begins. With less, a phrase end is taken as soon as
    it is known, and a blink without a phrase end waits until none can come any more.
    """

    def __init__(self, rate: float | None = None, seed: int = 0):
        """rate: blinks a minute; default: RATE_AT_REST and RATE_SPEAKING."""
        self._rate = rate
        self._random = np.random.default_rng((seed, 1))
        self._shapes = np.random.default_rng((seed, 3))
        # s at which the next blink is due; the first interval began before the audio.
        self._due = -self._random.uniform(0, 60 / (rate or RATE_SPEAKING))
        # Whether the blink that is due may be moved; None: it is over, and a new one is drawn.
        self._movable: bool | None = None
        self._last = -np.inf  # s, when the eyes were last shut
        # Of each running blink: s at which the eyes are shut, closure, time constant of opening.
        self._running: list[tuple[float, float, float]] = []

    def closure(self, prosody: Prosody, start: int, stop: int) -> np.ndarray:
        """The closure of the lids in the frames `start` to `stop`, float [stop - start] in [0, 1].

        Frames are asked for in order. prosody: what is known at frame `start`.
        """
        if self._rate != 0:
            self._decide(prosody, start, stop)
        seconds, closed = np.arange(start, stop) / FPS, np.zeros(stop - start)
        self._running = [blink for blink in self._running if seconds[0] - blink[0] <= BLINK_SECONDS]
        for shut, depth, opening in self._running:
            since = seconds - shut
            course = np.where(
                since < 0,
                0.5 + 0.5 * np.cos(np.pi * np.clip(-since / CLOSING, 0, 1)),
                np.exp(-np.maximum(since - SHUT, 0) / opening),
            )
            course[since > BLINK_SECONDS] = 0
            closed = np.maximum(closed, depth * course)
        return closed

    def _decide(self, prosody: Prosody, start: int, stop: int) -> None:
        """Settle the times of all blinks that can be settled now."""
        while True:
            if self._movable is None:
                self._draw_next(prosody)
            if prosody.ended and self._due * FPS >= prosody.stop:
                return
            time = self._time(prosody, start, stop)
            if time is None:
                return

            self._movable = None
            time = round(time * FPS) / FPS
            if start > 0:
                time = max(time, (start + 1) / FPS)  # it was decided late: shut in the next frame
            if time >= 0 and time - self._last >= MIN_INTERVAL:
                self._last = time
                opening = OPENING * self._shapes.uniform(0.85, 1.3)
                self._running.append((time, self._shapes.uniform(MIN_CLOSURE, 1.0), opening))

    def _draw_next(self, prosody: Prosody) -> None:
        """Draw the interval to the next blink, and whether it may be moved."""
        at = min(max(round(self._due * FPS), prosody.first), prosody.stop - 1) - prosody.first
        natural = RATE_SPEAKING if prosody.speaking[at] else RATE_AT_REST
        mean = 60 / (self._rate or natural)
        # A log-normal factor of mean 1.
        spread = self._random.lognormal(-(INTERVAL_SPREAD**2) / 2, INTERVAL_SPREAD)
        self._due += MIN_INTERVAL + max(mean - MIN_INTERVAL, 0) * spread
        self._movable = bool(self._random.random() < MOVED_SHARE)

    def _time(self, prosody: Prosody, start: int, stop: int) -> float | None:
        """The time s at which the blink that is due shuts the eyes; None while it can wait."""
        if not self._movable:
            return self._due if prosody.ended or self._due * FPS < prosody.stop else None

        # Whether all phrase ends near the blink are known.
        complete = (
            prosody.ended or (self._due + PHRASE_END_REACH + PAUSE_SECONDS) * FPS <= prosody.stop
        )
        ends = prosody.phrase_ends / FPS
        near = ends[np.abs(ends - self._due) < PHRASE_END_REACH]
        if len(near):
            end = near[np.abs(near - self._due).argmin()]
            if complete or (end - CLOSING) * FPS < stop:
                return end + self._random.uniform(0, MAX_AFTER_END)
            return None
        if complete or start >= (self._due + PHRASE_END_REACH) * FPS:
            return self._due
        return None
