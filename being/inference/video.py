"""Talking videos: an avatar speaks audio or text in an mp4 file; each step is timed."""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from being.audio.feature_windows import frame_count
from being.console import Progress, console
from being.conventions import FPS, SAMPLE_RATE
from being.data.expression_channels import ExpressionChannels
from being.errors import InputRejected, UsageError
from being.inference.animation.curve_channels import MouthOverride
from being.inference.animation.curve_files import Curves
from being.inference.animation.face_controls import FaceControls, FaceStream
from being.inference.caption_drawing import CaptionDrawer
from being.inference.caption_files import (
    check_caption_file,
    check_captions,
    timed_words,
    write_captions,
)
from being.inference.engine import Engine
from being.inference.frame_writer import FrameWriter
from being.inference.look import View
from being.media import VideoSettings, VideoWriter, check_output_video, checked_output_path
from being.media.loudness import check_loudness_target, normalise_loudness
from being.media.png_sequence import PngSequenceWriter, check_picture_folder
from being.media.resampling import resample
from being.media.video_formats import PNG, check_png_settings
from being.media.writing import NO_MARKS, FileMarks
from being.provenance.content_credentials import configured_key
from being.provenance.file_marks import file_marks
from being.provenance.mark import Mark, identity_of
from being.provenance.watermark import Watermark, chosen_key
from being.threads import use_free_cores
from being.tts.script import read_script
from being.tts.speech import visible_characters
from being.tts.voices import speak_script

Item = TypeVar("Item")
# Called with the time of a frame, s, and the frame uint8 [H, W, 3]; returns the frame to show.
Draw = Callable[[float, np.ndarray], np.ndarray]
# Called with all frames uint8 [H, W, 3] in order; returns as many, of the same size.
Refine = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]
# Of a name that is made from a text
STEM_WORDS, STEM_CHARACTERS = 6, 48
MIN_SECONDS = 0.04  # of audio: one frame
BLOCK_SAMPLES = 1 << 20  # that are checked, or pushed to the face, at once


@dataclass
class StepTimes:
    """Seconds of each step, in order. The time of a step inside another counts for the inner one
    alone.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    # s of the finished steps inside each running step.
    _inner: list[float] = field(default_factory=lambda: [0.0])

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of a `with` block to step `name`."""
        start = time.perf_counter()
        self._inner.append(0.0)
        yield
        spent = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner.pop()
        self._inner[-1] += spent

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items of `items`; the time to wait for each is added to step `name`."""
        iterator = iter(items)
        while True:
            with self.step(name):
                found = list(itertools.islice(iterator, 1))
            if not found:
                return
            yield from found

    def rounded(self) -> dict[str, float]:
        """Seconds of each step, rounded to a millisecond."""
        return {name: round(spent, 3) for name, spent in self.seconds.items()}


@dataclass(frozen=True)
class VideoOutput:
    """Where a video is written, and what it may replace."""

    path: Path
    inputs: tuple[Path | None, ...] = ()  # other files that are read
    force: bool = False  # replace a file that `being` did not make
    # Replace nothing: the video gets the first free one of NAME, NAME-2, ...
    free_name: bool = False
    settings: VideoSettings = VideoSettings()
    loudness: float | None = None  # LUFS of the audio track; None: as it is
    watermark: bool = True  # mark the pixels

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of PNG pictures."""
        return self.settings.codec == PNG

    def check(self) -> None:
        """Raise, before the long work, what the writer would raise."""
        configured_key()
        if self.watermark:
            chosen_key()
        if self.loudness is not None:
            check_loudness_target(self.loudness)
        if self.is_folder:
            check_png_settings(self.settings)
            if not self.free_name:
                check_picture_folder(self.path)
        elif self.free_name:
            checked_output_path(self.path, self.settings)
        else:
            check_output_video(self.path, self.inputs, force=self.force, settings=self.settings)

    def open(
        self, view: View, audio: VideoAudio, marks: FileMarks = NO_MARKS
    ) -> VideoWriter | PngSequenceWriter:
        """A writer of the frames of `view`; marks: what the file says of itself."""
        return self.open_sized(view.width, view.height, view.clock.fps, audio, marks)

    def open_sized(
        self, width: int, height: int, fps: int, audio: VideoAudio | None, marks: FileMarks
    ) -> VideoWriter | PngSequenceWriter:
        """A writer of frames of width x height px; audio: None for a video without sound."""
        track = VideoAudio(np.zeros(0, np.float32)) if audio is None else audio
        if self.is_folder:
            return PngSequenceWriter(self.path, track.samples, track.rate, marks, self.free_name)
        return VideoWriter(
            self.path,
            width,
            height,
            fps,
            None if audio is None else track.samples,
            track.rate,
            self.settings,
            marks,
            self.free_name,
        )


