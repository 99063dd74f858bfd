"""Reading videos: file properties, images with timestamps, images at a fixed frame rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from being.conventions import FPS
from being.errors import InputRejected
from being.media.colour import (
    HDR_NAMES,
    is_hdr,
    source_matrix,
    to_standard_range,
    to_standard_range_by_table,
)
from being.media.containers import decoded_frames, open_media, require_video_stream
from being.paths import user_path

# Larger images are not decoded, px.
MAX_SIDE = 8192
# Least time from one image to the next, s; repeated or falling timestamps are moved up by it.
STEP_MIN = 1e-3
# Step back of the timestamps, s, from which on the clock of the file was set anew.
CLOCK_BACK = 1.0
# Grey level behind transparent images.
BACKGROUND_GREY = 128


@dataclass(frozen=True)
class MediaInfo:
    """Facts of a media file, from its header and first image. Times in s on the file's clock."""

    path: Path
    # ffmpeg's name: "mov,mp4,...", "matroska,webm"
    container: str
    # of the video as the header says; 0 when it says nothing
    duration: float
    # px, of the upright image with square pixels
    width: int
    height: int
    # average rate as the header says; 0 when it says nothing
    fps: float
    codec: str
    # ffmpeg's name of the pixel format: "yuv420p", "yuv420p10le"
    pixels: str
    # degrees counter-clockwise by which the stored image is turned to be upright
    rotation: int
    # width over height of a stored pixel
    aspect: float
    # some of the image may be transparent
    alpha: bool
    # "HLG" or "PQ", high dynamic range; "" for standard range
    hdr: str
    interlaced: bool
    video_start: float
    audio_start: float | None
    audio_rate: int | None
    audio_codec: str | None


def probe(path: Path) -> MediaInfo:
    """Facts of the video at `path`. Raises InputRejected when no image of it can be decoded."""
    path = user_path(path)
    with open_media(path) as container:
        stream = require_video_stream(path, container)
        first = next(decoded_frames(container, stream), None)
        if first is None:
            raise InputRejected(
                f"{path} holds no image that can be decoded",
                fix="Export the video again as H.264 mp4",
            )
        if max(first.width, first.height) > MAX_SIDE:
            raise InputRejected(
                f"{path} is {first.width}x{first.height}",
                f"larger than {MAX_SIDE} px a side",
                "Export it smaller: 1080p is enough",
            )

        # The duration of the video alone: Matroska gives the time of its end instead.
        start, clock = float(first.time or 0.0), stream.time_base or Fraction(1, 1_000_000)
        if stream.duration:
            length = float(stream.duration * clock)
        else:
            length = (container.duration or 0) / 1e6
            if 0 < start < length:
                length -= start

        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        width, height = _upright_size(first, aspect)
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        audio = container.streams.audio[0] if container.streams.audio else None
        # PyAV gives no context where ffmpeg knows no decoder.
        sound = getattr(audio, "codec_context", None)
        return MediaInfo(
            path=path,
            container=container.format.name,
            duration=length,
            width=width,
            height=height,
            fps=float(rate),
            codec=stream.codec_context.name,
            pixels=first.format.name,
            rotation=int(first.rotation or 0),
            aspect=aspect,
            alpha=_has_alpha(first) or stream.metadata.get("alpha_mode") == "1",
            hdr=HDR_NAMES.get(int(first.color_trc), ""),
            interlaced=bool(first.interlaced_frame),
            video_start=start,
            audio_start=float((audio.start_time or 0) * (audio.time_base or 0)) if audio else None,
            audio_rate=sound.sample_rate if sound else None,
            audio_codec=sound.name if sound else None,
        )


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise that make a frame upright, 0 to 3."""
    return round((frame.rotation or 0) / 90) % 4


def _upright_size(frame: av.VideoFrame, aspect: float) -> tuple[int, int]:
    """Width and height in px of the upright image with square pixels."""
    width, height = max(1, round(frame.width * aspect)), frame.height
    return (height, width) if _quarter_turns(frame) % 2 else (width, height)


def _has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def rgb_image(frame: av.VideoFrame, width: int, height: int, smooth: bool = True) -> np.ndarray:
    """The upright image of a decoded frame, uint8 [height, width, 3] RGB, scaled in the same step.

    Frames of high dynamic range are brought to standard range. Transparent parts are blended with
    grey. smooth: bicubic, for images that are kept; without it
    area means, which are faster, for measurements.
    """
    if is_hdr(frame):
        convert = to_standard_range if smooth else to_standard_range_by_table
        wide = _scaled(frame, width, height, "rgb48le", smooth)
        return convert(wide, int(frame.color_trc), int(frame.color_primaries))
    pixels = _scaled(frame, width, height, "rgba" if _has_alpha(frame) else "rgb24", smooth)
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.uint16)
    blended = pixels[..., :3] * alpha + BACKGROUND_GREY * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def grey_image(frame: av.VideoFrame, width: int, height: int) -> np.ndarray:
    """The upright image of a decoded frame in grey, uint8 [height, width], as area means."""
    return _scaled(frame, width, height, "gray", smooth=False)


def _scaled(
    frame: av.VideoFrame, width: int, height: int, pixel_format: str, smooth: bool
) -> np.ndarray:
    """The upright image of a frame at another size and in another pixel format."""
    turns = _quarter_turns(frame)
    stored_width, stored_height = (height, width) if turns % 2 else (width, height)
    scaled = frame.reformat(
        width=stored_width,
        height=stored_height,
        format=pixel_format,
        src_colorspace=source_matrix(frame),
        interpolation="BICUBIC" if smooth else "AREA",
    )
    # Rows of some widths are padded in memory, so the copy must be contiguous.
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns))


def read_timed_frames(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    """Each frame of the video that can be decoded, with its time in s on the file's clock.

    Times rise by STEP_MIN at least. A frame without a timestamp, and the first frame after a clock
    that was set back, follow the one before at the average rate. Damaged packets are skipped.
    Raises InputRejected when there is no video stream.
    """
    with open_media(path) as container:
        stream = require_video_stream(path, container)
        stream.thread_type = "AUTO"
        step = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
        last, shift = None, 0.0
        for frame in decoded_frames(container, stream):
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
    """Images uint8 [H, W, 3] RGB of the video at `fps`: for each output time the nearest frame.

    Raises InputRejected for a video without any frame.
    """
    info = probe(path)
    start, before, index = None, None, 0
    for time, frame in read_timed_frames(path):
        start = time if start is None else start
        now = time - start
        while before is not None and index / fps < (before[0] + now) / 2:
            yield before[1]
            index += 1
        before = (now, rgb_image(frame, info.width, info.height))
    assert before is not None, path
    while index / fps < before[0] + 0.5 / fps:
        yield before[1]
        index += 1
