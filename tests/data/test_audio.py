"""The audio of a dataset: padded or cut to its frames; and its speech features."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from being.data.dataset import Dataset
from being.errors import InputRejected
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


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e7, 1e300])
def test_speech_features_beyond_the_range_are_refused_without_a_warning(
    value: float, scene: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(scene, tmp_path / "scene")
    name, entry = next(iter(Dataset.open(copy).manifest["features"].items()))
    features = np.load(copy / entry["file"]).astype(np.float64)
    features[3, 4, 0] = value
    np.save(copy / entry["file"], features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputRejected, match="not finite"):
            Dataset.open(copy).features(name)
