"""The registry of voices: `speak` finds a voice by name and checks text, speed and result.

`speak` reads the text's Markdown, tags and pauses first (`script`); `speak_plain` says the text as
it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from being.errors import BeingError, InputRejected, UsageError
from being.tts.edge_voice import speak_edge
from being.tts.espeak_voice import speak_espeak
from being.tts.hibari_voice import speak_hibari
from being.tts.kokoro_voice import speak_kokoro
from being.tts.languages import language_note
from being.tts.passages import join_passages
from being.tts.script import Pause, Script, read_script
from being.tts.speech import Speech, checked_text
from being.tts.speech_endpoint import speak_endpoint

DEFAULT_VOICE = "hibari"
SLOWEST, FASTEST = 0.5, 2.0
SHOWN = 8  # of what is left out, in a note
# Engine -> function of (text, name of the voice, speed).
VOICES: dict[str, Callable[[str, str, float], Speech]] = {
    "hibari": speak_hibari,
    "kokoro": speak_kokoro,
    "edge": speak_edge,
    "espeak": speak_espeak,
    "speech": speak_endpoint,
}


def speak(text: str, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Speech:
    """`text`, which may hold Markdown, SSML and pauses, spoken by `voice`.

    Blocks; call it from a thread in a server. voice: "hibari" (offline, English), "kokoro:NAME"
    (offline, slower, 54 voices of nine languages, e.g. kokoro:af_heart), "edge:NAME" (online, e.g.
    edge:en-US-AriaNeural), "espeak" or "espeak:LANGUAGE" (offline, needs the program espeak-ng),
    "speech:NAME" (of the endpoint in BEING_SPEECH_URL).
    speed: 0.5 (slow) to 2.0 (fast); pauses keep their length. Raises UsageError for an unknown
    voice or speed, InputRejected for text that is empty or that the voice cannot say and for a
    pause that cannot be used, EnvironmentFault where a package, a program or the network is
    missing.
    """
    return speak_script(read_script(text), voice, speed)


def speak_script(script: Script, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Speech:
    """A script spoken by `voice`, with its pauses. Arguments and errors as `speak`."""
    passages = [
        part if isinstance(part, Pause) else speak_plain(part, voice, speed)
        for part in script.parts
    ]
    speech = join_passages(passages)
    notes = [language_note(script.text, voice)]
    if script.left_out:
        notes.insert(0, f"left out of the speech: {', '.join(script.left_out[:SHOWN])}")
    return replace(speech, notes=tuple(note for note in notes if note))


def speak_plain(text: str, voice: str = DEFAULT_VOICE, speed: float = 1.0) -> Speech:
    """`text` as it stands spoken by `voice`. Arguments and errors as `speak`."""
    engine, _, name = voice.partition(":")
    if engine not in VOICES:
        raise UsageError(
            f"no voice is called {voice!r}",
            fix="Voices: hibari, kokoro:NAME, edge:NAME, espeak, espeak:LANGUAGE, speech:NAME",
        )
    if not SLOWEST <= speed <= FASTEST:
        raise UsageError(
            f"speed {speed} is out of range",
            f"voices speak from {SLOWEST} (slow) to {FASTEST} (fast)",
        )

    text = checked_text(text)
    try:
        speech = VOICES[engine](text, name, speed)
    except InputRejected as error:
        if note := language_note(text, voice):
            raise InputRejected(error.what, error.why, f"{error.fix}; {note}") from error
        raise
    samples = speech.samples
    if samples.size == 0 or not np.isfinite(samples).all() or not samples.any():
        raise BeingError(
            f"the voice {voice} returned no usable audio",
            "it is empty, silent or not finite",
            "Try another text or voice",
        )
    return speech
