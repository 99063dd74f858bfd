"""Render an avatar while its audio still arrives, in chunks, as from a microphone or a voice.

    python examples/stream_audio.py runs/me/RUN speech.wav

Each line says how much audio has arrived, and which frames could be rendered from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

import being
from being.conventions import SAMPLE_RATE
from being.inference.feature_pool import LOOK_AHEAD_FRAMES
from being.inference.pose_path import pose_path
from being.media import read_audio

CHUNK = SAMPLE_RATE // 10  # samples: 100 ms


def stream_frames(engine: being.Engine, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """For each chunk, and once after the last, the frames that are ready: uint8 [k, S, S, 3].

    chunks: audio float32 [T] at 16 kHz, of any lengths. A frame needs the audio around it, so the
    frames lag behind the audio by the encoder's look-ahead.
    """
    stream = engine.feature_stream()
    with engine.track() as track:
        done = 0

        def render_until(stop: int) -> np.ndarray:
            nonlocal done
            frames = np.arange(done, max(done, stop))
            poses = pose_path(len(frames), engine.avatar.pose_count, done)
            done += len(frames)
            if not len(frames):
                return np.zeros((0, engine.avatar.size, engine.avatar.size, 3), np.uint8)
            # The images lie in memory that is used again.
            return engine.submit(track.rows(frames), poses).images().copy()

        for chunk in chunks:
            track.push(torch.from_numpy(stream.push(chunk)))
            yield render_until(track.pushed - LOOK_AHEAD_FRAMES)
        track.push(torch.from_numpy(stream.finish()))
        yield render_until(track.pushed)


def main() -> None:
    """Read the arguments, render, and print what was ready when."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "audio"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    engine = being.Engine.load(arguments.run)
    samples = read_audio(arguments.audio)
    chunks = [samples[k : k + CHUNK] for k in range(0, len(samples), CHUNK)]
    count = 0
    for k, images in enumerate(stream_frames(engine, chunks)):
        seconds = min((k + 1) * CHUNK, len(samples)) / SAMPLE_RATE
        print(f"{seconds:6.2f} s of audio: frames {count} to {count + len(images)}")
        count += len(images)
    engine.close()


if __name__ == "__main__":
    main()
