"""Joining videos one after the other into one file, without loss where their streams allow it."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from being.conventions import FPS
from being.errors import BeingError, InputRejected
from being.files import new_file
from being.media.audio_reading import ORIGINAL_RATE_MAX, AudioTrack, read_audio_track
from being.media.colour import tag_stream_as_bt709, tagged_as_bt709
from being.media.containers import open_media, require_video_stream
from being.media.video_reading import MediaInfo, probe, read_timed_frames, rgb_image

SUFFIX = ".mkv"  # of a joined video: Matroska holds every codec and a time for each frame
CLOCK = Fraction(1, 1000)  # s, unit of Matroska's times
# Difference of two frame rates, or of a rate and a multiple of the lowest one, over the rate.
RATE_TOLERANCE = 0.02
AUDIO_MISSING = 0.2  # s of picture at the ends of a part that may have no audio
AUDIO_BLOCK = 4096  # samples
# Where the picture is encoded again: x264's constant rate factor, and pixels that keep RGB.
QUALITY, PIXELS = "6", "yuv444p10le"
SAME_TIME = 0.0025  # s, by which times may be rounded in the joined file

Advance = Callable[[int], None]


# Width, height, pixel format, rotation, and ffmpeg's numbers of the colour tags of a frame.
Form = tuple[int | str, ...]


@dataclass(frozen=True)
class Part:
    """One video of a joined one, and the frames of it that are kept."""

    info: MediaInfo
    audio: AudioTrack
    # float64 [n], s on the video's clock, of all its frames
    times: np.ndarray
    # int64 [n], checksum of each frame
    checksums: np.ndarray
    # size, pixel format and colour tags that its frames have
    forms: frozenset[Form]
    # int64 [k], the kept frames, ascending
    kept: np.ndarray

    @property
    def step(self) -> float:
        """Usual time between two kept frames, s."""
        return float(np.median(np.diff(self.times[self.kept])))

    @property
    def seconds(self) -> float:
        """Length of the kept frames, s."""
        return float(self.times[self.kept[-1]] - self.times[self.kept[0]]) + self.step

    @property
    def whole(self) -> bool:
        """Whether all frames are kept."""
        return len(self.kept) == len(self.times)


@dataclass(frozen=True)
class Joined:
    """What `join_videos` has made."""

    # frames of each part in the joined video
    frames: tuple[int, ...]
    # the encoded pictures are those of the parts, bit by bit
    copied: bool


def join_videos(videos: Sequence[Path], out: Path, advance: Advance | None = None) -> Joined:
    """Write the videos one after the other into the Matroska file `out`.

    Every frame keeps its distance in time to the frame before. The audio of each part is cut or
    padded with silence to its picture, at the highest of the sample rates, in one channel. Pictures
    are copied as they are where all videos have the same codec and parameters and the joined file
    decodes to the same frames; else they are encoded again in the colours that `rgb_image` gives.
    Of videos whose rate is a multiple of the lowest rate, as many frames are left out. Picture
    without audio at the ends of a part is left out. advance(n): n more frames have been read.

    Raises InputRejected for videos of different sizes or frame rates, or without usable audio;
    BeingError where ffmpeg cannot write the file.
    """
    infos = [probe(video) for video in videos]
    _check_sizes(infos)
    rate = max(min(info.audio_rate or 0, ORIGINAL_RATE_MAX) for info in infos)
    parts = [_read_part(info, rate, advance) for info in infos]
    parts = _at_one_rate(parts)
    frames = tuple(len(part.kept) for part in parts)
    try:
        with new_file(out) as target:
            copied = _can_copy(parts) and _write_copy(target, parts, advance)
            if not copied:
                _write(target, parts, _encoded, advance)
    except av.error.FFmpegError as error:
        raise BeingError(
            f"the clips cannot be joined in {out}",
            str(error),
            "Free disk space, or export the clips again as H.264 mp4",
        ) from error
    return Joined(frames, copied)


def _check_sizes(infos: Sequence[MediaInfo]) -> None:
    """Raise InputRejected for a video whose upright picture is not as large as the first one's."""
    first = infos[0]
    for info in infos[1:]:
        if (info.width, info.height) != (first.width, first.height):
            raise InputRejected(
                f"{info.path} is {info.width}x{info.height} px, {first.path} is "
                f"{first.width}x{first.height} px",
                "clips of one dataset have one picture size",
                "Export them in one size, or leave one out",
            )


