"""Talking videos: sound or text and an avatar to an mp4, with the time of each step."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from being.audio.feature_windows import frame_count
from being.console import Progress, say, warn
from being.conventions import FPS, SAMPLE_RATE
from being.data.expression_channels import Channels
from being.errors import InputRejected
from being.inference.animation.face_controls import FaceStream, Wish
from being.inference.engine import Engine
from being.inference.frame_writer import WritingThread
from being.media import VideoWriter, output_path
from being.media.resampling import to_rate
from being.tts import speak
from being.tts.speech import shown

Item = TypeVar("Item")
SHORTEST = 0.04  # s, one frame
BLOCK = 1 << 20  # samples looked at or listened to at once


@dataclass
class Times:
    """Seconds of each step, in order; what happens inside another step counts for the inner one
    alone.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    _inner: list[float] = field(
        default_factory=lambda: [0.0]
    )  # s of finished steps inside each running one

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block as step `name`, or as more of it."""
        start = time.perf_counter()
        self._inner.append(0.0)
        yield
        spent = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner.pop()
        self._inner[-1] += spent

    def rounded(self) -> dict[str, float]:
        """Seconds of each step, to a millisecond."""
        return {name: round(spent, 3) for name, spent in self.seconds.items()}

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items of `items`; waiting for each is more of step `name`."""
        waiting = iter(items)
        while True:
            with self.step(name):
                found = list(itertools.islice(waiting, 1))
            if not found:
                return
            yield from found


def check_sound(samples: np.ndarray, what: str) -> None:
    """Raise InputRejected for sound that cannot drive a video: too short, or not finite. Silence
    can.
    """
    seconds = len(samples) / SAMPLE_RATE
    if seconds < SHORTEST:
        raise InputRejected(
            f"{what} is {seconds * 1000:.0f} ms long",
            "one frame takes 40 ms",
            "Give a longer sound",
        )
    if not all(
        np.isfinite(samples[start : start + BLOCK]).all() for start in range(0, len(samples), BLOCK)
    ):
        raise InputRejected(
            f"{what} holds samples that are not numbers", fix="Export the sound again"
        )


class DrivenFace:
    """What the face does beside speaking `samples` (float32 [T] at 16 kHz), for the frames of a
    video in order.
    """

    def __init__(self, channels: Channels, samples: np.ndarray, wish: Wish | None, times: Times):
        with times.step("expression"):
            self._stream, self._samples, self._times, self._heard = (
                FaceStream(channels, wish),
                samples,
                times,
                0,
            )

    def __call__(self, own: np.ndarray) -> np.ndarray:
        """float32 [B, E] of the next B frames, from that of their poses."""
        with self._times.step("expression"):
            while self._stream.ready < len(own):
                self._stream.push(self._samples[self._heard : self._heard + BLOCK])
                self._heard += BLOCK
                if self._heard >= len(self._samples):
                    self._stream.finish()
            return self._stream.take(own)


def render_video(
    engine: Engine,
    samples: np.ndarray,
    out: Path,
    what: str,
    times: Times,
    wish: Wish | None = None,
    features: Path | None = None,
) -> dict[str, Any]:
    """Write the avatar speaking `samples` (float32 [T] at 16 kHz) to `out`; figures of the video
    made.

    wish: what the face does meanwhile; by default it blinks and raises its brows as people do.
    features: a file of speech features that another program has made of the sound. Sound of any
    length takes the same memory.
    """
    check_sound(samples, what)
    output_path(out)
    frames, size = frame_count(samples), engine.avatar.size
    face = DrivenFace(engine.avatar.channels, samples, wish, times)
    with times.step("features"):
        heard = engine.encode(samples) if features is None else engine.features_in(features, frames)
    with (
        times.step("render and encode"),
        Progress("render", frames, "frames") as progress,
        VideoWriter(out, size, size, sound=samples, note=engine.avatar.note) as video,
        WritingThread(video) as writing,
    ):
        for picture in engine.stream(times.each("features", heard), expression=face):
            writing.write(picture)
            progress.advance()
    assert video.frames == frames, (video.frames, frames)
    spent = times.seconds["render and encode"]
    return {
        "video": str(out),
        "frames": frames,
        "seconds": round(frames / FPS, 2),
        "frames_per_second": round(frames / max(spent, 1e-9), 1),
        "encoder_busy_seconds": round(writing.busy, 3),
        "times": times.rounded(),
    }


def speak_video(
    engine: Engine,
    text: str,
    voice: str,
    speed: float,
    out: Path,
    times: Times,
    wish: Wish | None = None,
) -> dict[str, Any]:
    """Write the avatar saying `text` to `out`."""
    output_path(out)
    with times.step("features"):
        engine.check_hearing()
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
