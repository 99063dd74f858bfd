"""The voice of live text: for each clause one that speaks its language, at one sample rate.

A clause in a language that the wanted voice does not speak goes to espeak-ng, which is told, or is
refused where that is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from being.errors import InputRejected
from being.media.resampling import resample
from being.threads import allowed_cores
from being.tts.languages import (
    LANGUAGES,
    lacks_language,
    likelier_language,
    text_language,
    voice_language,
)
from being.tts.speech import Speech

LIVE_RATE = 24_000  # Hz of all speech of a session
AUDIBLE = 10 ** (-45 / 20)  # of full scale
ESPEAK = "espeak-ng"
# Voices that are slower than a session plays on two cores.
SLOW_VOICES = ("kokoro",)
SLOW_CORES = 2
SLOW_NOTE = (
    "the voice kokoro is too slow for live sessions on two cores: about as fast as real time, so "
    "answers begin late and stop between clauses. Use hibari, edge:NAME or speech:NAME"
)
ESPEAK_NAMES = {"zh": "cmn"}  # where they are not ISO 639-1
LANGUAGE_MEMORY = 600  # characters of the latest text that tell the language
# (text, voice, speed) -> speech
Speak = Callable[[str, str, float], Speech]


def slow_voice_note(voice: str) -> str:
    """A sentence about a voice that is too slow for live sessions on this machine, else ""."""
    slow = voice.partition(":")[0] in SLOW_VOICES and allowed_cores() <= SLOW_CORES
    return SLOW_NOTE if slow else ""


class LiveVoice:
    """Speaks the clauses of one session. It may be called in any one thread at a time."""

    def __init__(self, speak: Speak, espeak: bool | None = None):
        """speak: as `being.tts.voices.speak_plain`. espeak: whether espeak-ng is there; default:
        looked for.
        """
        self._speak = speak
        self._espeak = shutil.which(ESPEAK) is not None if espeak is None else espeak
        self._recent = ""
        self._language = ""  # the last one that was certain
        self._told = ""  # the voice that was told last

    def user_wrote(self, text: str) -> None:
        """The user's words: an answer is likely to be in their language."""
        self._recent = ""
        self._language = text_language(text) or self._language

    def begin(self) -> None:
        """Another text begins, whose language is not known."""
        self._recent = self._language = ""

    def __call__(self, text: str, voice: str, speed: float) -> Speech:
        """The speech of a clause, at LIVE_RATE, with times of words.

        `Speech.notes` says when another voice was taken than the wanted one. Raises InputRejected
        where no voice speaks the language, and as `speak`.
        """
        chosen, note = self._chosen(text, voice)
        speech = self._speak(text, chosen, speed)
        samples = resample(speech.samples, speech.rate, LIVE_RATE)
        words = speech.words
        if words is None:
            words = estimated_words(text, samples, LIVE_RATE)
        notes = (note,) if note and chosen != self._told else ()
        self._told = chosen if note else ""
        return replace(speech, samples=samples, rate=LIVE_RATE, words=words, notes=notes)

    def _chosen(self, text: str, voice: str) -> tuple[str, str]:
        """The voice for a clause, and why where it is another one than `voice`."""
        language = self._language_of(text, voice_language(voice))
        if not lacks_language(voice, language):
            return voice, ""
        title = LANGUAGES[language].title
        if not self._espeak:
            raise InputRejected(
                f"no voice here speaks {title}",
                f"the text looks like {title}, and the voice {voice} does not speak it",
                f"Install espeak-ng, or choose a voice that does: {LANGUAGES[language].voice}",
            )
        other = f"espeak:{ESPEAK_NAMES.get(language, language)}"
        return other, f"the text looks like {title}: {other} speaks it in place of {voice}"

    def _language_of(self, text: str, spoken: str) -> str:
        """The language of a clause, "" where nothing tells it.

        A short clause says little by itself: then what was said before decides.
        """
        self._recent = (self._recent + " " + text)[-LANGUAGE_MEMORY:]
        found = text_language(text, spoken) or text_language(self._recent, spoken)
        if found:
            self._language = found
        elif spoken and self._language:
            return likelier_language(text, self._language, spoken)
        return self._language


def estimated_words(text: str, samples: np.ndarray, rate: int) -> list[tuple[str, float, float]]:
    """(word, start s, end s) for a voice that gives no times: by letters over the audible part."""
    words = text.split()
    audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
    if not words or not audible.size:
        return []
    first, last = int(audible[0]) / rate, (int(audible[-1]) + 1) / rate
    ends = np.cumsum([len(word) + 1 for word in words])
    times = first + (last - first) * np.concatenate([[0], ends]) / ends[-1]
    return [
        (word, float(start), float(stop))
        for word, start, stop in zip(words, times[:-1], times[1:], strict=True)
    ]
