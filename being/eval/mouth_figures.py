"""Measures whether a mouth closes at p, b, m and in silence, and opens at open vowels.

This needs no true frames, so it measures an avatar that speaks any audio. The same figures of the
real footage are reported beside it, because a real mouth does not close in every pause either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from being.conventions import FPS
from being.eval.speech_events import LIP_LEAD, SpeechEvents

EVENT_REACH = 0.06  # s to either side of an event within which the mouth may reach it
MEAN_REACH = 0.02  # s to either side of an event over which the mean aperture is taken
SAMPLES_PER_EVENT = 7
SILENCE_MARGIN = 0.08  # s at both ends of a silence: the mouth settles and starts again
APERTURE_PERCENTILES = (2.0, 98.0)  # of the real footage's aperture: its range
CLOSED_SHARE = 0.2  # share of the range below which a mouth counts as closed
# A change between frames above this percentile of the real footage's changes is a jump.
JUMP_PERCENTILE = 99.5


@dataclass(frozen=True)
class MouthMeasures:
    """Range and speed of a real mouth, in lip aperture: below what it is closed, what is a jump."""

    low: float
    high: float
    jump: float  # aperture a frame

    @property
    def closed(self) -> float:
        """The aperture below which this mouth is closed."""
        return self.low + CLOSED_SHARE * (self.high - self.low)

    @classmethod
    def from_aperture(
        cls, aperture: np.ndarray, segment: np.ndarray | None = None
    ) -> MouthMeasures | None:
        """Measures of a real clip; None when fewer than two seconds show a face.

        aperture: float [F], NaN where no face was found; segment: int [F], the clip's segment of
        each frame.
        """
        if np.isfinite(aperture).sum() < 2 * FPS:
            return None
        steps = _aperture_steps(aperture, segment)
        low, high = np.nanpercentile(aperture, APERTURE_PERCENTILES)
        return cls(float(low), float(high), float(np.nanpercentile(steps, JUMP_PERCENTILE)))


def mouth_figures(
    aperture: np.ndarray,
    events: SpeechEvents,
    mouth: MouthMeasures,
    segment: np.ndarray | None = None,
) -> dict[str, Any]:
    """Figures (JSON types) of how a mouth follows the events; None where there is no such event.

    aperture: float [F], frame i at i / 25 s, NaN where no face was found; mouth: the real mouth of
    the same person, whose range defines closed; segment: int [F], the clip's segment of each frame.
    `chance` is the share of all moments of speech that would count as closed.
    """
    known = np.isfinite(aperture)
    figures: dict[str, Any] = {"source": events.source, "closures": 0, "vowels": 0, "silences": 0}
    if known.sum() < 2:
        return {**figures, "reason": "no face was found"}
    times = np.arange(len(aperture)) / FPS

    def apertures_at(moments: np.ndarray, reach: float) -> np.ndarray:
        """Apertures [n, 7] within `reach` of the time at which the lips are in position."""
        offsets = np.linspace(-reach, reach, SAMPLES_PER_EVENT)
        return np.interp(moments[:, None] - LIP_LEAD + offsets, times[known], aperture[known])

    def inside(moments: np.ndarray) -> np.ndarray:
        return moments[(moments >= LIP_LEAD) & (moments <= times[-1])]

    # Events inside the measured frames, and every moment of speech as the level of chance.
    closures, vowels = inside(events.closures), inside(events.vowels)
    stretches = [np.arange(start, end, 1 / FPS) for start, end in events.speech]
    speech = inside(np.concatenate(stretches or [np.zeros(0)]))
    vowel_means = apertures_at(vowels, MEAN_REACH).mean(1)
    closure_means = apertures_at(closures, MEAN_REACH).mean(1)

    # Frames well inside a silence.
    silent = np.zeros(len(times), bool)
    for start, end in events.silences:
        silent |= (times >= start + SILENCE_MARGIN) & (times <= end - SILENCE_MARGIN)

    # Frames of speech.
    spoken = np.zeros(len(times), bool)
    for start, end in events.speech:
        spoken |= (times + LIP_LEAD >= start) & (times + LIP_LEAD <= end)
    span = max(mouth.high - mouth.low, 1e-6)

    ratio = None
    if len(vowels) and len(closures):
        ratio = float(vowel_means.mean() / max(closure_means.mean(), 1e-6))
    steps = _aperture_steps(aperture, segment)
    steps = steps[np.isfinite(steps)]
    return {
        **figures,
        "closures": len(closures),
        "vowels": len(vowels),
        "silences": len(events.silences),
        "silent_frames": int((silent & known).sum()),
        "closed_on_closures": _share(apertures_at(closures, EVENT_REACH).min(1) < mouth.closed),
        "chance": _share(apertures_at(speech, EVENT_REACH).min(1) < mouth.closed),
        "open_on_vowels": _share(apertures_at(vowels, EVENT_REACH).max(1) >= mouth.closed),
        "closed_in_silence": _share(aperture[silent & known] < mouth.closed),
        "speech_frames": int((spoken & known).sum()),
        "closed_in_speech": _share(aperture[spoken & known] < mouth.closed),
        "vowel_opening": float((vowel_means.mean() - mouth.low) / span) if len(vowels) else None,
        "vowels_over_closures": ratio,
        "motion": float(aperture[known].std() / span),
        "jumps": int((steps > mouth.jump).sum()),
        "steps": len(steps),
        "largest_step": float(steps.max() / max(mouth.jump, 1e-9)) if len(steps) else None,
    }


def weighted_mean(parts: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean of (figure, number of cases) pairs weighted by the cases; None when there is no case."""
    known = [(value, count) for value, count in parts if value is not None and count]
    if not known:
        return None
    return sum(value * count for value, count in known) / sum(count for _, count in known)


def _share(condition: np.ndarray) -> float | None:
    return float(condition.mean()) if condition.size else None


def _aperture_steps(aperture: np.ndarray, segment: np.ndarray | None) -> np.ndarray:
    """Change of aperture from each frame to the next, [F - 1]; NaN beside a missed face and between
    two segments.
    """
    steps = np.abs(np.diff(aperture.astype(np.float64)))
    if segment is not None:
        steps[segment[1:] != segment[:-1]] = np.nan
    return steps
