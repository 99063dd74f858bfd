"""Blinks of a face that speaks new sound: as often as people's, drawn to where phrases end.

26 a minute while speaking, 17 at rest (means of Bentivoglio et al., "Analysis of blink rate
patterns in normal subjects", Movement Disorders 12, 1997, where the rates of people are log-normal;
that one person's intervals are, too, and how much they spread, is assumed). They are drawn to where
a phrase ends, as speakers' and listeners' blinks are (Nakano and Kitazawa, "Eyeblink entrainment at
breakpoints of speech", Experimental Brain Research 205, 2010, cited from memory); how many and how
far is chosen. Their course is the mean of 36 blinks of two people measured at 25 frames/s: shut
within two frames, then an exponential return.
"""

from __future__ import annotations

import numpy as np

from being.conventions import FPS
from being.inference.animation.prosody import PAUSE, Prosody

RATE_AT_REST, RATE_SPEAKING = 17.0, 26.0  # blinks a minute
INTERVAL_SPREAD = 0.6  # deviation of the logarithm of an interval
LEAST_INTERVAL = 0.4  # s from one blink to the next
TO_PHRASE_END = 0.9  # s over which a blink is drawn to the end of a phrase
DRAWN = 0.8  # share of such blinks that are, chosen
AFTER_END = 0.15  # s after it at most
SHUT_BY, STAY, RETURN = 0.08, 0.03, 0.085  # s: closing, staying shut, time constant of opening
OVER = 0.6  # s after which a blink is over
LEAST_CLOSURE = 0.88  # blinks close the eyes to between this and 1


class Blinks:
    """The lids of one face, frame after frame.

    A blink is due after an interval, and moved to the end of a phrase near by. Where all of the
    sound near by is known that is decided before it begins; with less look-ahead a phrase's end is
    taken as soon as it is known, and a blink that none comes for waits until none can come any
    more.
    """

    def __init__(self, rate: float | None = None, seed: int = 0):
        """rate: blinks a minute; None: as people do at rest and while speaking."""
        self._rate = rate
        self._random, self._shapes = (
            np.random.default_rng((seed, 1)),
            np.random.default_rng((seed, 3)),
        )
        self._due = -self._random.uniform(
            0, 60 / (rate or RATE_SPEAKING)
        )  # as if it had begun before
        self._drawn: bool | None = (
            None  # whether the blink that is due may be moved; None: it is over
        )
        self._last = -np.inf  # s, when the eyes were last shut
        self._running: list[
            tuple[float, float, float]
        ] = []  # s at which they are shut, how far, time constant

    def closure(self, heard: Prosody, start: int, stop: int) -> np.ndarray:
        """How far the lids are closed, float [stop - start] in [0, 1], in frames that follow those
        asked for before.

        heard: what is known at frame `start`.
        """
        if self._rate != 0:
            self._decide(heard, start, stop)
        seconds, closed = np.arange(start, stop) / FPS, np.zeros(stop - start)
        self._running = [blink for blink in self._running if seconds[0] - blink[0] <= OVER]
        for shut, depth, back in self._running:
            since = seconds - shut
            course = np.where(
                since < 0,
                0.5 + 0.5 * np.cos(np.pi * np.clip(-since / SHUT_BY, 0, 1)),
                np.exp(-np.maximum(since - STAY, 0) / back),
            )
            course[since > OVER] = 0
            closed = np.maximum(closed, depth * course)
        return closed

    def _decide(self, heard: Prosody, start: int, stop: int) -> None:
        """Settle the blinks that can be settled."""
        while True:
            if self._drawn is None:
                at = min(max(round(self._due * FPS), heard.first), heard.stop - 1) - heard.first
                mean = 60 / (self._rate or (RATE_SPEAKING if heard.speaking[at] else RATE_AT_REST))
                spread = self._random.lognormal(
                    -(INTERVAL_SPREAD**2) / 2, INTERVAL_SPREAD
                )  # mean 1
                self._due += LEAST_INTERVAL + max(mean - LEAST_INTERVAL, 0) * spread
                self._drawn = bool(self._random.random() < DRAWN)
            if heard.ended and self._due * FPS >= heard.stop:
                return
            time = self._time(heard, start, stop)
            if time is None:
                return
            self._drawn = None
            time = round(time * FPS) / FPS
            if start > 0:
                time = max(time, (start + 1) / FPS)  # decided late: from now on
            if time >= 0 and time - self._last >= LEAST_INTERVAL:
                self._last = time
                back = RETURN * self._shapes.uniform(0.85, 1.3)
                self._running.append((time, self._shapes.uniform(LEAST_CLOSURE, 1.0), back))

    def _time(self, heard: Prosody, start: int, stop: int) -> float | None:
        """When the eyes are shut in the blink that is due, s; None while that may wait."""
        if not self._drawn:
            return self._due if heard.ended or self._due * FPS < heard.stop else None
        certain = heard.ended or (self._due + TO_PHRASE_END + PAUSE) * FPS <= heard.stop
        ends = heard.phrase_ends / FPS
        near = ends[np.abs(ends - self._due) < TO_PHRASE_END]
        if len(near):
            end = near[np.abs(near - self._due).argmin()]
            return (
                end + self._random.uniform(0, AFTER_END)
                if certain or (end - SHUT_BY) * FPS < stop
                else None
            )
        return self._due if certain or start >= (self._due + TO_PHRASE_END) * FPS else None
