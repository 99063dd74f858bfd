"""Moments of speech audio that a mouth must follow: lip closures, open vowels and silences.

A phoneme's time comes from the voice that synthesised it, or from the phoneme recogniser
(`audio/phonemes.py`). The recogniser's peaks come 60 ms after the lips are closest or widest.
That was measured on two clips in two languages. Against a voice that gives its own phoneme times,
the peak of a closure lies 45 ms after the middle of its phoneme (median), near its end, and the
peak of a vowel lies about 50 ms after its start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.audio.phonemes import (
    CLOSURE,
    LEVEL_RATE,
    PHONEME_CLASSES,
    SpeechAnalysis,
    analyse_speech,
)
from being.tts.speech import Speech

OPEN_VOWEL = PHONEME_CLASSES.index("a")
# Symbols of the built-in voice; I and W are the vowels of "my" and "now".
CLOSURE_SYMBOLS = "pbm"
OPEN_VOWEL_SYMBOLS = "ɑaæʌIW"
LIP_LEAD = 0.06  # s by which the lips reach their position before the recogniser's peak
# s from the middle of a closure, and from the start of a vowel, to the recogniser's peak
PEAK_DELAY = 0.05
MIN_SILENCE = 0.2  # s; a shorter gap is no silence
SILENCE_DEPTH = 20.0  # dB below the level of the speech


@dataclass(frozen=True)
class SpeechEvents:
    """Times in s of the phonemes and silences in an audio signal."""

    closures: np.ndarray  # float64 [n]: the recogniser's peaks of p, b, m
    vowels: np.ndarray  # float64 [m]: peaks of open vowels
    silences: tuple[tuple[float, float], ...]  # start and end of each
    speech: tuple[tuple[float, float], ...]  # start and end of each stretch of speech
    source: str  # where the times come from


def recognised_events(audio: np.ndarray) -> SpeechEvents:
    """Events of audio float32 [T] at 16 kHz, found by the phoneme recogniser."""
    analysis = analyse_speech(audio)
    return SpeechEvents(
        analysis.times[analysis.classes == CLOSURE],
        analysis.times[analysis.classes == OPEN_VOWEL],
        find_silences(analysis),
        analysis.speech,
        "phonemes and silences found by the phoneme recogniser",
    )


def synthesised_events(speech: Speech, audio: np.ndarray) -> SpeechEvents:
    """Events of synthesised speech, from the voice's own phoneme times where it gives them.

    audio: float32 [T], the speech at 16 kHz.
    """
    recognised = recognised_events(audio)
    if not speech.phonemes:
        return recognised
    closures = [(a + b) / 2 for symbol, a, b in speech.phonemes if symbol in CLOSURE_SYMBOLS]
    vowels = [start for symbol, start, _ in speech.phonemes if symbol in OPEN_VOWEL_SYMBOLS]
    return SpeechEvents(
        np.array(closures) + PEAK_DELAY,
        np.array(vowels) + PEAK_DELAY,
        recognised.silences,
        recognised.speech,
        "the voice's own phoneme times",
    )


def find_silences(analysis: SpeechAnalysis) -> tuple[tuple[float, float], ...]:
    """Stretches (start, end) in s that are longer than MIN_SILENCE, lie SILENCE_DEPTH below the
    level of the speech, and contain no phoneme.
    """
    quiet = analysis.levels < analysis.speech_level - SILENCE_DEPTH
    padded = np.concatenate([[False], quiet, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1]) / LEVEL_RATE
    found = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        has_phoneme = ((analysis.times > start) & (analysis.times < end)).any()
        if end - start > MIN_SILENCE and not has_phoneme:
            found.append((float(start), float(end)))
    return tuple(found)
