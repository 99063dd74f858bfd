"""Unusual audio files: accepted with the right number of frames, or refused with one message."""

from __future__ import annotations

import numpy as np
import pytest
from needs import load_or_skip
from odd_audio import RATE, TAKEN, speechlike, write

from being import media
from being.audio import clip_features, encoders, feature_stream, feature_windows
from being.errors import InputRejected
from being.inference.video import check_audio


@pytest.mark.parametrize("name", TAKEN)
def test_unusual_audio_is_accepted_and_fills_its_own_frames(name, tmp_path):
    load_or_skip(lambda: encoders.load_encoder("hama"))
    samples, rate, floats = TAKEN[name]
    audio = media.read_audio(write(tmp_path / "audio.wav", samples, rate, floats))
    check_audio(audio, name)
    frames = feature_windows.frame_count(audio)
    assert abs(frames - len(samples) / rate * 25) <= 1
    got = clip_features.encode_frames(audio, frames)
    assert got.shape == (frames, 16, 146) and np.isfinite(got).all() and np.abs(got).max() < 50
    if name not in ("silence", "music"):
        assert np.abs(audio).max() > 0.05  # nothing cancelled, nothing lost
    blocks = np.concatenate(list(feature_stream.feature_blocks(audio)))
    assert blocks.shape == got.shape and np.allclose(blocks, got, atol=1e-5)


def test_audio_that_cannot_be_used_is_refused_in_one_message(tmp_path):
    broken = speechlike(1, RATE)
    broken[100:200] = np.nan
    for name, samples, match in (
        ("10 ms", speechlike(0.01, RATE), "10 ms long"),
        ("nan", broken, "not (numbers|finite)"),
    ):
        audio = media.read_audio(write(tmp_path / "audio.wav", samples, RATE, True))
        with pytest.raises(InputRejected, match=match):
            check_audio(audio, name)
            clip_features.encode_frames(audio, feature_windows.frame_count(audio))
    with pytest.raises(InputRejected):
        media.read_audio(write(tmp_path / "none.wav", np.zeros(0), RATE))
    (tmp_path / "text.wav").write_text("this is no audio")
    with pytest.raises(InputRejected):
        media.read_audio(tmp_path / "text.wav")
