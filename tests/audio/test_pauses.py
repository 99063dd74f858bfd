"""Pauses that are read from speech features."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import SPEAKER

from being.audio.articulation import frame_time_step
from being.audio.clip_features import encode_segments
from being.audio.feature_windows import frame_count, strips
from being.audio.pauses import (
    MOST_QUIET,
    READOUT_ENCODERS,
    pause_readout,
    quiet_around,
    quiet_so_far,
    quietness,
)
from being.conventions import ATTENTION_PAST, SAMPLE_RATE, STEPS_PER_FRAME
from being.media import read_audio


def test_quiet_steps_are_counted_on_both_sides() -> None:
    quiet = np.array([[0, 1, 1, 1, 1, 0], [1, 1, 1, 0.5, 1, 1]], np.float32)
    # The two steps before, and 0.5 + 0.5 * 1 + 0.5 * 1 steps from there on
    np.testing.assert_allclose(quiet_around(quiet, 3), [[1, 1, 2], [1, 1, 1.5]])

    own = np.array([[1, 1], [1, 1], [0, 1], [1, 1], [1, 0.5]], np.float32)
    np.testing.assert_allclose(quiet_so_far(own, 7.0), [9, 11, 1, 3, 2.5])
    assert quiet_so_far(own[:1], MOST_QUIET) == MOST_QUIET


def test_steps_beyond_the_audio_are_quiet() -> None:
    readout = np.array([1.0, 0.0, -5.0], np.float32)
    strip = np.array([[[0, 0], [20, 0], [-20, 1]]], np.float32)
    np.testing.assert_allclose(quietness(strip, readout), [[1, 1, 0]], atol=1e-4)


def test_other_encoders_have_none() -> None:
    assert pause_readout("deepspeech", 29) is None
    assert pause_readout("hama", 144) is None


@pytest.mark.parametrize("encoder", READOUT_ENCODERS)
def test_pauses_of_a_sentence_are_found(encoder: str, speech_encoder: None) -> None:
    speech = read_audio(SPEAKER)[int(0.5 * SAMPLE_RATE) : int(2.5 * SAMPLE_RATE)]
    silence = np.zeros(SAMPLE_RATE, np.float32)
    audio = np.concatenate([silence, speech, silence, speech])
    rows = encode_segments(audio, [(0, frame_count(audio) - 1)], encoder)
    bounds = np.tile([0, len(rows) - 1], (len(rows), 1))
    readout = pause_readout(encoder, rows.shape[2])
    assert readout is not None
    now = STEPS_PER_FRAME * ATTENTION_PAST + frame_time_step(encoder)
    quiet = quietness(strips(rows, bounds), readout)[:, now]
    second = 25
    middle = second + round(len(speech) / SAMPLE_RATE * 25)
    assert (quiet[3 : second - 4] > 0.5).all()
    assert (quiet[middle + 4 : middle + second - 4] > 0.5).all()
    blocks = audio[: len(rows) // 25 * 25 * 640].reshape(-1, 640)
    loud = np.sqrt((blocks**2).mean(1)) > 0.3 * np.sqrt((speech**2).mean())
    assert (quiet[: len(loud)][loud] > 0.5).mean() < 0.1
