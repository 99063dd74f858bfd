"""Marks of the pictures of a recorded stream: SEI units of H.264, comments of JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av

from being.media.containers import find_video_stream, open_media
from being.media.live_video import read_marks

PICTURES_MAX = 3000  # that are looked at: two minutes


def stream_marks(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The marks of the first PICTURES_MAX pictures, at most one each, and the number of pictures.

    See `live_video.mark_json`. Raises InputRejected for a file that is no media file.
    """
    marks, pictures = [], 0
    for packet in islice(_packets(path), PICTURES_MAX):
        pictures += 1
        marks += read_marks(packet)[:1]
    return marks, pictures


def _packets(path: Path) -> Iterator[bytes]:
    """The encoded pictures of a video; H.264 as Annex B. Ends where the file is damaged."""
    with open_media(path) as container:
        stream = find_video_stream(container)
        context = getattr(stream, "codec_context", None)
        if stream is None or context is None or context.name not in ("h264", "mjpeg"):
            return
        try:
            annexb = None
            if context.name == "h264":
                annexb = av.BitStreamFilterContext("h264_mp4toannexb", stream)
            for packet in container.demux(stream):
                if packet.size:
                    parts = [packet] if annexb is None else annexb.filter(packet)
                    yield from (bytes(part) for part in parts)
        except (av.error.FFmpegError, ValueError):
            return
