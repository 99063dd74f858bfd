"""Brows of a talking face: a slow drift, and rises at accents of loudness and pitch.

Of quick rises of the brows, 71 % come with a rise of the pitch (Cavé et al., "About the
relationship between eyebrow movements and F0 variations", ICSLP 1996, cited by its abstract). The
abstract does not say how many accents raise the brows; that share is chosen.
"""

from __future__ import annotations

import numpy as np

from being.conventions import FPS
from being.inference.animation.prosody import MIN_ACCENT_GAP, Prosody

RAISING_SHARE = 0.7  # share of accents at which the brows rise, chosen
# Heights at a slight accent and at the strongest; 1 is the strongest that the clip shows.
MIN_HEIGHT, MAX_HEIGHT = 0.12, 0.4
RISE, FALL = 0.16, 0.36  # s from rest to the accent and back
STRONG_ACCENT = 3.0  # prominence in standard deviations at which the brows rise to MAX_HEIGHT
SETTLED = 0.12  # s of audio after an accent by which it is certain
# s by which the brows may follow an accent that was not known before; later they stay at rest.
MAX_DELAY = 0.3
DRIFT, DRIFT_SECONDS = 0.04, 2.5  # of brows at rest: standard deviation, s between random heights
DRIFT_FADE_IN = 1.0  # s over which the drift sets in once somebody speaks


class Brows:
    """The brows of one face, frame after frame.

    With enough look-ahead they are highest on the accent, else soon after it.
    """

    def __init__(self, seed: int = 0):
        self._drift_random = np.random.default_rng((seed, 2))
        self._random = np.random.default_rng((seed, 4))
        # Heights of the drift, one every DRIFT_SECONDS from number `_first_knot` on.
        self._knots: list[float] = []
        self._first_knot = 0
        self._drift_start: int | None = None  # frame from which somebody is known to speak
        self._last = -round(MIN_ACCENT_GAP * FPS)  # frame of the last accent
        self._running: list[tuple[int, float]] = []  # frame and height of the peak of each rise

    def height(self, prosody: Prosody, start: int, stop: int) -> np.ndarray:
        """How far the brows are raised in the frames `start` to `stop`, float [stop - start].

        Frames are asked for in order. prosody: what is known at frame `start`.
        """
        self._decide(prosody, start, stop)

        # The rises.
        frames, raised = np.arange(start, stop), np.zeros(stop - start)
        self._running = [rise for rise in self._running if rise[0] + FALL * FPS >= start]
        for peak, height in self._running:
            since = (frames - peak) / FPS
            distance = np.clip(np.where(since < 0, -since / RISE, since / FALL), 0, 1)
            raised = np.maximum(raised, height * (0.5 + 0.5 * np.cos(np.pi * distance)))

        # The drift, from the first speech on.
        if self._drift_start is None and prosody.speaking.any():
            self._drift_start = start if start else -round(DRIFT_FADE_IN * FPS)
        if self._drift_start is not None:
            fade = np.clip((frames - self._drift_start) / (DRIFT_FADE_IN * FPS), 0, 1)
            raised += self._drift(frames) * fade
        return raised

    def _decide(self, prosody: Prosody, start: int, stop: int) -> None:
        """Start the rises of all accents for which the brows must begin to move now."""
        for at, prominence in zip(prosody.accents, prosody.prominence, strict=True):
            settled = prosody.ended or at + SETTLED * FPS < prosody.stop
            too_soon = at - self._last < MIN_ACCENT_GAP * FPS
            too_late = at < start - MAX_DELAY * FPS
            not_yet = at - RISE * FPS >= stop
            if too_soon or too_late or not_yet or not settled:
                continue
            self._last = at
            strength = min(prominence / STRONG_ACCENT, 1)
            height = MIN_HEIGHT + (MAX_HEIGHT - MIN_HEIGHT) * strength
            height *= self._random.uniform(0.7, 1.0)
            if self._random.random() < RAISING_SHARE:
                peak = max(at, start + round(RISE * FPS)) if start else at
                self._running.append((peak, height))

    def _drift(self, frames: np.ndarray) -> np.ndarray:
        """A slow course through random heights, float [F]."""
        position = frames / FPS / DRIFT_SECONDS
        first = int(position[0])
        while self._first_knot + len(self._knots) <= int(position[-1]) + 1:
            self._knots.append(self._drift_random.normal())
        self._knots = self._knots[first - self._first_knot :]
        self._first_knot = first
        return DRIFT * np.interp(position, first + np.arange(len(self._knots)), self._knots)