@dataclass(frozen=True)
class VideoAudio:
    """The audio track of a video; what the network hears is the same audio at 16 kHz mono."""

    samples: np.ndarray  # float32 [T] or [T, C] in [-1, 1]
    rate: int = SAMPLE_RATE  # Hz

    def at_loudness(self, target: float) -> tuple[VideoAudio, dict[str, Any]]:
        """The audio at a loudness in LUFS, and figures of it. Raises as `normalise_loudness`."""
        samples = self.samples if self.samples.ndim == 2 else self.samples[:, None]
        if samples.shape[1] > 2:
            raise InputRejected(
                f"the audio has {samples.shape[1]} channels",
                "the loudness of one or two is normalised",
                "Mix it to stereo, or leave --loudness out",
            )
        found = normalise_loudness(samples, self.rate, target)
        return VideoAudio(found.samples, self.rate), found.facts()


def check_audio(samples: np.ndarray, what: str) -> None:
    """Raise InputRejected for audio that is shorter than a frame, or not finite. Silence is fine.

    what: its name in the message.
    """
    seconds = len(samples) / SAMPLE_RATE
    if seconds < MIN_SECONDS:
        raise InputRejected(
            f"{what} is {seconds * 1000:.0f} ms long",
            "one frame takes 40 ms",
            "Give longer audio",
        )
    for start in range(0, len(samples), BLOCK_SAMPLES):
        if not np.isfinite(samples[start : start + BLOCK_SAMPLES]).all():
            raise InputRejected(
                f"{what} holds samples that are not finite numbers", fix="Export the audio again"
            )


class DrivenExpression:
    """The expression of the frames of a video, in order: an `ExpressionSource` for the engine."""

    def __init__(
        self,
        channels: ExpressionChannels,
        samples: np.ndarray,
        controls: FaceControls | None,
        times: StepTimes,
        has_mouth_code: bool = False,
    ):
        """samples: float32 [T] at 16 kHz, the audio of the video."""
        self._samples, self._times = samples, times
        self._pushed = 0  # samples
        with times.step("expression"):
            self._stream = FaceStream(channels, controls, has_mouth_code=has_mouth_code)
        self.mouth_curves = self._stream.mouth_curves

    def __call__(self, pose_expression: np.ndarray) -> np.ndarray:
        """The expression float32 [B, E] of the next B frames, from that of their poses."""
        with self._times.step("expression"):
            while self._stream.ready < len(pose_expression):
                block = self._samples[self._pushed : self._pushed + BLOCK_SAMPLES]
                self._stream.push(block)
                self._pushed += BLOCK_SAMPLES
                if self._pushed >= len(self._samples):
                    self._stream.finish()
            return self._stream.take(pose_expression)


def render_video(
    engine: Engine,
    samples: np.ndarray,
    out: Path | VideoOutput,
    what: str,
    times: StepTimes,
    controls: FaceControls | None = None,
    features: Path | None = None,
    audio: VideoAudio | None = None,
    draw: Draw | None = None,
    refine: Refine | None = None,
    refinement: str = "",
) -> dict[str, Any]:
    """Write a video of the avatar speaking `samples` to `out`; return figures of the video.

    A path as `out` is a VideoOutput without other settings.

    samples: float32 [T] at 16 kHz, of any length: memory does not grow with it. what: the name of
    the audio in messages. controls: expression beside the lips; default: blinks and brows alone.
    features: a file of the audio's speech features that another program wrote. audio: the track of
    the video; default: `samples`. draw: draws into each frame before it is encoded. refine: changes
    the frames before that; refinement: what the marks say of it.
    """
    check_audio(samples, what)
    output = out if isinstance(out, VideoOutput) else VideoOutput(Path(out))
    output.check()
    track, figures = audio or VideoAudio(samples), {}
    if output.loudness is not None:
        with times.step("loudness"):
            track, figures["loudness"] = track.at_loudness(output.loudness)
    avatar, view = engine.avatar, engine.view
    frames = frame_count(samples)
    expression = DrivenExpression(
        avatar.channels, samples, controls, times, has_mouth_code=avatar.voice is not None
    )
    with times.step("features"):
        blocks = _feature_rows(engine, samples, frames, features, expression.mouth_curves)

    watermark = Watermark(identity_of(avatar.manifest)) if output.watermark else None
    mark = replace(Mark.of(avatar.manifest, watermark), refinement=refinement)
    marks = file_marks(mark, configured_key())

    count = view.clock.frames(frames)
    with (
        times.step("render and encode"),
        Progress("render", count, "frames") as progress,
        output.open(view, track, marks) as video,
        FrameWriter(video, watermark) as writer,
    ):
        images = engine.video(times.each("features", blocks), frames, expression=expression)
        if refine is not None:
            images = refine(images)
        for k, image in enumerate(images):
            use_free_cores()
            writer.write(image if draw is None else draw(k / view.clock.fps, image))
            progress.advance()

    assert video.frames == count, (video.frames, count)
    spent = times.seconds["render and encode"]
    return {
        "video": str(video.path),
        "frames": count,
        "seconds": round(frames / FPS, 2),
        "width": view.width,
        "height": view.height,
        "fps": view.clock.fps,
        "frames_per_second": round(count / max(spent, 1e-9), 1),
        "encoder_busy_seconds": round(writer.busy, 3),
        "watermark": output.watermark,
        "signed": marks.seal is not None,
        **figures,
        "times": times.rounded(),
    }


