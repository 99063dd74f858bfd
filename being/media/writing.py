"""Writing media files: audio as wav, and video with one audio track."""

from __future__ import annotations

import contextlib
import wave
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np

from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError
from being.files import Part, new_file, write_bytes
from being.media.audio_reading import LAYOUTS
from being.media.colour import tag_stream_as_bt709, tagged_as_bt709
from being.media.video_formats import VideoSettings, choose_format
from being.paths import check_not_input, check_writable, user_path

AI_NOTICE = "AI-generated video of a person, made with being"
# Samples of one audio packet.
AUDIO_BLOCK = 4096
DEFAULT_SETTINGS = VideoSettings()
SIDECAR = ".c2pa"  # suffix of the file with a signed manifest, beside a video that cannot hold it
# Signs a finished file in place; returns the manifest where it must lie beside the file.
Seal = Callable[[Path], bytes | None]


@dataclass(frozen=True)
class FileMarks:
    """What a written file says of itself."""

    note: str = ""  # added to the notice, for people
    facts: str = ""  # the mark, JSON on one line, for programs; see `being.provenance.mark`
    made: str = ""  # time, ISO 8601
    xmp: str = ""  # the same for pictures, as XMP
    seal: Seal | None = None

    @property
    def comment(self) -> str:
        """The text for people."""
        return f"{AI_NOTICE}. {self.note}".strip()

    def tags(self, suffix: str) -> dict[str, str]:
        """The metadata of a video file of this type."""
        comment, tags = self.comment, {"title": AI_NOTICE}
        # ffmpeg writes no description into mov files.
        if suffix == ".mov":
            comment = f"{comment} {self.facts}".strip()
        elif self.facts:
            tags["description"] = self.facts
        if self.made:
            tags["creation_time"] = self.made
        return {**tags, "comment": comment}


NO_MARKS = FileMarks()


def sidecar_of(video: Path) -> Path:
    """The file beside a video that holds its signed manifest: `speech.webm.c2pa`."""
    return video.with_name(video.name + SIDECAR)


def write_wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write float32 [T] mono in [-1, 1] as 16-bit PCM; the file appears when it is complete."""
    pcm = (np.clip(samples, -1, 1) * 32767).round().astype("<i2")
    with new_file(Path(path)) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def check_output_video(
    path: Path,
    inputs: Iterable[Path | None] = (),
    *,
    force: bool = False,
    settings: VideoSettings = DEFAULT_SETTINGS,
) -> Path:
    """`path` as a Path, checked before the long work that makes the video.

    inputs: the files that are read. force: replace a file that `being` did not make. Raises
    UsageError as `choose_format` and for an output that is an input, BeingError for a file that
    would be lost or cannot be written.
    """
    path = checked_output_path(path, settings)
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


def checked_output_path(path: Path, settings: VideoSettings = DEFAULT_SETTINGS) -> Path:
    """`path` as a Path, checked.

    Raises UsageError as `choose_format`, BeingError where no file can be written.
    """
    path = user_path(path)
    choose_format(path, settings)
    if path.is_dir():
        raise BeingError(
            f"cannot write {path}", "it is a directory", "Choose another path with --out"
        )
    check_writable(path)
    return path


def _cannot_write(path: Path, error: OSError) -> BeingError:
    return BeingError(f"cannot write {path}", str(error), "Choose another path with --out")


class VideoWriter:
    """Writes RGB or RGBA frames and one audio track to an mp4, mov, mkv or webm file.

    The file appears under its name when it is complete. Audio is interleaved with the frames as
    they come, so memory does not grow.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int = FPS,
        audio: np.ndarray | None = None,
        rate: int = SAMPLE_RATE,
        settings: VideoSettings = DEFAULT_SETTINGS,
        marks: FileMarks = NO_MARKS,
        free_name: bool = False,
    ):
        """width and height: px of the frames; audio: float32 [T] or [T, C] in [-1, 1] at `rate` Hz,
        C is one of `LAYOUTS`; marks: what the file says of itself; free_name: replace nothing,
        `path` is then the first free one of NAME, NAME-2, ... once it is published.

        Raises as `checked_output_path`.
        """
        self.path = checked_output_path(path, settings)
        self._format, self._alpha = choose_format(self.path, settings), settings.alpha
        self._fps, self.frames, self._marks = fps, 0, marks

        # The file, under a temporary name.
        try:
            self._part = Part(self.path, free_name=free_name)
        except OSError as error:
            raise _cannot_write(path, error) from error
        if audio is not None and audio.ndim == 1:
            audio = audio[:, None]
        self._samples, self._rate, self._written_samples = audio, rate, 0
        try:
            self._open(width, height)
        except BaseException as error:
            self._part.discard()
            if isinstance(error, OSError):
                raise _cannot_write(path, error) from error
            raise

    def _open(self, width: int, height: int) -> None:
        """Open the container with its streams; the arguments as of `__init__`."""
        form = self._format
        self._container = av.open(
            str(self._part.path), "w", container_options=form.container_options
        )
        self._container.metadata.update(self._marks.tags(self.path.suffix.lower()))

        # The video stream; its sides must be even.
        self._video = cast(av.VideoStream, self._container.add_stream(form.encoder, rate=self._fps))
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = form.pixels
        tag_stream_as_bt709(self._video)
        self._video.options = {**form.options}
        if form.bitrate is not None:
            self._video.bit_rate = form.bitrate
        if form.tag is not None:
            self._video.codec_context.codec_tag = form.tag

        # The audio stream; the encoder brings other rates to its own.
        self._audio: av.AudioStream | None = None
        if self._samples is not None:
            self._layout = LAYOUTS[self._samples.shape[1]]
            stream = self._container.add_stream(
                form.audio, rate=form.audio_rate(self._rate), layout=self._layout
            )
            self._audio = cast(av.AudioStream, stream)

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one image, uint8 [H, W, 3] RGB, or with transparency [H, W, 4] RGBA."""
        channels = 4 if self._alpha else 3
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == channels, (
            frame.dtype,
            frame.shape,
        )
        if frame.shape[0] % 2 or frame.shape[1] % 2:
            margins = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
            frame = np.pad(frame, margins, "edge")
        image = av.VideoFrame.from_ndarray(frame, "rgba" if self._alpha else "rgb24")
        image = tagged_as_bt709(image, self._format.pixels)
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
            data = np.ascontiguousarray(np.clip(block, -1, 1).T, dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(data, format="fltp", layout=self._layout)
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
                self._publish()
                return
            # The error that ended the block is the one to show.
            with contextlib.suppress(av.error.FFmpegError):
                self._container.close()
            self._part.discard()

    def _publish(self) -> None:
        """Sign the finished file, and give it its name."""
        seal = self._marks.seal
        manifest = seal(self._part.path) if seal is not None else None
        self.path = self._part.publish()
        # A manifest of an earlier video of this name is none of this one.
        beside = sidecar_of(self.path)
        if manifest is None:
            beside.unlink(missing_ok=True)
        else:
            write_bytes(beside, manifest)
