"""Media files written: sound as wav; video with one sound track, frame after frame."""

from __future__ import annotations

import contextlib
import os
import wave
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np

from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError, UsageError
from being.paths import check_place, make_folders, remove_empty

AI_NOTICE = "AI-generated video of a person, made with being"
VIDEO_CODECS = {
    ".mp4": ("libx264", "aac"),
    ".mov": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".webm": ("libvpx-vp9", "libopus"),
}


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write float32 [T] mono in [-1, 1] as 16-bit PCM; the file appears whole or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    pcm = (np.clip(samples, -1, 1) * 32767).round().astype("<i2")
    with wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())
    os.replace(part, path)


def output_path(path: Path) -> Path:
    """`path`, checked: UsageError for a type of video that is not known, BeingError for a place
    that cannot be made.
    """
    path = Path(path)
    if path.suffix.lower() not in VIDEO_CODECS:
        raise UsageError(
            f"cannot write {path}",
            f"unknown video type '{path.suffix}'",
            f"Name it with one of {', '.join(VIDEO_CODECS)}",
        )
    if path.is_dir():
        raise BeingError(
            f"cannot write {path}", "it is a directory", "Choose another place with --out"
        )
    check_place(path)
    return path


class VideoWriter:
    """Writes RGB frames and one sound track to mp4/mov/mkv/webm; the file appears under its name
    only when whole.

    Sound is float32 [T] mono in [-1, 1]; it is interleaved with the frames as they come, so memory
    stays flat.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int = FPS,
        sound: np.ndarray | None = None,
        rate: int = SAMPLE_RATE,
        quality: int = 18,
        note: str = "",
    ):
        self.path = output_path(path)
        self._part = self.path.with_name(f".{self.path.stem}.part{self.path.suffix}")
        video_codec, audio_codec = VIDEO_CODECS[self.path.suffix.lower()]
        self._made: list[Path] = []
        try:
            self._made = make_folders(self.path.parent)
            self._container = av.open(str(self._part), "w")
        except OSError as error:
            remove_empty(self._made)
            raise BeingError(
                f"cannot write {path}", str(error), "Choose another place with --out"
            ) from error
        self._container.metadata.update(
            {"comment": f"{AI_NOTICE}. {note}".strip(), "title": AI_NOTICE}
        )
        self._video = cast(av.VideoStream, self._container.add_stream(video_codec, rate=fps))
        self._video.width, self._video.height, self._video.pix_fmt = (
            width + width % 2,
            height + height % 2,
            "yuv420p",
        )
        self._video.options = (
            {"crf": str(quality), "preset": "veryfast"}
            if video_codec == "libx264"
            else {"crf": str(quality + 12), "b:v": "0", "deadline": "realtime", "cpu-used": "6"}
        )
        self._sound, self._rate, self._sent = sound, rate, 0
        self._audio: av.AudioStream | None = None
        if sound is not None:
            rate_out = 48000 if audio_codec == "libopus" else rate
            self._audio = cast(
                av.AudioStream,
                self._container.add_stream(audio_codec, rate=rate_out, layout="mono"),
            )
        self._fps, self.frames = fps, 0

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one picture, uint8 [H, W, 3] RGB."""
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3, (
            frame.dtype,
            frame.shape,
        )
        pad = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
        picture = av.VideoFrame.from_ndarray(
            np.pad(frame, pad, "edge") if any(map(any, pad)) else frame, "rgb24"
        )
        picture.pts, picture.time_base = self.frames, Fraction(1, self._fps)
        self._container.mux(self._video.encode(picture))
        self.frames += 1
        self._write_sound(self.frames * self._rate // self._fps)

    def _write_sound(self, until: int) -> None:
        if self._audio is None or self._sound is None:
            return
        while self._sent < min(until, len(self._sound)):
            piece = self._sound[self._sent : min(self._sent + 4096, until)]
            data = np.ascontiguousarray(np.clip(piece, -1, 1), dtype=np.float32)[None]
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = (
                self._rate,
                self._sent,
                Fraction(1, self._rate),
            )
            self._container.mux(self._audio.encode(frame))
            self._sent += len(piece)

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._audio is not None:
                    self._container.mux(self._audio.encode(None))
                self._container.mux(self._video.encode(None))
                self._container.close()
                os.replace(self._part, self.path)
                self._made = []
            else:
                with contextlib.suppress(
                    av.error.FFmpegError
                ):  # the error that brought us here is the one to show
                    self._container.close()
        finally:
            self._part.unlink(missing_ok=True)
            remove_empty(self._made)
