"""Audio files of unusual kinds that must be accepted, and a writer of wav files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

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
