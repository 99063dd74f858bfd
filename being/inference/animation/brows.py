"""Brows of a face that speaks new sound: they drift a little and rise at accents of loudness and
pitch.

Of quick rises of the brows 71 % come with one of pitch (Cavé et al., "About the relationship
between eyebrow movements and F0 variations", ICSLP 1996, cited by its abstract); how many accents
raise them that does not say: it is chosen.
"""

from __future__ import annotations

import numpy as np

from being.conventions import FPS
from being.inference.animation.prosody import ACCENT_GAP, Prosody

RAISED = 0.7  # share of accents at which the brows rise, chosen
RAISE = (
    0.12,
    0.4,
)  # how far, in what the person shows at most: at a slight accent, at the strongest
RISE, FALL = 0.16, 0.36  # s from rest to the accent and back
STRONG_ACCENT = 3.0  # prominence in deviations that raises the brows as far as they go
SETTLED = 0.12  # s after which an accent that is still one is taken for one
# s by which the brows may follow an accent that was not known before; later they stay where they
# are
LATE = 0.3
DRIFT, DRIFT_SECONDS = 0.04, 2.5  # of brows at rest: size and pace
WAKE = 1.0  # s in which the drift sets in once somebody speaks


class Brows:
    """The brows of one face, frame after frame: highest on the accent with enough look-ahead, else
    soon after it.
    """

    def __init__(self, seed: int = 0):
        self._drifting, self._random = (
            np.random.default_rng((seed, 2)),
            np.random.default_rng((seed, 4)),
        )
        self._knots: list[float] = []  # of the drift, one every DRIFT_SECONDS from `_first_knot` on
        self._first_knot = 0
        self._awake: int | None = None  # frame from which somebody is known to speak
        self._last = -round(ACCENT_GAP * FPS)  # frame of the last accent
        self._running: list[
            tuple[int, float]
        ] = []  # frames in which they are highest, and how high

    def height(self, heard: Prosody, start: int, stop: int) -> np.ndarray:
        """How far the brows are raised, float [stop - start], in frames that follow those asked for
        before.

        heard: what is known at frame `start`.
        """
        self._decide(heard, start, stop)
        frames, raised = np.arange(start, stop), np.zeros(stop - start)
        self._running = [accent for accent in self._running if accent[0] + FALL * FPS >= start]
        for peak, size in self._running:
            since = (frames - peak) / FPS
            way = np.clip(np.where(since < 0, -since / RISE, since / FALL), 0, 1)
            raised = np.maximum(raised, size * (0.5 + 0.5 * np.cos(np.pi * way)))
        if self._awake is None and heard.speaking.any():
            self._awake = start if start else -round(WAKE * FPS)
        if self._awake is not None:
            raised += self._drift(frames) * np.clip((frames - self._awake) / (WAKE * FPS), 0, 1)
        return raised

    def _decide(self, heard: Prosody, start: int, stop: int) -> None:
        """Take up the accents for which the brows must begin to rise now."""
        for at, prominence in zip(heard.accents, heard.prominence, strict=True):
            settled = heard.ended or at + SETTLED * FPS < heard.stop
            if (
                at - self._last < ACCENT_GAP * FPS
                or at < start - LATE * FPS
                or at - RISE * FPS >= stop
                or not settled
            ):
                continue
            self._last = at
            low, high = RAISE
            size = (low + (high - low) * min(prominence / STRONG_ACCENT, 1)) * self._random.uniform(
                0.7, 1.0
            )
            if self._random.random() < RAISED:
                self._running.append((max(at, start + round(RISE * FPS)) if start else at, size))

    def _drift(self, frames: np.ndarray) -> np.ndarray:
        """A slow course through random heights, float [F]."""
        place = frames / FPS / DRIFT_SECONDS
        first = int(place[0])
        while self._first_knot + len(self._knots) <= int(place[-1]) + 1:
            self._knots.append(self._drifting.normal())
        self._knots = self._knots[first - self._first_knot :]
        self._first_knot = first
        return DRIFT * np.interp(place, first + np.arange(len(self._knots)), self._knots)
