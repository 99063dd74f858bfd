"""Writing media files: audio as wav, and video with one audio track."""

from __future__ import annotations

import contextlib
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np

from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError, UsageError
from being.files import Part, new_file
from being.media.colour import tag_stream_as_bt709, tagged_as_bt709
from being.paths import check_not_input, check_writable, user_path

AI_NOTICE = "AI-generated video of a person, made with being"
# File type -> video codec, audio codec.
VIDEO_CODECS = {
    ".mp4": ("libx264", "aac"),
    ".mov": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".webm": ("libvpx-vp9", "libopus"),
}
PIXELS = "yuv420p"
# Samples of one audio packet.
AUDIO_BLOCK = 4096


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write float32 [T] mono in [-1, 1] as 16-bit PCM; the file appears when it is complete."""
    pcm = (np.clip(samples, -1, 1) * 32767).round().astype("<i2")
    with new_file(Path(path)) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def check_output_video(
    path: Path, inputs: Iterable[Path | None] = (), *, force: bool = False
) -> Path:
    """`path` as a Path, checked before the long work that makes the video.

    inputs: the files that are read. force: replace a file that `being` did not make. Raises
    UsageError for an unknown type of video or an output that is an input, BeingError for a file
    that would be lost or cannot be written.
    """
    path = checked_output_path(path)
    check_not_input(path, inputs)
    if path.exists() and not force and not made_by_being(path):
        raise BeingError(
            f"{path} exists and was not made by being",
            "it would be lost",
            "Choose another path with --out, or replace it with --force",
        )
    return path


def made_by_being(video: Path) -> bool:
    """Whether a video's metadata says that `VideoWriter` made it."""
    try:
        with av.open(str(video), options={"protocol_whitelist": "file"}) as container:
            values = [str(value) for value in container.metadata.values()]
    except (OSError, ValueError):
        return False
    return any(value.startswith(AI_NOTICE) for value in values)


def checked_output_path(path: Path) -> Path:
    """`path` as a Path, checked.

    Raises UsageError for an unknown type of video, BeingError where no file can be written.
    """
    path = user_path(path)
    if path.suffix.lower() not in VIDEO_CODECS:
        raise UsageError(
            f"cannot write {path}",
            f"unknown video type '{path.suffix}'",
            f"Name it with one of {', '.join(VIDEO_CODECS)}",
        )
    if path.is_dir():
        raise BeingError(
            f"cannot write {path}", "it is a directory", "Choose another path with --out"
        )
    check_writable(path)
    return path


def _cannot_write(path: Path, error: OSError) -> BeingError:
    return BeingError(f"cannot write {path}", str(error), "Choose another path with --out")


class VideoWriter:
    """Writes RGB frames and one audio track to an mp4, mov, mkv or webm file.

    The file appears under its name when it is complete. Audio is float32 [T] mono in [-1, 1]. It is
    interleaved with the frames as they come, so memory does not grow.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int = FPS,
        audio: np.ndarray | None = None,
        rate: int = SAMPLE_RATE,
        quality: int = 18,
        note: str = "",
        free_name: bool = False,
    ):
        """width and height: px of the frames; audio: samples at `rate` Hz; quality: H.264's crf,
        lower is better; note: added to the notice in the file's metadata; free_name: replace
        nothing, `path` is then the first free one of NAME, NAME-2, ... once it is published.

        Raises as `checked_output_path`.
        """
        self.path = checked_output_path(path)
        self._fps, self.frames = fps, 0

        # The file, under a temporary name.
        try:
            self._part = Part(self.path, free_name=free_name)
        except OSError as error:
            raise _cannot_write(path, error) from error
        self._samples, self._rate, self._written_samples = audio, rate, 0
        try:
            self._open(width, height, quality, note)
        except BaseException as error:
            self._part.discard()
            if isinstance(error, OSError):
                raise _cannot_write(path, error) from error
            raise

    def _open(self, width: int, height: int, quality: int, note: str) -> None:
        """Open the container with its streams; the arguments as of `__init__`."""
        self._container = av.open(str(self._part.path), "w")
        comment = f"{AI_NOTICE}. {note}".strip()
        self._container.metadata.update({"comment": comment, "title": AI_NOTICE})

        # The video stream; its sides must be even.
        video_codec, audio_codec = VIDEO_CODECS[self.path.suffix.lower()]
        self._video = cast(av.VideoStream, self._container.add_stream(video_codec, rate=self._fps))
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = PIXELS
        tag_stream_as_bt709(self._video)
        if video_codec == "libx264":
            self._video.options = {"crf": str(quality), "preset": "veryfast"}
        else:
            self._video.options = {
                "crf": str(quality + 12),
                "b:v": "0",
                "deadline": "realtime",
                "cpu-used": "6",
            }

        # The audio stream; Opus knows no 16 kHz.
        self._audio: av.AudioStream | None = None
        if self._samples is not None:
            rate_out = 48000 if audio_codec == "libopus" else self._rate
            stream = self._container.add_stream(audio_codec, rate=rate_out, layout="mono")
            self._audio = cast(av.AudioStream, stream)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one image, uint8 [H, W, 3] RGB."""
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3, (
            frame.dtype,
            frame.shape,
        )
        if frame.shape[0] % 2 or frame.shape[1] % 2:
            margins = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
            frame = np.pad(frame, margins, "edge")
        image = av.VideoFrame.from_ndarray(frame, "rgb24")
        image = tagged_as_bt709(image, PIXELS)
        image.pts, image.time_base = self.frames, Fraction(1, self._fps)
        self._container.mux(self._video.encode(image))
        self.frames += 1
        self._write_audio(self.frames * self._rate // self._fps)

    def _write_audio(self, until: int) -> None:
        """Write the audio up to the sample `until`."""
        if self._audio is None or self._samples is None:
            return
        while self._written_samples < min(until, len(self._samples)):
            start = self._written_samples
            block = self._samples[start : min(start + AUDIO_BLOCK, until)]
            data = np.ascontiguousarray(np.clip(block, -1, 1), dtype=np.float32)[None]
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = self._rate, start
            frame.time_base = Fraction(1, self._rate)
            self._container.mux(self._audio.encode(frame))
            self._written_samples += len(block)

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The part is published after a good end, and discarded after any error.
        with self._part:
            if kind is None:
                if self._audio is not None:
                    self._container.mux(self._audio.encode(None))
                self._container.mux(self._video.encode(None))
                self._container.close()
                self.path = self._part.publish()
                return
            # The error that ended the block is the one to show.
            with contextlib.suppress(av.error.FFmpegError):
                self._container.close()
            self._part.discard()
