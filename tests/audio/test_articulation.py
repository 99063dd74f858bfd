"""Channels of articulation: on where lips must meet or part, the same in every voice."""

from __future__ import annotations

import numpy as np
import pytest
from needs import had

from being.audio import articulation, encoders, feature_stream, feature_windows
from being.audio.phonemes import BLANK, CLOSURE, letters_of
from being.conventions import SAMPLE_RATE
from being.eval.speech import LEAD, SPOKEN_CLOSURES, SPOKEN_VOWELS
from being.media.resampling import to_rate
from being.tts import speak

TEXT = "Papa and mama bought a bottle of milk. My father parked the car."


def spoken(*peaks: tuple[int, int]) -> np.ndarray:
    """Log-probabilities [1, 50, 191] of blanks and of symbols at their steps."""
    steps = np.full((1, 50, 191), -200.0, np.float32)
    steps[..., BLANK] = 0
    for at, symbol in peaks:
        steps[0, at, BLANK], steps[0, at, symbol] = -200, 0
    return steps


@pytest.mark.parametrize("kind, channel", [(CLOSURE, 0), (articulation.OPEN, 1)])
def test_a_channel_is_on_before_its_phonemes_peak_and_nothing_else_moves_it(kind, channel):
    middle = 25 - sum(articulation.SPANS[kind]) / 2
    for symbol in letters_of(kind):
        found = articulation.articulation(spoken((25, symbol)))[0]
        assert not found[:, 1 - channel].any()
        assert (found[:, channel] * np.arange(50)).sum() / found[:, channel].sum() == pytest.approx(
            middle
        )
        assert (25 - middle) / 50 == pytest.approx(LEAD)
        assert (
            found[22, channel] > 0.7 * articulation.LOUD
            and np.abs(np.diff(found[:, channel])).max() < 3
        )
    kinds = (*letters_of(CLOSURE), *letters_of(articulation.OPEN))
    others = [(k, symbol) for k, symbol in enumerate(range(5, 45)) if symbol not in kinds]
    assert not articulation.articulation(spoken(*others)).max() > 1e-3


@pytest.mark.parametrize("name", ["hama", "hama@stream", "hama@low"])
def test_in_a_synthetic_voice_the_channels_know_its_own_closures_and_vowels(name):
    """The voice tells its own times: closure is on at p, b, m and mostly off at open vowels,
    opening the other way.
    """
    had(lambda: encoders.encoder("hama"))
    speech = speak(TEXT, "hibari")
    sound = to_rate(speech.samples, speech.rate, SAMPLE_RATE)
    steps, now = (
        feature_windows.encode(sound, feature_windows.frame_count(sound), name),
        articulation.place(name),
    )
    told = steps[:, now - 1 : now + 1, -articulation.CHANNELS :].mean(1) / articulation.LOUD
    closures = [(a + b) / 2 - LEAD for symbol, a, b in speech.phonemes if symbol in SPOKEN_CLOSURES]
    vowels = [a - LEAD for symbol, a, b in speech.phonemes if symbol in SPOKEN_VOWELS]
    near = np.stack(
        [
            told[np.round(25 * np.array(moments)).astype(int)].mean(0)
            for moments in (closures, vowels)
        ]
    )
    assert near[0, 0] >= 0.7 and near[0, 1] <= 0.35, near  # "pa" is a vowel soon after a closure
    assert near[1, 1] >= 0.35 and near[1, 0] <= 0.2, near


def test_what_is_older_hears_the_hidden_states_alone():
    had(lambda: encoders.encoder("hama"))
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    for name in ("hama", "hama@low"):
        new, old = (
            feature_windows.encode(sound, 50, name, width) for width in (None, articulation.STATES)
        )
        assert new.shape == (50, 16, 146) and np.array_equal(old, new[..., :144])
        blocks = np.concatenate(
            list(feature_stream.feature_blocks(sound, name, articulation.STATES))
        )
        assert blocks.shape == old.shape and np.allclose(blocks, old, atol=1e-4)
        assert articulation.told_by(name, 146) and not articulation.told_by(name, 144)
    assert encoders.width_of(encoders.encoder("hama"), 44) == 146  # another's width is no older one
