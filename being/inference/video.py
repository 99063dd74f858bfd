"""Talking videos: sound or text and an avatar to an mp4, with the time of each step."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from being.audio.features import frame_count
from being.audio.sound import to_rate
from being.conventions import FPS, SAMPLE_RATE
from being.errors import InputRejected
from being.inference.engine import Engine
from being.inference.expression import Wish, drive
from being.inference.pose_path import pose_path
from being.inference.writing import WritingThread
from being.media import VideoWriter, output_path
from being.progress import Progress, say, warn
from being.tts import speak
from being.tts.speech import shown

SHORTEST = 0.04  # s, one frame
LONGEST = 3600.0  # s


@dataclass
class Times:
    """Seconds of each step, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block as step `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def check_sound(samples: np.ndarray, what: str) -> None:
    """Raise InputRejected for sound that cannot drive a video: too short, too long or not finite. Silence can."""
    seconds = len(samples) / SAMPLE_RATE
    if seconds < SHORTEST:
        raise InputRejected(f"{what} is {seconds * 1000:.0f} ms long", "one frame takes 40 ms", "Give a longer sound")
    if seconds > LONGEST:
        raise InputRejected(f"{what} is {seconds / 60:.0f} minutes long", "the limit is an hour", "Cut it")
    if not np.isfinite(samples).all():
        raise InputRejected(f"{what} holds samples that are not numbers", fix="Export the sound again")


def face_of(engine: Engine, samples: np.ndarray, frames: int, wish: Wish | None) -> np.ndarray:
    """What the face does beside speaking `samples`, float32 [frames, E], while the poses go back and forth."""
    avatar = engine.avatar
    own = avatar.expression.cpu().numpy()[pose_path(frames, avatar.poses)]
    return drive(samples, frames, avatar.channels, wish, own)


def render_video(engine: Engine, samples: np.ndarray, out: Path, what: str, times: Times,
                 wish: Wish | None = None) -> dict[str, Any]:
    """Write the avatar speaking `samples` (float32 [T] at 16 kHz) to `out`; figures of the video made.

    wish: what the face does meanwhile; by default it blinks and raises its brows as people do.
    """
    check_sound(samples, what)
    output_path(out)
    with times.step("expression"):
        face = face_of(engine, samples, frame_count(samples), wish)
    with times.step("features"):
        features = engine.encode(samples)
    size = engine.avatar.size
    with times.step("render and encode"), Progress("render", len(features), "frames") as progress, \
            VideoWriter(out, size, size, sound=samples, note=engine.avatar.note) as video, \
            WritingThread(video) as writing:
        for picture in engine.stream(features, expression=face):
            writing.write(picture)
            progress.advance()
    spent = times.seconds["render and encode"]
    return {"video": str(out), "frames": len(features), "seconds": round(len(features) / FPS, 2),
            "frames_per_second": round(len(features) / max(spent, 1e-9), 1),
            "encoder_busy_seconds": round(writing.busy, 3), "times": times.seconds}


def speak_video(engine: Engine, text: str, voice: str, speed: float, out: Path, times: Times,
                wish: Wish | None = None) -> dict[str, Any]:
    """Write the avatar saying `text` to `out`."""
    output_path(out)
    with times.step("voice"):
        speech = speak(text, voice, speed)
        if speech.unspoken:
            warn(f"the voice leaves out what it has no reading for: {shown(speech.unspoken)}")
        samples = to_rate(speech.samples, speech.rate, SAMPLE_RATE)
    return render_video(engine, samples, out, "the spoken text", times, wish)


def report_times(times: dict[str, float], seconds: float) -> None:
    """Print the time of each step of a video of `seconds`."""
    for name, spent in times.items():
        say(f"  {name:<18}{spent:8.2f} s")
    say(f"  {'total':<18}{sum(times.values()):8.2f} s for {seconds:.2f} s of video")


def file_stem(text: str) -> str:
    """A short file name made of the first words of a text."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words[:6])[:48] or "speech"
