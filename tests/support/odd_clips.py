"""Test videos of any codec, pixel format, timestamps, rotation, and with changes of size."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

CLOCK = Fraction(1, 90_000)


def write_odd(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    times: Sequence[float] | None = None,
    rate: float = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    turn: int = 0,
    sound: np.ndarray | None = None,
    sound_from: float = 0.0,
    aspect: Fraction | None = None,
) -> Path:
    """A video of the pictures, uint8 [H, W, 3 or 4], at `times` in s (by default even at `rate`),
    with sound at 16 kHz.

    turn: degrees counter-clockwise by which a player is told to turn it. With the codec mjpeg sizes
    may change.
    """
    times = [i / rate for i in range(len(pictures))] if times is None else times
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = pixels, options or {}
        stream.time_base = stream.codec_context.time_base = CLOCK
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)
        track: Any = (
            container.add_stream(
                "aac" if path.suffix != ".webm" else "libopus",
                rate=48000 if path.suffix == ".webm" else 16000,
                layout="mono",
            )
            if sound is not None
            else None
        )
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(
                picture, "rgba" if picture.shape[2] == 4 else "rgb24"
            )
            frame.pts, frame.time_base = round(time / CLOCK), CLOCK
            if codec == "mjpeg":
                for packet in _jpeg(frame, pixels, frame.pts):
                    packet.stream = stream
                    container.mux(packet)
            else:
                container.mux(stream.encode(frame))
        if codec != "mjpeg":
            container.mux(stream.encode(None))
        if track is not None and sound is not None:
            piece = av.AudioFrame.from_ndarray(
                sound[None].astype(np.float32), format="fltp", layout="mono"
            )
            piece.sample_rate, piece.time_base = 16000, Fraction(1, 16000)
            piece.pts = round(sound_from * 16000)
            container.mux(track.encode(piece))
            container.mux(track.encode(None))
    return path


def _jpeg(frame: av.VideoFrame, pixels: str, pts: int) -> list[Any]:
    """A picture as packets of a codec of its own, so that each may have another size."""
    codec: Any = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = (
        frame.width,
        frame.height,
        pixels,
        CLOCK,
    )
    packets = [*codec.encode(frame.reformat(format=pixels)), *codec.encode(None)]
    for packet in packets:
        packet.pts = packet.dts = pts
        packet.time_base = CLOCK
    return packets
