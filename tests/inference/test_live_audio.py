"""Live audio: chunks pushed as they come give the frames of the whole audio, in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_avatar import write_tiny_avatar
from tiny_home import hum

from being.conventions import FPS, SAMPLE_RATE
from being.inference.engine import Engine
from being.inference.feature_pool import LOOK_AHEAD_FRAMES
from being.inference.pose_path import pose_path

CHUNK_SIZES = (0, 1, 160, 333, 640, 5000)  # samples


pytestmark = pytest.mark.usefixtures("loudness_encoder")


def render_live(engine: Engine, samples: np.ndarray, seed: int) -> np.ndarray:
    """Images uint8 [F, S, S, 3] of audio in chunks; each frame is rendered as soon as it can be."""
    stream, track, images = engine.feature_stream(), engine.track(), []
    random, received = np.random.default_rng(seed), 0

    def render_until(stop: int) -> None:
        frames = np.arange(len(images), stop)
        if len(frames):
            poses = pose_path(len(frames), engine.avatar.pose_count, len(images))
            images.extend(engine.submit(track.rows(frames), poses).images().copy())

    while received < len(samples):
        chunk = samples[received : received + int(random.choice(CHUNK_SIZES))]
        received += len(chunk)
        track.push(torch.from_numpy(stream.push(chunk)))
        render_until(track.pushed - LOOK_AHEAD_FRAMES)
        # The stream states its look-ahead: these frames must be there.
        due = int((received / SAMPLE_RATE - stream.seconds) * FPS)
        assert len(images) >= due, (received, due)
    track.push(torch.from_numpy(stream.finish()))
    render_until(track.pushed)
    return np.stack(images)


@pytest.mark.parametrize("latency", ["low", "stream"])
def test_live_chunks_give_the_frames_of_the_whole_audio(tmp_path: Path, latency: str) -> None:
    avatar = write_tiny_avatar(tmp_path / "avatar", f"loudness@{latency}", 2)
    engine = Engine.load(avatar, precision="float32")
    samples = hum(2.5) * np.abs(np.sin(np.arange(40_000) / 3000)).astype(np.float32)

    whole = np.stack(list(engine.stream(engine.encode(samples))))
    assert len(whole) == 63 and np.abs(np.diff(whole.astype(int), axis=0)).max() > 0
    for seed in range(2):
        live = render_live(engine, samples, seed)
        assert live.shape == whole.shape
        # Batches of another size round differently.
        assert np.abs(live.astype(int) - whole).max() <= 1
