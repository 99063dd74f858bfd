"""What a mouth does at what is said: closed on p, b and m, open on open vowels, closed in silence.

No true picture is needed, so this measures an avatar that speaks any sound. The same figures of the
real footage stand beside, since real mouths do not close in every pause either. A phoneme is known
from the voice that spoke it, or heard by the phoneme conformer (`audio/phonemes.py`), whose peaks
come 60 ms after the lips are closest or widest (measured on two clips, in two languages; against a
voice that tells its own times the peak of a closure stands in the middle of its phoneme, -5 ms in
the median, that of a vowel near its start).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from being.audio.phonemes import CLASSES, CLOSURE, LEVEL_RATE, Heard, listen
from being.conventions import FPS
from being.tts.speech import Speech

OPEN_VOWELS = CLASSES.index("a")
SPOKEN_CLOSURES, SPOKEN_VOWELS = (
    "pbm",
    "ɑaæʌIW",
)  # symbols of the built-in voice; I and W are the sounds of my and now
LEAD = 0.06  # s by which lips are at their place before a phoneme's peak is heard
NEAR = 0.06  # s to either side within which a closure may come
AROUND = 0.02  # s to either side over which a mean aperture is taken
SILENCE = 0.2  # s; shorter gaps are none
SILENT = 20.0  # dB under the speech's level
MARGIN = 0.08  # s at both ends of a silence: the mouth comes to rest and sets off again
RANGE = (2.0, 98.0)  # percentiles of the real footage's aperture: its range
CLOSED = 0.2  # share of the range under which a mouth counts as closed
# percentile of the real footage's change from frame to frame above which a change is a jump
JUMP = 99.5


@dataclass(frozen=True)
class Said:
    """What is said in a sound; times in s."""

    closures: np.ndarray  # float64 [n]: peaks of p, b, m
    vowels: np.ndarray  # float64 [m]: peaks of open vowels
    silences: tuple[tuple[float, float], ...]  # start, end
    speech: tuple[tuple[float, float], ...]  # stretches in which somebody speaks
    source: str  # who says so


@dataclass(frozen=True)
class Mouth:
    """How a real mouth moves: what is closed, and what is a jump; in lip aperture."""

    low: float
    high: float
    jump: float  # aperture a frame

    @property
    def closed(self) -> float:
        """The aperture under which this mouth is closed."""
        return self.low + CLOSED * (self.high - self.low)

    @classmethod
    def of(cls, aperture: np.ndarray, segment: np.ndarray | None = None) -> Mouth | None:
        """That of a real clip, aperture float [F] with NaN where no face was found; None for fewer
        than two seconds.
        """
        if np.isfinite(aperture).sum() < 2 * FPS:
            return None
        steps = _steps(aperture, segment)
        low, high = np.nanpercentile(aperture, RANGE)
        return cls(float(low), float(high), float(np.nanpercentile(steps, JUMP)))


def heard(sound: np.ndarray) -> Said:
    """What the phoneme conformer hears in a sound float32 [T] at 16 kHz."""
    ear = listen(sound)
    return Said(
        ear.times[ear.kinds == CLOSURE],
        ear.times[ear.kinds == OPEN_VOWELS],
        silences(ear),
        ear.speech,
        "phonemes and silences as heard by the phoneme conformer",
    )


def spoken(speech: Speech, sound: np.ndarray) -> Said:
    """What a voice said, by its own times where it tells them; sound: float32 [T], the speech at 16
    kHz.
    """
    found = heard(sound)
    if not speech.phonemes:
        return found
    closures = [(a + b) / 2 for symbol, a, b in speech.phonemes if symbol in SPOKEN_CLOSURES]
    vowels = [a for symbol, a, b in speech.phonemes if symbol in SPOKEN_VOWELS]
    return Said(
        np.array(closures),
        np.array(vowels),
        found.silences,
        found.speech,
        "the voice's own phoneme times",
    )


def silences(ear: Heard) -> tuple[tuple[float, float], ...]:
    """Stretches over SILENCE long in which the sound is SILENT under the speech and no phoneme is
    heard.
    """
    quiet = np.concatenate([[False], ear.level < ear.speech_level - SILENT, [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]) / LEVEL_RATE
    return tuple(
        (float(a), float(b))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if b - a > SILENCE and not ((ear.times > a) & (ear.times < b)).any()
    )


def mouth_figures(
    aperture: np.ndarray, said: Said, mouth: Mouth, segment: np.ndarray | None = None
) -> dict[str, Any]:
    """What a mouth of aperture float [F] (frame i at i / 25 s, NaN where no face was found) does at
    what is said.

    mouth: the real one of the same person, whose range says what is closed. None where the sound
    has no such moment. `chance` is the share of all moments of speech that would count as closures.
    """
    known = np.isfinite(aperture)
    figures: dict[str, Any] = {"source": said.source, "closures": 0, "vowels": 0, "silences": 0}
    if known.sum() < 2:
        return {**figures, "reason": "no face was found"}
    times = np.arange(len(aperture)) / FPS

    def at(moments: np.ndarray, reach: float) -> np.ndarray:
        """Apertures [n, 7] within `reach` of the moment at which lips are at their place."""
        return np.interp(
            moments[:, None] - LEAD + np.linspace(-reach, reach, 7), times[known], aperture[known]
        )

    def inside(moments: np.ndarray) -> np.ndarray:
        return moments[(moments >= LEAD) & (moments <= times[-1])]

    closures, vowels = inside(said.closures), inside(said.vowels)
    speech = inside(
        np.concatenate([np.arange(a, b, 1 / FPS) for a, b in said.speech] or [np.zeros(0)])
    )
    wide, narrow = at(vowels, AROUND).mean(1), at(closures, AROUND).mean(1)
    rest = np.zeros(len(times), bool)
    for start, stop in said.silences:
        rest |= (times >= start + MARGIN) & (times <= stop - MARGIN)
    steps = _steps(aperture, segment)
    steps = steps[np.isfinite(steps)]
    return {
        **figures,
        "closures": len(closures),
        "vowels": len(vowels),
        "silences": len(said.silences),
        "silent_frames": int((rest & known).sum()),
        "closed_on_closures": _share(at(closures, NEAR).min(1) < mouth.closed),
        "chance": _share(at(speech, NEAR).min(1) < mouth.closed),
        "open_on_vowels": _share(at(vowels, NEAR).max(1) >= mouth.closed),
        "closed_in_silence": _share(aperture[rest & known] < mouth.closed),
        "vowels_over_closures": float(wide.mean() / max(narrow.mean(), 1e-6))
        if len(wide) * len(narrow)
        else None,
        "motion": float(aperture[known].std() / max(mouth.high - mouth.low, 1e-6)),
        "jumps": int((steps > mouth.jump).sum()),
        "steps": len(steps),
        "largest_step": float(steps.max() / max(mouth.jump, 1e-9)) if len(steps) else None,
    }


def pooled(parts: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean of figures with their numbers of cases, each case counting once; None when there is no
    case.
    """
    known = [(value, count) for value, count in parts if value is not None and count]
    return sum(v * n for v, n in known) / sum(n for _, n in known) if known else None


def _share(which: np.ndarray) -> float | None:
    return float(which.mean()) if which.size else None


def _steps(aperture: np.ndarray, segment: np.ndarray | None) -> np.ndarray:
    """Change of aperture from each frame to the next, [F - 1]; NaN beside missed faces and across
    breaks.
    """
    steps = np.abs(np.diff(aperture.astype(np.float64)))
    if segment is not None:
        steps[segment[1:] != segment[:-1]] = np.nan
    return steps
