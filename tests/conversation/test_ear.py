"""The ear: beginnings, pauses and ends of speech, with a scripted network and with Silero's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from needs import load_or_skip

from being.conversation.ear import EARLY_S, END_S, Ear
from being.conversation.voice_activity import BLOCK, BLOCK_S, SileroActivity
from being.media.resampling import resample

SPEECH, NOISE = 0.9, 0.05


class Scripted:
    """Says what the loudness of a block says."""

    def probability(self, block: np.ndarray) -> float:
        return SPEECH if np.abs(block).max() > 0.1 else NOISE


def blocks(*parts: tuple[float, int]) -> np.ndarray:
    """Sound at 16 kHz: (amplitude, blocks) each."""
    return np.concatenate([np.full(BLOCK * count, value, np.float32) for value, count in parts])


def kinds(ear: Ear, sound: np.ndarray, chunk: int = 320) -> list[str]:
    events = [ear.push(sound[at : at + chunk]) for at in range(0, sound.size, chunk)]
    return [event.kind for event in itertools.chain(*events)]


def test_speech_begins_pauses_resumes_and_ends() -> None:
    sound = blocks((0.01, 20), (0.5, 20), (0.01, 10), (0.5, 10), (0.01, 30))
    assert kinds(Ear(Scripted(), 16_000), sound) == [
        "began", "paused", "resumed", "paused", "ended"
    ]  # fmt: skip


def test_one_loud_block_is_no_speech() -> None:
    assert kinds(Ear(Scripted(), 16_000), blocks(*[(0.01, 9), (0.5, 1)] * 9)) == []


def test_the_speech_comes_with_what_was_before_it_and_the_pause_is_short() -> None:
    ear = Ear(Scripted(), 16_000)
    events = ear.push(blocks((0.01, 30), (0.5, 30), (0.01, 40)))
    began, paused, ended = events
    assert ended.at - began.at == pytest.approx(28 * BLOCK_S + END_S, abs=2 * BLOCK_S)
    assert ended.at - paused.at == pytest.approx(END_S - EARLY_S, abs=2 * BLOCK_S)
    assert ended.samples is not None and ended.samples.dtype == np.float32
    quiet = np.flatnonzero(np.abs(ended.samples) > 0.1)[0]
    assert quiet > 2 * BLOCK, "a soft first sound is cut off"


def test_a_silent_microphone_is_told_once() -> None:
    ear = Ear(Scripted(), 16_000)
    assert kinds(ear, np.zeros(40 * 16_000, np.float32)) == ["silent"]
    noise = np.random.default_rng(0).normal(0, 1e-3, 20 * 16_000).astype(np.float32)
    assert kinds(Ear(Scripted(), 16_000), noise) == []


def test_speech_without_a_pause_ends_some_time() -> None:
    ear = Ear(Scripted(), 16_000)
    assert "ended" in kinds(ear, np.full(61 * 16_000, 0.5, np.float32), 16_000)


def test_silero_hears_speech_in_noise_at_15_db_and_no_speech_in_noise() -> None:
    pytest.importorskip("hibari")
    load_or_skip(SileroActivity)
    from being.tts import speak

    speech = speak("Excuse me, I have a question about the trains.")
    voice = resample(speech.samples, speech.rate, 24_000)
    loud = voice[np.abs(voice) > 0.02]
    noise_level = float(np.sqrt(np.mean(loud**2))) * 10 ** (-15 / 20)
    dice = np.random.default_rng(1)
    sound = dice.normal(0, noise_level, 8 * 24_000).astype(np.float32)
    sound[2 * 24_000 : 2 * 24_000 + voice.size] += voice
    first = 2 + np.flatnonzero(np.abs(voice) > 0.01)[0] / 24_000
    ear = Ear(SileroActivity(), 24_000)
    events = [event for at in range(0, sound.size, 480) for event in ear.push(sound[at : at + 480])]
    assert [event.kind for event in events if event.kind in ("began", "ended")] == [
        "began",
        "ended",
    ]
    assert events[0].at - first < 0.2
    assert kinds(Ear(SileroActivity(), 24_000), sound[: 2 * 24_000], 480) == []
