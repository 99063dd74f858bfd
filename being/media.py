"""The one door to ffmpeg (through PyAV): probe, read frames by timestamps, read and write sound, write video."""

from __future__ import annotations

import contextlib
import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np

from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError, InputRejected, UsageError
from being.files import check_place, make_folders, remove_empty

AI_NOTICE = "AI-generated video of a person, made with being"
VIDEO_CODECS = {".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".mkv": ("libx264", "aac"),
                ".webm": ("libvpx-vp9", "libopus")}
MAX_SIDE = 8192  # px; a larger picture is not decoded


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says of itself. Times in seconds, `rotation` in degrees counter-clockwise."""

    path: Path
    duration: float
    width: int
    height: int
    fps: float
    codec: str
    rotation: int
    video_start: float
    audio_start: float | None
    audio_rate: int | None


def _open(path: Path) -> av.container.InputContainer:
    path = Path(path)
    if not path.exists():
        raise InputRejected(f"{path} does not exist", fix="Check the path")
    if path.is_dir():
        raise InputRejected(f"{path} is a directory", "a media file is needed")
    if path.stat().st_size == 0:
        raise InputRejected(f"{path} is empty", "the file has 0 bytes")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputRejected(f"{path} is not a readable media file", str(error).split(":")[0],
                            "Give an mp4, mov, mkv or webm video, or a wav, flac, mp3 or m4a sound") from error


def probe(path: Path) -> MediaInfo:
    """Facts of the video at `path`. Raises InputRejected when it has no picture that can be decoded."""
    path = Path(path)
    with _open(path) as container:
        if not container.streams.video:
            raise InputRejected(f"{path} has no video stream", fix="Give a video of a person who speaks")
        stream = container.streams.video[0]
        try:
            first = next(container.decode(stream))
        except (StopIteration, av.error.FFmpegError) as error:
            raise InputRejected(f"{path} holds no decodable picture", str(error) or "no frame",
                                "Export the video again as H.264 mp4") from error
        if max(first.width, first.height) > MAX_SIDE:
            raise InputRejected(f"{path} is {first.width}x{first.height}", f"larger than {MAX_SIDE} px a side")
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        sound = container.streams.audio[0] if container.streams.audio else None
        length = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        return MediaInfo(path, length, first.width, first.height, float(rate), stream.codec_context.name,
                         int(getattr(first, "rotation", 0) or 0), float(first.time or 0.0),
                         float((sound.start_time or 0) * sound.time_base) if sound else None,
                         sound.codec_context.sample_rate if sound else None)


def _picture(frame: av.VideoFrame) -> np.ndarray:
    picture = frame.to_ndarray(format="rgb24")
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def read_frames(path: Path, fps: int = FPS) -> Iterator[np.ndarray]:
    """Frames of the video at `path` as uint8 [H, W, 3] RGB at `fps`: for each output time the nearest by timestamp.

    Decoding errors inside the stream end the clip there; a video without any frame raises InputRejected.
    """
    with _open(path) as container:
        if not container.streams.video:
            raise InputRejected(f"{path} has no video stream", fix="Give a video of a person who speaks")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start, before, index = None, None, 0
        try:
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                now = float(frame.pts * stream.time_base)
                start = now if start is None else start
                now -= start
                while before is not None and index / fps < (before[0] + now) / 2:
                    yield before[1]
                    index += 1
                before = (now, _picture(frame))
        except av.error.FFmpegError as error:
            if before is None:
                raise InputRejected(f"{path} cannot be decoded", str(error)) from error
        if before is None:
            raise InputRejected(f"{path} holds no frames", fix="Export the video again as H.264 mp4")
        while index / fps < before[0] + 0.5 / fps:
            yield before[1]
            index += 1


def sample_frames(path: Path, count: int) -> list[np.ndarray]:
    """About `count` frames spread over the video, uint8 [H, W, 3] RGB, found by seeking: quick on long videos.

    Where the container cannot seek, the first frames are taken. Raises InputRejected when there is none.
    """
    frames: list[np.ndarray] = []
    with _open(path) as container:
        if not container.streams.video:
            raise InputRejected(f"{path} has no video stream", fix="Give a video of a person who speaks")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        length = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        first = float((stream.start_time or 0) * stream.time_base)
        for i in range(count if length > 0 else 0):
            moment = first + length * (i + 0.5) / count
            try:
                container.seek(round(moment / stream.time_base), stream=stream)
                found = next((x for x in container.decode(stream) if float(x.time or 0.0) >= moment - 0.5 / FPS), None)
            except (av.error.FFmpegError, OSError):
                break
            if found is not None:
                frames.append(_picture(found))
    if not frames:
        frames = [picture for _, picture in zip(range(count), read_frames(path), strict=False)]
    return frames


def read_audio(path: Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Sound of a media file as float32 [T] mono in [-1, 1] at `rate` Hz.

    When the file has a picture, sample 0 is the time of its first frame (earlier sound is cut, later sound is padded
    with zeros in front). Raises InputRejected when there is no sound track.
    """
    with _open(path) as container:
        if not container.streams.audio:
            raise InputRejected(f"{path} has no sound track", "speech is what moves the lips",
                                "Give a file in which the person is heard")
        video_start = 0.0
        if container.streams.video and not container.streams.video[0].disposition & 0x400:  # not a cover picture
            with contextlib.suppress(StopIteration, av.error.FFmpegError):  # a broken picture does not spoil the sound
                video_start = float(next(container.decode(video=0)).time or 0.0)
            container.seek(0)
    with _open(path) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        pieces: list[np.ndarray] = []
        start: float | None = None
        try:
            for frame in container.decode(audio=0):
                if start is None:
                    start = float(frame.time or 0.0)
                frame.pts = None
                pieces += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            pieces += [part.to_ndarray()[0] for part in resampler.resample(None)]
        except av.error.FFmpegError as error:
            if not pieces:
                raise InputRejected(f"the sound of {path} cannot be decoded", str(error)) from error
    if not pieces:
        raise InputRejected(f"{path} is not usable", "its sound track is empty")
    samples = np.concatenate(pieces).astype(np.float32)
    shift = round(((start or 0.0) - video_start) * rate)
    return np.pad(samples, (shift, 0)) if shift > 0 else samples[-shift:]


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
    """`path`, checked: UsageError for a type of video that is not known, BeingError for a place that cannot be made."""
    path = Path(path)
    if path.suffix.lower() not in VIDEO_CODECS:
        raise UsageError(f"cannot write {path}", f"unknown video type '{path.suffix}'",
                         f"Name it with one of {', '.join(VIDEO_CODECS)}")
    if path.is_dir():
        raise BeingError(f"cannot write {path}", "it is a directory", "Choose another place with --out")
    check_place(path)
    return path


