"""Short clips of the built-in speaker, and a broken one, for tests of whole pipelines."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2

from being.conventions import FPS, SAMPLE_RATE
from being.media import VideoWriter, read_audio, read_frames
from being.sample import sample_clip

SIDE = 256  # px


def short_clips(folder: Path, count: int, seconds: float = 2.4) -> list[Path]:
    """`count` clips that follow each other in the built-in clip, each `seconds` long."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, audio = read_frames(sample_clip()), read_audio(sample_clip())
    length, samples = round(seconds * FPS), round(seconds * SAMPLE_RATE)
    made = []
    for k in range(count):
        path = folder / f"clip-{k}.mp4"
        sound = audio[k * samples : (k + 1) * samples]
        with VideoWriter(path, SIDE, SIDE, audio=sound) as video:
            for frame in islice(frames, length):
                video.write(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        made.append(path)
    return made


def broken_clip(path: Path) -> Path:
    """A file that is called a video and is none."""
    path.write_bytes(b"this is no video" * 100)
    return path