def _feature_rows(
    engine: Engine,
    samples: np.ndarray,
    frames: int,
    features: Path | None,
    mouth_curves: Curves | None,
) -> Iterator[torch.Tensor]:
    """Blocks of rows for the network: of `features`, else of the audio; curves of the mouth replace
    their channels of the mouth code.
    """
    blocks = engine.encode(samples) if features is None else engine.read_features(features, frames)
    if engine.avatar.voice is None or mouth_curves is None:
        return blocks
    mouth = MouthOverride(mouth_curves, engine.avatar.voice.units)
    return (torch.from_numpy(mouth.apply(rows.numpy())) for rows in blocks)


def speak_video(
    engine: Engine,
    text: str,
    voice: str,
    speed: float,
    out: Path | VideoOutput,
    times: StepTimes,
    controls: FaceControls | None = None,
    captions: str = "none",
) -> dict[str, Any]:
    """Write a video of the avatar saying `text` to `out`; return figures as `render_video`.

    captions: "none", "vtt" (a WebVTT file beside the video) or "burn" (drawn into its frames).
    """
    check_captions(captions, voice)
    if captions == "burn" and engine.view.alpha:
        raise UsageError(
            "--captions burn does not fit --background transparent",
            "captions are drawn into opaque pictures",
            "Use --captions vtt",
        )
    script = read_script(text)
    output = out if isinstance(out, VideoOutput) else VideoOutput(Path(out))
    output.check()
    if captions == "vtt" and not output.free_name:
        check_caption_file(output.path, output.inputs, output.force)
    with times.step("features"):
        engine.check_encoder()
    with times.step("voice"):
        speech = speak_script(script, voice, speed)
        if speech.unspoken:
            left_out = visible_characters(speech.unspoken)
            console.warn(f"the voice leaves out characters that it cannot read: {left_out}")
        for note in speech.notes:
            console.warn(note)
        samples = resample(speech.samples, speech.rate, SAMPLE_RATE)
    words = [] if captions == "none" else timed_words(script, speech, voice)
    draw = CaptionDrawer(words, speech.seconds) if captions == "burn" else None
    audio = VideoAudio(speech.samples, speech.rate)
    figures = render_video(
        engine, samples, output, "the spoken text", times, controls, audio=audio, draw=draw
    )
    if captions == "vtt":
        video = Path(figures["video"])
        file = write_captions(video, words, figures["seconds"], output.free_name)
        figures["captions"] = str(file)
    return figures


def report_times(times: dict[str, float], seconds: float) -> None:
    """Print the time of each step of a video of `seconds` s."""
    for name, spent in times.items():
        console.info(f"  {name:<18}{spent:8.2f} s")
    console.info(f"  {'total':<18}{sum(times.values()):8.2f} s for {seconds:.2f} s of video")


def file_stem(text: str) -> str:
    """A short file name from the first words of a text, in the letters of its script."""
    kept = [c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower()]
    words = unicodedata.normalize("NFC", "".join(kept)).split()
    stem = "-".join(words[:STEM_WORDS])[:STEM_CHARACTERS]
    # A mark without its letter is no name.
    return stem.strip("-") if any(c.isalnum() for c in stem) else "speech"