class VideoWriter:
    """Writes RGB frames and one sound track to mp4/mov/mkv/webm; the file appears under its name only when whole.

    Sound is float32 [T] mono in [-1, 1]; it is interleaved with the frames as they come, so memory stays flat.
    """

    def __init__(self, path: Path, width: int, height: int, fps: int = FPS, sound: np.ndarray | None = None,
                 rate: int = SAMPLE_RATE, quality: int = 18, note: str = ""):
        self.path = output_path(path)
        self._part = self.path.with_name(f".{self.path.stem}.part{self.path.suffix}")
        video_codec, audio_codec = VIDEO_CODECS[self.path.suffix.lower()]
        self._made: list[Path] = []
        try:
            self._made = make_folders(self.path.parent)
            self._container = av.open(str(self._part), "w")
        except OSError as error:
            remove_empty(self._made)
            raise BeingError(f"cannot write {path}", str(error), "Choose another place with --out") from error
        self._container.metadata.update({"comment": f"{AI_NOTICE}. {note}".strip(), "title": AI_NOTICE})
        self._video = cast(av.VideoStream, self._container.add_stream(video_codec, rate=fps))
        self._video.width, self._video.height, self._video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        self._video.options = {"crf": str(quality), "preset": "veryfast"} if video_codec == "libx264" else \
            {"crf": str(quality + 12), "b:v": "0", "deadline": "realtime", "cpu-used": "6"}
        self._sound, self._rate, self._sent = sound, rate, 0
        self._audio: av.AudioStream | None = None
        if sound is not None:
            rate_out = 48000 if audio_codec == "libopus" else rate
            self._audio = cast(av.AudioStream, self._container.add_stream(audio_codec, rate=rate_out, layout="mono"))
        self._fps, self.frames = fps, 0

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one picture, uint8 [H, W, 3] RGB."""
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3, (frame.dtype, frame.shape)
        pad = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
        picture = av.VideoFrame.from_ndarray(np.pad(frame, pad, "edge") if any(map(any, pad)) else frame, "rgb24")
        picture.pts, picture.time_base = self.frames, Fraction(1, self._fps)
        self._container.mux(self._video.encode(picture))
        self.frames += 1
        self._write_sound(self.frames * self._rate // self._fps)

    def _write_sound(self, until: int) -> None:
        if self._audio is None or self._sound is None:
            return
        while self._sent < min(until, len(self._sound)):
            piece = self._sound[self._sent:min(self._sent + 4096, until)]
            data = np.ascontiguousarray(np.clip(piece, -1, 1), dtype=np.float32)[None]
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._sent, Fraction(1, self._rate)
            self._container.mux(self._audio.encode(frame))
            self._sent += len(piece)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                if self._audio is not None:
                    self._container.mux(self._audio.encode(None))
                self._container.mux(self._video.encode(None))
                self._container.close()
                os.replace(self._part, self.path)
                self._made = []
            else:
                with contextlib.suppress(av.error.FFmpegError):  # the error that brought us here is the one to show
                    self._container.close()
        finally:
            self._part.unlink(missing_ok=True)
            remove_empty(self._made)
