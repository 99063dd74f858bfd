"""A video whose frames are read in any order: the source frames of an avatar's poses.

H.264 without frames that wait for later ones; each GROUP frames begin anew, so a frame costs the
decoding of its group, also when the video is read backwards.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from being.conventions import FPS
from being.media.colour import tag_stream_as_bt709, tagged_as_bt709
from being.media.video_reading import rgb_image

GROUP = 8  # frames
CACHED_GROUPS = 2
QUALITY = 20  # crf of x264; the bound of the size may lower it


class DamagedVideo(Exception):
    """A video that cannot be decoded, or whose frames are not the expected ones."""


def write_pose_video(
    path: Path,
    frames: Iterable[np.ndarray],
    width: int,
    height: int,
    frame_bytes: int,
    quality: int = QUALITY,
) -> int:
    """Write frames uint8 [height, width, 3] RGB, of even sides, as mp4; returns how many.

    frame_bytes: the mean size of a frame is at most this. quality: crf of x264, lower is better.
    """
    assert width % 2 == 0 and height % 2 == 0, (width, height)
    rate = str(8 * frame_bytes * FPS)
    count = 0
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream("libx264", rate=FPS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        tag_stream_as_bt709(stream)
        stream.options = {
            "crf": str(quality),
            "preset": "veryfast",
            "maxrate": rate,
            "bufsize": rate,
            "g": str(GROUP),
            "bf": "0",
            "sc_threshold": "0",
        }
        for frame in frames:
            image = tagged_as_bt709(av.VideoFrame.from_ndarray(frame, "rgb24"), "yuv420p")
            image.pts, image.time_base = count, Fraction(1, FPS)
            container.mux(stream.encode(image))
            count += 1
        container.mux(stream.encode(None))
    return count


class PoseVideo:
    """Reads the frames of such a video by their number. Not for several threads."""

    def __init__(self, content: bytes, width: int, height: int, frames: int):
        """content: the mp4 file; width, height, frames: what it must hold. Raises DamagedVideo."""
        self.width, self.height, self.frames = width, height, frames
        self._groups: list[list[av.Packet]] = []
        self._first: list[int] = []  # number of each group's first frame
        self._decoded: OrderedDict[int, list[np.ndarray]] = OrderedDict()
        try:
            container = av.open(io.BytesIO(content), "r", format="mp4")
            assert isinstance(container, av.container.InputContainer)
            stream = container.streams.video[0]
            if stream.codec_context is None or stream.codec_context.name != "h264":
                raise DamagedVideo("it is no H.264 video")
            if (stream.width, stream.height) != (width, height):
                raise DamagedVideo(f"{stream.width}x{stream.height} px, not {width}x{height}")
            count = 0
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if packet.is_keyframe or not self._groups:
                    self._groups.append([])
                    self._first.append(count)
                self._groups[-1].append(packet)
                count += 1
            self._container, self._context = container, stream.codec_context
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            raise DamagedVideo(str(error)) from error
        if count != frames or max(map(len, self._groups), default=0) > GROUP:
            raise DamagedVideo(f"{count} frames in {len(self._groups)} groups, not {frames}")

    def __getitem__(self, number: int) -> np.ndarray:
        """Frame uint8 [height, width, 3] RGB; do not change it. Raises DamagedVideo."""
        group = int(np.searchsorted(self._first, number, "right")) - 1
        found = self._decoded.get(group)
        if found is None:
            while len(self._decoded) >= CACHED_GROUPS:
                self._decoded.popitem(last=False)
            found = self._decoded[group] = self._decode(self._groups[group])
        self._decoded.move_to_end(group)
        return found[number - self._first[group]]

    def _decode(self, packets: list[av.Packet]) -> list[np.ndarray]:
        try:
            frames = [frame for packet in packets for frame in self._context.decode(packet)]
            frames += self._context.decode(None)
            self._context.flush_buffers()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise DamagedVideo(str(error)) from error
        sizes = {(frame.width, frame.height) for frame in frames}
        if len(frames) != len(packets) or sizes != {(self.width, self.height)}:
            raise DamagedVideo(f"{len(frames)} frames of {len(packets)}, sizes {sorted(sizes)}")
        return [rgb_image(frame, self.width, self.height) for frame in frames]


@dataclass(frozen=True)
class SampleTable:
    """Where the frames of an mp4 lie, for a decoder that gets them one by one (WebCodecs)."""

    codec: str  # by RFC 6381, for instance "avc1.64001f"
    description: bytes  # AVCDecoderConfigurationRecord
    frames: list[tuple[int, int, bool]]  # offset and size in bytes, and whether it is a key frame


def sample_table(path: Path) -> SampleTable:
    """The table of a video of `write_pose_video`."""
    with av.open(str(path), "r", format="mp4") as container:
        stream = container.streams.video[0]
        frames = [
            (int(packet.pos), packet.size, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and packet.pos is not None
        ]
        description = bytes(stream.codec_context.extradata or b"")
    return SampleTable("avc1." + description[1:4].hex(), description, frames)
