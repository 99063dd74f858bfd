"""Sound files of every kind, from file to features: taken or refused with one message, as many
frames as the sound.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from needs import had

from being import media
from being.audio import encoders, features, streaming
from being.errors import InputRejected
from being.inference.video import check_sound

RATE = 16_000


def write(path: Path, samples: np.ndarray, rate: int, floats: bool = False) -> Path:
    """A wav file of samples [T] or [T, 2], 16-bit, or float32 as they are."""
    data = samples.astype("<f4") if floats else (samples.clip(-1, 1) * 32767).astype("<i2")
    channels, width = (1 if samples.ndim == 1 else samples.shape[1]), data.itemsize
    kind, frame = 3 if floats else 1, channels * width
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, 8 * width)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(head))
        + head
        + b"data"
        + struct.pack("<I", data.nbytes)
        + data.tobytes()
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def speechlike(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * 140 * time) * np.sin(2 * np.pi * 2 * time) ** 2


def chords(seconds: float, rate: int) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.1 * sum(np.sin(2 * np.pi * f * time) for f in (261.6, 329.6, 392.0, 523.3))


TAKEN = {
    "silence": (np.zeros(2 * RATE), RATE, False),
    "music": (chords(2, 44_100), 44_100, False),
    "telephone, 8 kHz": (speechlike(1.7, 8000), 8000, False),
    "stereo, 48 kHz": (np.stack([speechlike(1.3, 48_000)] * 2, 1), 48_000, False),
    "stereo of opposite phase": (
        np.stack([speechlike(1, RATE), -speechlike(1, RATE)], 1),
        RATE,
        False,
    ),
    "one dead channel": (np.stack([speechlike(1, RATE), np.zeros(RATE)], 1), RATE, False),
    "clipped": (speechlike(1, RATE) * 50, RATE, False),
    "over full scale": (speechlike(1, RATE) * 50, RATE, True),
    "one frame and a bit": (speechlike(0.045, RATE), RATE, False),
}


@pytest.mark.parametrize("name", TAKEN)
def test_odd_sound_is_taken_and_fills_its_own_frames(name, tmp_path):
    had(lambda: encoders.encoder("hama"))
    samples, rate, floats = TAKEN[name]
    sound = media.read_audio(write(tmp_path / "sound.wav", samples, rate, floats))
    check_sound(sound, name)
    frames = features.frame_count(sound)
    assert abs(frames - len(samples) / rate * 25) <= 1
    got = features.encode(sound, frames)
    assert got.shape == (frames, 16, 146) and np.isfinite(got).all() and np.abs(got).max() < 50
    if name not in ("silence", "music"):
        assert np.abs(sound).max() > 0.05  # nothing cancelled, nothing lost
    blocks = np.concatenate(list(streaming.feature_blocks(sound)))
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
            features.encode(sound, features.frame_count(sound))
    with pytest.raises(InputRejected):
        media.read_audio(write(tmp_path / "none.wav", np.zeros(0), RATE))
    (tmp_path / "text.wav").write_text("this is no sound")
    with pytest.raises(InputRejected):
        media.read_audio(tmp_path / "text.wav")