def _read_part(info: MediaInfo, rate: int, advance: Advance | None) -> Part:
    """Times and checksums of all frames of a video, and its audio at `rate` Hz."""
    audio = read_audio_track(info.path, rate)
    times, checksums, forms = _timeline(info.path, advance)
    low, high = audio.pieces[0][0] - AUDIO_MISSING, audio.stop + AUDIO_MISSING
    kept = np.flatnonzero((times >= low) & (times <= high))
    if len(kept) < 2:
        raise InputRejected(
            f"{info.path} has no picture with audio",
            "its picture and its audio lie at different times",
            "Export the clip again as H.264 mp4 with AAC audio, or leave it out",
        )
    return Part(info, audio, times, checksums, forms, kept)


def _timeline(
    video: Path, advance: Advance | None
) -> tuple[np.ndarray, np.ndarray, frozenset[Form]]:
    """Times float64 [n] in s, checksums int64 [n] and forms of all frames of a video."""
    times, checksums, forms = [], [], set()
    for time, frame in read_timed_frames(video):
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
        # What stands beside the picture in memory may be anything.
        picture = rows[: plane.height, : plane.width].tobytes()
        times.append(time)
        checksums.append(zlib.crc32(picture))
        forms.add(_form(frame))
        if advance:
            advance(1)
    return np.array(times), np.array(checksums, np.int64), frozenset(forms)


def _form(frame: av.VideoFrame) -> Form:
    """Size, pixel format, rotation and colour tags of a frame."""
    tags = (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)
    turned = int(frame.rotation or 0)
    return (frame.width, frame.height, frame.format.name, turned, *(int(tag) for tag in tags))


def _at_one_rate(parts: list[Part]) -> list[Part]:
    """The parts with the lowest of their frame rates: of a multiple of it, frames are left out.

    Raises InputRejected for a rate that is no multiple.
    """
    slow = max(parts, key=lambda part: part.step)
    found = []
    for part in parts:
        times = round(slow.step / part.step)
        if abs(slow.step / (times * part.step) - 1) > RATE_TOLERANCE:
            raise InputRejected(
                f"{part.info.path} has {1 / part.step:.2f} frames/s, {slow.info.path} has "
                f"{1 / slow.step:.2f}",
                "neither is a multiple of the other, and one of them would judder",
                f"Convert both to {FPS} frames/s with a video editor, or leave one out",
            )
        found.append(replace(part, kept=part.kept[::times]))
    return found


def _can_copy(parts: Sequence[Part]) -> bool:
    """Whether the encoded pictures of all parts fit into one stream as they are."""
    headers = set()
    if len(frozenset.union(*(part.forms for part in parts))) != 1:
        return False
    for part in parts:
        if not part.whole or part.info.rotation or part.info.aspect != 1:
            return False
        with open_media(part.info.path) as container:
            context = require_video_stream(part.info.path, container).codec_context
            headers.add((part.info.codec, bytes(context.extradata or b"")))
    return len(headers) == 1


def _write_copy(target: Path, parts: Sequence[Part], advance: Advance | None) -> bool:
    """Write the parts without encoding; whether the file decodes to the frames of the parts."""
    try:
        _write(target, parts, _copied, None)
        times, checksums, forms = _timeline(target, advance)
    except (av.error.FFmpegError, InputRejected, ValueError):
        return False
    wanted_sums = np.concatenate([part.checksums for part in parts])
    if forms != parts[0].forms or not np.array_equal(checksums, wanted_sums):
        return False
    starts = _starts(parts)
    wanted = [part.times - part.times[0] + start for part, start in zip(parts, starts, strict=True)]
    return bool(np.abs(times - times[0] - np.concatenate(wanted)).max() < SAME_TIME)


# (container to write, parts) -> their packets, each with the time in s up to which it leads.
Packets = Callable[
    [av.container.OutputContainer, Sequence[Part], Advance | None],
    Iterator[tuple[float, av.Packet]],
]


