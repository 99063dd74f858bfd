"""The registry of voices: `speak` finds a voice by name and checks text, speed and result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from being.errors import BeingError, UsageError
from being.tts.edge_voice import speak_edge
from being.tts.espeak_voice import speak_espeak
from being.tts.hibari_voice import speak_hibari
from being.tts.kokoro_voice import speak_kokoro
from being.tts.speech import Speech, checked_text

DEFAULT_VOICE = "hibari"
SLOWEST, FASTEST = 0.5, 2.0
# Engine -> function of (text, name of the voice, speed).
VOICES: dict[str, Callable[[str, str, float], Speech]] = {
    "hibari": speak_hibari,
    "kokoro": speak_kokoro,
    "edge": speak_edge,
    "espeak": speak_espeak,
}


def speak(text: str, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Speech:
    """`text` spoken by `voice`. Blocks; call it from a thread in a server.

    voice: "hibari" (offline, English), "kokoro:NAME" (offline, slower, 54 voices of nine languages,
    e.g. kokoro:af_heart), "edge:NAME" (online, e.g. edge:en-US-AriaNeural), "espeak" or
    "espeak:LANGUAGE" (offline, needs the program espeak-ng). speed: 0.5 (slow) to 2.0 (fast).
    Raises UsageError for an unknown voice or speed, InputRejected for text that is empty or that
    the voice cannot say, EnvironmentFault where a package, a program or the network is missing.
    """
    engine, _, name = voice.partition(":")
    if engine not in VOICES:
        raise UsageError(
            f"no voice is called {voice!r}",
            fix="Voices are hibari, kokoro:NAME, edge:NAME, espeak and espeak:LANGUAGE",
        )
    if not SLOWEST <= speed <= FASTEST:
        raise UsageError(
            f"speed {speed} is out of range",
            f"voices speak from {SLOWEST} (slow) to {FASTEST} (fast)",
        )

    speech = VOICES[engine](checked_text(text), name, speed)
    samples = speech.samples
    if samples.size == 0 or not np.isfinite(samples).all() or not samples.any():
        raise BeingError(
            f"the voice {voice} returned no usable audio",
            "it is empty, silent or not finite",
            "Try another text or voice",
        )
    return speech
