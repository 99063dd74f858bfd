"""Pauses inside speech: silence of their length, and times that move along."""

from __future__ import annotations

import numpy as np
import pytest

from being.tts import Speech, speak, voices
from being.tts.passages import AUDIBLE, join_passages
from being.tts.script import Pause

RATE = 1000


def tone(seconds: float, quiet_before: float, quiet_after: float) -> Speech:
    """A loud stretch with silence around it; its word begins and ends with it."""
    parts = [np.zeros(round(quiet_before * RATE)), np.full(round(seconds * RATE), 0.5)]
    samples = np.concatenate([*parts, np.zeros(round(quiet_after * RATE))]).astype(np.float32)
    times = [("word", quiet_before, quiet_before + seconds)]
    return Speech(samples, RATE, times, list(times), "☃")


def gaps(samples: np.ndarray) -> list[tuple[int, int]]:
    """First sample and length of each quiet stretch."""
    edges = np.diff(np.pad((np.abs(samples) <= AUDIBLE).astype(int), 1))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(a), int(b - a)) for a, b in zip(starts, ends, strict=True)]


def test_a_pause_is_as_long_as_it_says_whatever_silence_the_voice_adds() -> None:
    passages = [Pause(0.2), tone(1, 0.3, 0.4), Pause(0.5), tone(1, 0.1, 0.02), Pause(1)]
    speech = join_passages(passages)
    assert gaps(speech.samples) == [(0, 200), (1200, 500), (2700, 1000)]
    expected = [("word", 0.2, 1.2), ("word", 1.7, 2.7)]
    for times in (speech.words, speech.phonemes):
        assert times == [(n, pytest.approx(a), pytest.approx(b)) for n, a, b in expected]
    assert speech.unspoken == "☃" and speech.seconds == pytest.approx(3.7)


def test_a_voice_without_word_times_still_pauses() -> None:
    plain = Speech(tone(1, 0, 0).samples, RATE)
    speech = join_passages([plain, Pause(0.5), plain])
    assert speech.words is None and gaps(speech.samples) == [(1000, 500)]


def test_speech_without_pauses_is_the_voices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = tone(1, 0.2, 0.2), []

    def voice(text: str, name: str, speed: float) -> Speech:
        asked.append(text)
        return made

    monkeypatch.setitem(voices.VOICES, "espeak", voice)
    assert speak("Hello **there**", "espeak").samples is made.samples
    assert asked == ["Hello there"]
    speak("# One\n[pause 1] two", "espeak")
    assert asked[1:] == ["One.", "two"]


def test_what_is_left_out_and_a_foreign_language_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(voices.VOICES, "espeak", lambda text, name, speed: tone(1, 0, 0))
    text = "<prosody rate='slow'>Guten Morgen, ich bin ein Avatar und das ist mein Satz.</prosody>"
    left_out, language = speak(text, "espeak:en").notes
    assert "<prosody>" in left_out and "German" in language and "espeak:de" in language
    assert speak("Hello", "espeak:en").notes == ()


def test_the_built_in_voice_pauses_between_its_words() -> None:
    pytest.importorskip("hibari")
    speech = speak("Hello there. [pause 1.5] How are you?")
    words = {word: (start, end) for word, start, end in speech.words or []}
    assert list(words) == ["Hello", "there", "How", "are", "you"]
    assert 1.4 < words["How"][0] - words["there"][1] < 1.7
    longest = max(length for _, length in gaps(speech.samples))
    assert longest / speech.rate == pytest.approx(1.5, abs=0.01)
