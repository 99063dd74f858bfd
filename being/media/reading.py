"""Media files read: what they hold, pictures by timestamps, sound on the clock of the picture."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorTrc

from being.conventions import FPS, SAMPLE_RATE
from being.errors import InputRejected
from being.media.resampling import mixed

NOT_MEDIA = {
    **dict.fromkeys(
        ("hls", "concat", "dash", "imf"), "it is a list of files"
    ),  # or leads into the net
    "tty": "it is a text",
}  # of which ffmpeg makes pictures
MAX_SIDE = 8192  # px; a larger picture is not decoded
# s, least time from one picture to the next; repeated or falling timestamps are moved up by it
STEP_MIN = 1e-3
READ_FAILURES = 20  # errors of the container after which the rest is given up
CLOCK_BACK = 1.0  # s; a larger step back of the timestamps is a clock that was set anew
SOUND_GAP = 0.04  # s of missing or doubled sound from which the timestamps are followed
TRACK_SILENT = 1e-3  # of full scale: in a track under it nothing was recorded
SOUND_GAP_MAX = 3600.0  # s; a longer jump of the timestamps is not filled with silence
NO_ALPHA = 128  # grey put behind transparent pictures


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says of itself and what its first picture shows. Times in seconds on the
    container's clock.
    """

    path: Path
    container: str  # ffmpeg's name: "mov,mp4,...", "matroska,webm"
    duration: float  # of the picture as the header says; 0 when it says nothing
    width: int  # px, of the upright picture with square pixels
    height: int
    fps: float  # average rate as the header says; 0 when it says nothing
    codec: str
    pixels: str  # ffmpeg's name of the pixel format: "yuv420p", "yuv420p10le"
    rotation: int  # degrees counter-clockwise by which the stored picture is turned to be upright
    aspect: float  # width over height of a stored pixel
    alpha: bool  # some of the picture may be transparent
    hdr: bool  # PQ or HLG transfer
    interlaced: bool
    video_start: float
    audio_start: float | None
    audio_rate: int | None
    audio_codec: str | None


@dataclass(frozen=True)
class Sound:
    """The sound of a file as pieces on the container's clock."""

    pieces: tuple[
        tuple[float, np.ndarray], ...
    ]  # start in s, samples float32 [T] mono in [-1, 1]; in order of time
    rate: int  # Hz
    mended: tuple[
        str, ...
    ] = ()  # what was chosen or put right on the way to one channel, each a short sentence

    @property
    def stop(self) -> float:
        """Time in s at which the last piece ends."""
        start, samples = self.pieces[-1]
        return start + len(samples) / self.rate

    def between(self, start: float, count: int) -> np.ndarray:
        """`count` samples float32 [count] from the time `start` in s on; zeros where there is no
        sound.
        """
        found = np.zeros(count, np.float32)
        for begin, samples in self.pieces:
            at = round((begin - start) * self.rate)
            low, high = max(0, at), min(count, at + len(samples))
            if low < high:
                found[low:high] = samples[low - at : high - at]
        return found


def _open(path: Path) -> av.container.InputContainer:
    path = Path(path)
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputRejected(f"{path} does not exist", fix="Check the path") from error
    except OSError as error:
        raise InputRejected(
            f"{path} cannot be read", error.strerror or str(error), "Check the path"
        ) from error
    if stat.S_ISDIR(mode):
        raise InputRejected(f"{path} is a directory", "a media file is needed")
    if not stat.S_ISREG(mode):
        raise InputRejected(
            f"{path} is not a file",
            "a pipe or a device can be read only once, a clip is read often",
            "Save it to a file first",
        )
    if size == 0:
        raise InputRejected(f"{path} is empty", "the file has 0 bytes")
    what = f"{path} is not a readable media file"
    fix = "Give an mp4, mov, mkv or webm video, or a wav, flac, mp3 or m4a sound"
    try:
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputRejected(what, str(error).split(":")[0], fix) from error
    if container.format.name in NOT_MEDIA:
        container.close()
        raise InputRejected(what, NOT_MEDIA[container.format.name], fix)
    return container


