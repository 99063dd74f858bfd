"""The audio of a dataset: padded or cut to its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from being.data.dataset import Dataset
from being.media import write_wav


@pytest.mark.parametrize("length", [0.5, 1.0, 1.5])
def test_audio_fills_exactly_the_frames(tmp_path: Path, length: float) -> None:
    samples = np.linspace(-0.5, 0.5, round(length * 10 * 640)).astype(np.float32)
    write_wav(tmp_path / "aud.wav", samples)
    dataset = Dataset(tmp_path, {"name": "a", "frames": 10, "width": 8, "height": 8})
    for frames, count in ((None, 10), (4, 4), (12, 12)):
        audio = dataset.audio(frames)
        kept = min(len(samples), 640 * count)
        assert audio.shape == (640 * count,) and audio.dtype == np.float32
        assert np.abs(audio[:kept] - samples[:kept]).max() < 1e-4
        assert not audio[kept:].any()
