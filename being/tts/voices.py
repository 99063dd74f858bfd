"""The one door to voices: `speak` finds the voice by name, checks text and speed, and checks what
comes back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from being.errors import BeingError, UsageError
from being.tts.edge_voice import say_edge
from being.tts.espeak_voice import say_espeak
from being.tts.hibari_voice import say_hibari
from being.tts.speech import Speech, checked_text

DEFAULT_VOICE = "hibari"
SLOWEST, FASTEST = 0.5, 2.0
VOICES: dict[
    str, Callable[[str, str, float], Speech]
] = {  # kind -> (text, name of the voice, speed) -> speech
    "hibari": say_hibari,
    "edge": say_edge,
    "espeak": say_espeak,
}


def speak(text: str, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Speech:
    """`text` as spoken by `voice`.

    voice: "hibari" (offline, English), "edge:NAME" (online, e.g. edge:en-US-AriaNeural), "espeak"
    or "espeak:LANGUAGE" (offline, needs the program espeak-ng). speed: 0.5 (slow) to 2.0 (fast).
    Raises UsageError for an unknown voice or speed, InputRejected for text that is empty or that
    the voice cannot say, EnvironmentFault where a package, a program or the network is missing.
    Blocks; call it from a thread in a server.
    """
    kind, _, name = voice.partition(":")
    if kind not in VOICES:
        raise UsageError(
            f"no voice is called {voice!r}",
            fix="Voices are hibari, edge:NAME, espeak and espeak:LANGUAGE",
        )
    if not SLOWEST <= speed <= FASTEST:
        raise UsageError(
            f"speed {speed} is out of range",
            f"voices speak from {SLOWEST} (slow) to {FASTEST} (fast)",
        )
    speech = VOICES[kind](checked_text(text), name, speed)
    if (
        speech.samples.size == 0
        or not np.isfinite(speech.samples).all()
        or not speech.samples.any()
    ):
        raise BeingError(
            f"the voice {voice} returned no usable sound",
            "it is empty, silent or not finite",
            "Try another text or voice",
        )
    return speech