def _video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first stream of moving pictures: cover pictures of sound files are none."""
    cover = av.stream.Disposition.attached_pic
    return next(
        (stream for stream in container.streams.video if not stream.disposition & cover), None
    )


def _need_video(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    stream = _video_stream(container)
    if stream is None:
        raise InputRejected(
            f"{path} has no video stream", fix="Give a video of a person who speaks"
        )
    if getattr(stream, "codec_context", None) is None:
        raise InputRejected(
            f"{path} has a video codec that is not known", fix="Export the video again as H.264 mp4"
        )
    return stream


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream | av.AudioStream
) -> Iterator[Any]:
    """All video or audio frames that can be decoded; a damaged packet costs only its own frames."""
    packets, failures = container.demux(stream), 0
    while failures < READ_FAILURES:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (
            av.error.FFmpegError
        ):  # damage to the container itself: what follows may be whole again
            packets, failures = container.demux(stream), failures + 1
            continue
        with contextlib.suppress(av.error.FFmpegError):
            yield from packet.decode()


def probe(path: Path) -> MediaInfo:
    """Facts of the video at `path`. Raises InputRejected when it has no picture that can be
    decoded.
    """
    path = Path(path)
    with _open(path) as container:
        stream = _need_video(path, container)
        first = next(_decoded(container, stream), None)
        if first is None:
            raise InputRejected(
                f"{path} holds no decodable picture", fix="Export the video again as H.264 mp4"
            )
        if max(first.width, first.height) > MAX_SIDE:
            raise InputRejected(
                f"{path} is {first.width}x{first.height}",
                f"larger than {MAX_SIDE} px a side",
                "Export it smaller: 1080p is plenty",
            )
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        width, height = _upright_size(first, aspect)
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        sound = container.streams.audio[0] if container.streams.audio else None
        clock = stream.time_base or Fraction(1, 1_000_000)
        start = float(first.time or 0.0)
        length = (
            float(stream.duration * clock) if stream.duration else (container.duration or 0) / 1e6
        )
        if not stream.duration and 0 < start < length:  # Matroska gives the time of the end
            length -= start
        return MediaInfo(
            path,
            container.format.name,
            length,
            width,
            height,
            float(rate),
            stream.codec_context.name,
            first.format.name,
            int(first.rotation or 0),
            aspect,
            _has_alpha(first) or stream.metadata.get("alpha_mode") == "1",
            first.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67),
            bool(first.interlaced_frame),
            start,
            float((sound.start_time or 0) * (sound.time_base or 0)) if sound else None,
            sound.codec_context.sample_rate if sound else None,
            sound.codec_context.name if sound else None,
        )


def _turns(frame: av.VideoFrame) -> int:
    return round((frame.rotation or 0) / 90) % 4


def _upright_size(frame: av.VideoFrame, aspect: float) -> tuple[int, int]:
    width, height = max(1, round(frame.width * aspect)), frame.height
    return (height, width) if _turns(frame) % 2 else (width, height)


def _has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def picture(frame: av.VideoFrame, width: int, height: int, smooth: bool = True) -> np.ndarray:
    """The upright picture of a decoded frame, uint8 [height, width, 3] RGB, scaled in the same
    step.

    What is transparent is laid on grey. smooth: bicubic, for keeping; without it area means,
    quicker, for measuring.
    """
    pixels = _scaled(frame, width, height, "rgba" if _has_alpha(frame) else "rgb24", smooth)
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + NO_ALPHA * (255 - alpha) + 127) // 255).astype(np.uint8)


def grey_picture(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """The upright picture of a decoded frame in grey, uint8 [height, width], as area means: for
    measuring.
    """
    return _scaled(frame, width, height, "gray", smooth=False)


def _scaled(frame: av.VideoFrame, width: int, height: int, form: str, smooth: bool) -> np.ndarray:
    turns = _turns(frame)
    wide, tall = (height, width) if turns % 2 else (width, height)
    kind = "BICUBIC" if smooth else "AREA"
    pixels = frame.reformat(width=wide, height=tall, format=form, interpolation=kind).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns))  # rows of some widths come padded


def read_timed(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every picture of the video at `path` that can be decoded, with its time in s on the
    container's clock.

    Times rise by STEP_MIN at least; a frame without a timestamp, or the first after a clock set
    back, follows the one before at the average rate. Damaged packets are passed over. Raises
    InputRejected when there is no video stream.
    """
    with _open(path) as container:
        stream = _need_video(path, container)
        stream.thread_type = "AUTO"
        step = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
        last, shift = None, 0.0
        for frame in _decoded(container, stream):
            time = frame.time + shift if frame.pts is not None else None
            if last is None:
                last = time or 0.0
            elif time is not None and time < last - CLOCK_BACK:
                shift += last + step - time
                last += step
            else:
                last = max(last + STEP_MIN, last + step if time is None else time)
            yield last, frame


