"""Opening media files with PyAV: file checks, stream selection, decoding of frames."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from being.errors import InputRejected
from being.paths import user_path

# Formats that ffmpeg opens and that are refused: lists of files may lead into the net, and ffmpeg
# makes images of texts.
REFUSED_FORMATS = {
    **dict.fromkeys(("hls", "concat", "dash", "imf"), "it is a list of files"),
    "tty": "it is a text",
}
# Errors of the container after which the rest of a file is given up.
READ_FAILURES = 20


def open_media(path: Path) -> av.container.InputContainer:
    """The opened media file at `path`.

    Raises InputRejected for anything but a regular file in a known media format.
    """
    path = user_path(path)
    _check_file(path)

    what = f"{path} is not a readable media file"
    fix = "Give an mp4, mov, mkv or webm video, or a wav, flac, mp3 or m4a audio file"
    try:
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputRejected(what, str(error).split(":")[0], fix) from error
    if container.format.name in REFUSED_FORMATS:
        container.close()
        raise InputRejected(what, REFUSED_FORMATS[container.format.name], fix)
    return container


def _check_file(path: Path) -> None:
    """Raise InputRejected when `path` is no regular file or is empty."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputRejected(f"{path} does not exist", fix="Check the path") from error
    except OSError as error:
        raise InputRejected(
            f"{path} cannot be read", error.strerror or str(error), "Check the path"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputRejected(f"{path} is a directory", "a media file is needed")
    if not stat.S_ISREG(status.st_mode):
        raise InputRejected(
            f"{path} is not a file",
            "a pipe or a device can be read only once, and a clip is read several times",
            "Save it to a file first",
        )
    if status.st_size == 0:
        raise InputRejected(f"{path} is empty", "the file has 0 bytes")


def find_video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream. The cover image of an audio file is none."""
    cover = av.stream.Disposition.attached_pic
    streams = (stream for stream in container.streams.video if not stream.disposition & cover)
    return next(streams, None)


def require_video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream. Raises InputRejected when there is none that can be decoded."""
    stream = find_video_stream(container)
    if stream is None:
        raise InputRejected(
            f"{path} has no video stream", fix="Give a video of a person who speaks"
        )
    # PyAV leaves the attribute out where ffmpeg knows no decoder.
    if getattr(stream, "codec_context", None) is None:
        raise InputRejected(
            f"{path} has a video codec that is not known", fix="Export the video again as H.264 mp4"
        )
    return stream


def decoded_frames(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
) -> Iterator[Any]:
    """All video or audio frames that can be decoded; a damaged packet costs only its own frames."""
    packets, failures = container.demux(stream), 0
    while failures < READ_FAILURES:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            # The container itself is damaged here; what follows may be whole again.
            packets, failures = container.demux(stream), failures + 1
            continue
        with contextlib.suppress(av.error.FFmpegError):
            yield from packet.decode()
