"""A home with a dataset and a finished run of a few steps; a tone and a grey clip as inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from scene import FRAMES

from being.media import VideoWriter

TINY = [
    "data.size=48",
    "data.initial_gaussians=200",
    "train.coarse.steps=4",
    "train.fine.steps=2",
    "train.fine.batch=2",
    "train.lips.warmup_steps=0",
    "train.lips.closure_steps=0",
    "train.preview_seconds=0",
    "train.loss.feature=0",
    "model.plane_resolution=16",
    "model.mouth=audio",  # the scene is too short to learn the mouth code
]
AUDIO_WIDTH = 146  # channels of the features of the default speech encoder


def make_home(home: Path, scene: Path) -> Path:
    """Fill the folder `home`: the dataset `scene` in data/, a run of a few steps in runs/."""
    from being.config import load
    from being.train.training import train_avatar

    data = make_dataset(home, scene)
    train_avatar(
        data, load("quick", TINY, environment={}), "tiny", runs=home / "runs", device="cpu"
    )
    return home


def make_dataset(home: Path, scene: Path) -> Path:
    """Copy the dataset `scene` into data/ of `home`, with random features of the default width."""
    data = shutil.copytree(scene, home / "data/scene")
    np.save(
        data / "aud_hama.npy",
        np.random.default_rng(0).normal(size=(FRAMES, 16, AUDIO_WIDTH)).astype(np.float32),
    )
    manifest = json.loads((data / "dataset.json").read_text())
    manifest["features"]["hama"]["width"] = AUDIO_WIDTH
    (data / "dataset.json").write_text(json.dumps(manifest))
    return data


def hum(seconds: float) -> np.ndarray:
    """A tone float32 [T] at 16 kHz."""
    return (0.2 * np.sin(np.arange(round(seconds * 16_000)) * 0.3)).astype(np.float32)


def grey_clip(path: Path, seconds: float, audio: np.ndarray | None) -> Path:
    """A grey 64 px video at `path`; audio: float32 [T] at 16 kHz."""
    with VideoWriter(path, 64, 64, audio=audio) as video:
        for _ in range(round(seconds * 25)):
            video.write(np.full((64, 64, 3), 110, np.uint8))
    return path
