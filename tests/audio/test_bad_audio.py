"""Sound files of every kind, from file to features: taken or refused with one message, as many
frames as the sound.
"""

from __future__ import annotations

import numpy as np
import pytest
from needs import had
from odd_audio import RATE, TAKEN, speechlike, write

from being import media
from being.audio import encoders, feature_stream, feature_windows
from being.errors import InputRejected
from being.inference.video import check_sound


@pytest.mark.parametrize("name", TAKEN)
def test_odd_sound_is_taken_and_fills_its_own_frames(name, tmp_path):
    had(lambda: encoders.encoder("hama"))
    samples, rate, floats = TAKEN[name]
    sound = media.read_audio(write(tmp_path / "sound.wav", samples, rate, floats))
    check_sound(sound, name)
    frames = feature_windows.frame_count(sound)
    assert abs(frames - len(samples) / rate * 25) <= 1
    got = feature_windows.encode(sound, frames)
    assert got.shape == (frames, 16, 146) and np.isfinite(got).all() and np.abs(got).max() < 50
    if name not in ("silence", "music"):
        assert np.abs(sound).max() > 0.05  # nothing cancelled, nothing lost
    blocks = np.concatenate(list(feature_stream.feature_blocks(sound)))
    assert blocks.shape == got.shape and np.allclose(blocks, got, atol=1e-5)


def test_what_cannot_drive_a_mouth_is_refused_in_one_message(tmp_path):
    broken = speechlike(1, RATE)
    broken[100:200] = np.nan
    for name, samples, match in (
        ("10 ms", speechlike(0.01, RATE), "10 ms long"),
        ("nan", broken, "not (numbers|finite)"),
    ):
        sound = media.read_audio(write(tmp_path / "sound.wav", samples, RATE, True))
        with pytest.raises(InputRejected, match=match):
            check_sound(sound, name)
            feature_windows.encode(sound, feature_windows.frame_count(sound))
    with pytest.raises(InputRejected):
        media.read_audio(write(tmp_path / "none.wav", np.zeros(0), RATE))
    (tmp_path / "text.wav").write_text("this is no sound")
    with pytest.raises(InputRejected):
        media.read_audio(tmp_path / "text.wav")