def _write(target: Path, parts: Sequence[Part], packets: Packets, advance: Advance | None) -> None:
    """Write the pictures of all parts, as `packets` gives them, and their audio to `target`."""
    # Without the flag two runs would write different identifiers.
    with av.open(str(target), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        pictures = packets(container, parts, advance)
        rate, written = parts[0].audio.rate, 0
        waiting = [next(pictures)]  # the picture's stream comes first
        audio = container.add_stream("flac", rate=rate, layout="mono")
        blocks = _audio_blocks(parts)

        # Audio and pictures side by side, so that neither waits for the other in memory.
        for time, packet in itertools.chain(waiting, pictures):
            while written < time * rate and (block := next(blocks, None)) is not None:
                container.mux(audio.encode(_audio_frame(block, rate, written)))
                written += len(block)
            container.mux(packet)
        for block in blocks:
            container.mux(audio.encode(_audio_frame(block, rate, written)))
            written += len(block)
        container.mux(audio.encode(None))


def _starts(parts: Sequence[Part]) -> list[float]:
    """Where each part begins in the joined video, s."""
    return [0.0, *itertools.accumulate(part.seconds for part in parts)][:-1]


def _copied(
    container: av.container.OutputContainer, parts: Sequence[Part], advance: Advance | None
) -> Iterator[tuple[float, av.Packet]]:
    """The packets of the parts as they are, moved in time."""
    stream = None
    for part, start in zip(parts, _starts(parts), strict=True):
        with open_media(part.info.path) as source:
            own = require_video_stream(part.info.path, source)
            if stream is None:
                stream = container.add_stream_from_template(own)
            assert own.time_base is not None, part.info.path
            shift = round((start - part.times[0]) / own.time_base)
            for packet in source.demux(own):
                if packet.dts is None:  # the end
                    continue
                packet.dts += shift
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.stream = stream
                yield float(packet.dts * own.time_base), packet


def _encoded(
    container: av.container.OutputContainer, parts: Sequence[Part], advance: Advance | None
) -> Iterator[tuple[float, av.Packet]]:
    """The kept frames of the parts, encoded as H.264 without a loss that can be seen."""
    width, height = parts[0].info.width, parts[0].info.height
    stream = container.add_stream("libx264", rate=max(1, round(1 / parts[0].step)))
    stream.width, stream.height = width, height
    stream.pix_fmt = PIXELS
    stream.options = {"crf": QUALITY, "preset": "fast"}
    stream.codec_context.time_base = CLOCK
    tag_stream_as_bt709(stream)
    time = 0.0
    for part, start in zip(parts, _starts(parts), strict=True):
        kept, begin = set(part.kept.tolist()), float(part.times[part.kept[0]])
        for number, (at, decoded) in enumerate(read_timed_frames(part.info.path)):
            if advance:
                advance(1)
            if number not in kept:
                continue
            time = start + at - begin
            pixels = rgb_image(decoded, width, height)
            frame = tagged_as_bt709(av.VideoFrame.from_ndarray(pixels, "rgb24"), PIXELS)
            frame.pts, frame.time_base = round(time / CLOCK), CLOCK
            for packet in stream.encode(frame):
                yield time, packet
    for packet in stream.encode(None):
        yield time, packet


def _audio_blocks(parts: Sequence[Part]) -> Iterator[np.ndarray]:
    """The audio of all parts in blocks float32 [n]; each part has that of its picture's length."""
    rate, written = parts[0].audio.rate, 0
    for part, start in zip(parts, _starts(parts), strict=True):
        stop = round((start + part.seconds) * rate)
        samples = part.audio.samples_from(float(part.times[part.kept[0]]), stop - written)
        for first in range(0, len(samples), AUDIO_BLOCK):
            yield samples[first : first + AUDIO_BLOCK]
        written = stop


def _audio_frame(block: np.ndarray, rate: int, at: int) -> av.AudioFrame:
    """A frame of 16-bit audio of float32 [n] in [-1, 1], which begins at sample `at`."""
    pcm = (np.clip(block, -1, 1) * 32767).round().astype(np.int16)
    frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame
