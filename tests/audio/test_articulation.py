"""The articulation channels: on where lips must meet or part, in any voice."""

from __future__ import annotations

import numpy as np
import pytest
from needs import load_or_skip

from being.audio import (
    articulation,
    clip_features,
    encoder_interface,
    encoders,
    feature_stream,
    feature_windows,
)
from being.audio.phonemes import BLANK, CLOSURE, symbols_of_class
from being.conventions import SAMPLE_RATE
from being.eval.speech_events import LIP_LEAD, synthesised_events
from being.media.resampling import resample
from being.tts import speak

TEXT = "Papa and mama bought a bottle of milk. My father parked the car."


def spoken(*peaks: tuple[int, int]) -> np.ndarray:
    """Log-probabilities [1, 50, 191] of blanks and of symbols at their steps."""
    steps = np.full((1, 50, 191), -200.0, np.float32)
    steps[..., BLANK] = 0
    for at, symbol in peaks:
        steps[0, at, BLANK], steps[0, at, symbol] = -200, 0
    return steps


@pytest.mark.parametrize("phoneme_class, channel", [(CLOSURE, 0), (articulation.OPEN, 1)])
def test_a_channel_is_on_before_the_peaks_of_its_own_phonemes_alone(phoneme_class, channel):
    middle = 25 - sum(articulation.SPANS[phoneme_class]) / 2
    for symbol in symbols_of_class(phoneme_class):
        found = articulation.articulation_channels(spoken((25, symbol)))[0]
        assert not found[:, 1 - channel].any()
        assert (found[:, channel] * np.arange(50)).sum() / found[:, channel].sum() == pytest.approx(
            middle
        )
        assert (25 - middle) / 50 == pytest.approx(LIP_LEAD)
        assert (
            found[22, channel] > 0.7 * articulation.CHANNEL_MAX
            and np.abs(np.diff(found[:, channel])).max() < 3
        )
    symbols = (*symbols_of_class(CLOSURE), *symbols_of_class(articulation.OPEN))
    others = [(k, symbol) for k, symbol in enumerate(range(5, 45)) if symbol not in symbols]
    assert not articulation.articulation_channels(spoken(*others)).max() > 1e-3


@pytest.mark.parametrize("name", ["hama", "hama@stream", "hama@low", "hama-causal"])
def test_in_a_synthetic_voice_the_channels_find_its_closures_and_vowels(name):
    """At the voice's own times of p, b and m closure is on; at open vowels opening is on."""
    load_or_skip(lambda: encoders.load_encoder("hama"))
    speech = speak(TEXT, "hibari")
    audio = resample(speech.samples, speech.rate, SAMPLE_RATE)
    windows = clip_features.encode_frames(audio, feature_windows.frame_count(audio), name)
    now = articulation.frame_time_step(name)
    channels = windows[:, now - 1 : now + 1, -articulation.ARTICULATION_CHANNELS :].mean(1)
    channels /= articulation.CHANNEL_MAX
    events = synthesised_events(speech, audio)
    closures, vowels = events.closures - LIP_LEAD, events.vowels - LIP_LEAD
    near = np.stack(
        [channels[np.round(25 * moments).astype(int)].mean(0) for moments in (closures, vowels)]
    )
    assert near[0, 0] >= 0.7 and near[0, 1] <= 0.35, near  # "pa" is a vowel soon after a closure
    assert near[1, 1] >= 0.35 and near[1, 0] <= 0.2, near


def test_older_datasets_and_avatars_get_the_hidden_states_alone():
    load_or_skip(lambda: encoders.load_encoder("hama"))
    audio = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    for name in ("hama", "hama@low"):
        new, old = (
            clip_features.encode_frames(audio, 50, name, width)
            for width in (None, articulation.HIDDEN_CHANNELS)
        )
        assert new.shape == (50, 16, 146) and np.array_equal(old, new[..., :144])
        blocks = np.concatenate(
            list(feature_stream.feature_blocks(audio, name, articulation.HIDDEN_CHANNELS))
        )
        assert blocks.shape == old.shape and np.allclose(blocks, old, atol=1e-4)
        assert articulation.has_articulation(name, 146) and not articulation.has_articulation(
            name, 144
        )
    # The width of another encoder is not that of an older dataset.
    assert encoder_interface.output_width(encoders.load_encoder("hama"), 44) == 146
