"""Times of symbols and phones: where the sound is, and which letters make one phone."""

from __future__ import annotations

import numpy as np
import pytest

from being.tts import Speech, speak
from being.tts.symbol_times import DURATION_UNIT, SOUND_LEAD, phones_of, symbol_edges, timed_symbols

# Fricatives between vowels, for which the audio itself shows the times.
SIBILANTS = "Sue saw a sassy lassie, Casey. She should push a bushel. Suppose a bossy seal is easy."


def timed(symbols: str, seconds: float = 0.1) -> list[tuple[str, float, float]]:
    """Each symbol with an equal duration, from 0 on."""
    return [(symbol, k * seconds, (k + 1) * seconds) for k, symbol in enumerate(symbols)]


def sibilant_onsets(speech: Speech) -> np.ndarray:
    """For each s and ʃ after a vowel: when its hiss begins in the audio minus its own start, s."""
    hop, width = 48, 256
    frames = np.lib.stride_tricks.sliding_window_view(speech.samples, width)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(width))) ** 2
    hertz = np.fft.rfftfreq(width, 1 / speech.rate)
    ratio = (power[:, hertz > 3500].sum(1) + 1e-9) / (power[:, hertz < 2000].sum(1) + 1e-9)
    times = (np.arange(len(frames)) * hop + width / 2) / speech.rate
    late = []
    assert speech.phones
    for (before, _, _), (phone, start, end) in zip(speech.phones, speech.phones[1:], strict=False):
        if phone in "sʃ" and before[-1] in "aæɑɔəɛɪiʊuʌ":
            # From the strongest hiss near the phone back to its begin.
            near = np.flatnonzero((times > start - 0.1) & (times < end + 0.1))
            step = near[ratio[near].argmax()]
            while ratio[step] > 1:
                step -= 1
            late.append(times[step] - start)
    return np.array(late)


def test_the_phones_of_the_built_in_voice_start_when_they_sound():
    """Before the correction by SOUND_LEAD the sound came 0.05 to 0.07 s before its phone."""
    pytest.importorskip("hibari")
    late = sibilant_onsets(speak(SIBILANTS))
    assert len(late) >= 6
    assert abs(np.median(late)) < 0.025, late


def test_edges_are_the_sum_of_durations_before_a_symbol_less_the_lead():
    edges = symbol_edges(np.array([[4, 2, 3, 1, 8]], np.float32), 3)
    assert np.allclose(edges + SOUND_LEAD, np.array([4, 6, 9, 10]) * DURATION_UNIT)
    assert symbol_edges(np.array([1, 1, 1], np.float32), 1).tolist() == [0, 0]
    assert timed_symbols("ab", np.array([0.1, 0.2, 0.4]), 1.0) == [
        ("a", pytest.approx(1.1), pytest.approx(1.2)),
        ("b", pytest.approx(1.2), pytest.approx(1.4)),
    ]


def test_marks_belong_to_their_vowels_and_spaces_to_the_phone_before():
    found = phones_of(timed("mˈa sːo."))
    assert [phone for phone, _, _ in found] == ["m", "a", "sː", "o"]
    assert [start for _, start, _ in found] == pytest.approx([0, 0.1, 0.4, 0.6])
    assert [end for _, _, end in found] == pytest.approx([0.1, 0.4, 0.6, 0.7])


def test_pauses_are_stretches_without_a_phone():
    found = phones_of(timed("a, a — ˈi!"))
    assert found == [
        ("a", 0.0, 0.1),
        ("a", pytest.approx(0.3), pytest.approx(0.5)),
        ("i", pytest.approx(0.7), pytest.approx(0.9)),
    ]
    assert phones_of([]) == [] and phones_of(timed(" ,. ˈ ")) == []


def test_letters_of_the_voices_are_spelled_out():
    assert [phone for phone, _, _ in phones_of(timed("ʧAma→ɔ̃"))] == ["tʃ", "eɪ", "m", "a", "ɔ̃"]


def test_a_plosive_lasts_from_the_closure_to_the_burst():
    found = phones_of([("a", 0.0, 0.1), ("p", 0.1, 0.125), ("a", 0.125, 0.3)])
    assert found[1] == ("p", 0.1, pytest.approx(0.15)) and found[2][1] == pytest.approx(0.15)
    # Not at the cost of a short phone after it.
    short = [("p", 0.1, 0.125), ("a", 0.125, 0.16)]
    assert phones_of(short) == short