def read_frames(path: Path, fps: int = FPS) -> Iterator[np.ndarray]:
    """Frames of the video at `path` as uint8 [H, W, 3] RGB at `fps`: for each output time the
    nearest by timestamp.

    A video without any frame raises InputRejected.
    """
    info = probe(path)
    start, before, index = None, None, 0
    for time, frame in read_timed(path):
        start = time if start is None else start
        now = time - start
        while before is not None and index / fps < (before[0] + now) / 2:
            yield before[1]
            index += 1
        before = (now, picture(frame, info.width, info.height))
    assert before is not None, path
    while index / fps < before[0] + 0.5 / fps:
        yield before[1]
        index += 1


def read_sound(path: Path, rate: int = SAMPLE_RATE) -> Sound:
    """The sound of a media file, mono at `rate` Hz, on the container's clock: gaps in it stay gaps.

    Of several sound tracks the first that is not silent is taken. Raises InputRejected when there
    is no sound track or nothing of it can be decoded.
    """
    with _open(path) as container:
        tracks = len(container.streams.audio)
    if not tracks:
        raise InputRejected(
            f"{path} has no sound track",
            "speech is what moves the lips",
            "Give a file in which the person is heard",
        )
    for track in range(tracks):
        pieces = _read_track(path, track, rate)
        if any(np.abs(channels).max(initial=0.0) > TRACK_SILENT for _, channels in pieces):
            break
    else:
        track, pieces = 0, pieces if tracks == 1 else _read_track(path, 0, rate)
    if not pieces:
        raise InputRejected(
            f"the sound of {path} cannot be decoded",
            "nothing of it could be read",
            "Export the clip again with AAC sound",
        )
    wide = max(len(channels) for _, channels in pieces)
    ends = np.cumsum([channels.shape[1] for _, channels in pieces])[:-1]
    samples, mended = mixed(
        np.concatenate(
            [np.broadcast_to(channels, (wide, channels.shape[1])) for _, channels in pieces], axis=1
        )
    )
    chosen = (f"of {tracks} sound tracks number {track + 1} is used",) if tracks > 1 else ()
    starts = [start for start, _ in pieces]
    return Sound(
        tuple(zip(starts, np.split(samples, ends), strict=True)),
        rate,
        chosen + ((mended,) if mended else ()),
    )


def _read_track(path: Path, track: int, rate: int) -> list[tuple[float, np.ndarray]]:
    """Pieces of one sound track: start in s, samples float32 [C, T] at `rate` Hz, C at most 2."""
    pieces: list[tuple[float, list[np.ndarray]]] = []
    following, kind, resampler = 0.0, None, av.AudioResampler("fltp", "mono", rate)

    def add(frame: av.AudioFrame | None) -> None:
        pieces[-1][1].extend(part.to_ndarray() for part in resampler.resample(frame))

    with _open(path) as container:
        for frame in _decoded(container, container.streams.audio[track]):
            start, was = following if frame.pts is None else float(frame.time), kind
            kind = (frame.sample_rate, frame.layout.name, frame.format.name)
            if (
                not pieces
                or kind != was
                or start - following > SOUND_GAP
                or SOUND_GAP < following - start < CLOCK_BACK
            ):
                if pieces:
                    add(None)
                resampler = av.AudioResampler(
                    "fltp", "mono" if frame.layout.nb_channels == 1 else "stereo", rate
                )
                pieces.append((start if start > following - CLOCK_BACK else following, []))
                following = pieces[-1][0]
            following += frame.samples / frame.sample_rate
            frame.pts = None
            add(frame)
        if pieces:
            add(None)
    return [
        (start, np.concatenate(parts, axis=1).astype(np.float32))
        for start, parts in pieces
        if parts
    ]


def read_audio(path: Path, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Sound of a media file as float32 [T] mono in [-1, 1] at `rate` Hz.

    When the file has a picture, sample 0 is the time of its first frame (earlier sound is cut,
    later sound is padded with zeros in front). Raises InputRejected when there is no sound track.
    """
    sound = read_sound(path, rate)
    begin = sound.pieces[0][0]
    with _open(path) as container:
        stream = _video_stream(container)
        first = next(_decoded(container, stream), None) if stream is not None else None
        begin = begin if first is None else float(first.time or 0.0)
    while len(sound.pieces) > 1 and sound.stop - begin > SOUND_GAP_MAX:
        sound = Sound(sound.pieces[:-1], rate, sound.mended)
    return sound.between(begin, max(0, round((sound.stop - begin) * rate)))
