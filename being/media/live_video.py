"""Encoders of live pictures: H.264 access units and JPEG files, one out for each picture in.

Every picture carries a mark that says it is AI-generated: a SEI unit in H.264, a comment segment in
JPEG. libx264 in the wheels of PyAV is under the GPL.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from fractions import Fraction
from typing import Any, Protocol, cast

import av
import numpy as np

from being.conventions import FPS
from being.reading.content import Unreadable
from being.reading.structured import parse_json

# Names the mark among the SEI units of a stream; docs/protocol.md states it.
MARK_UUID = uuid.UUID("5be1f6a0-9c5b-4c0e-9d0c-62656e672e31")
KEY_INTERVAL_S = 10  # s between key frames that nobody asked for
START_CODE = b"\x00\x00\x01"
SEI_UNIT, USER_DATA = 6, 5  # NAL unit type, SEI payload type
JPEG_COMMENT = b"\xff\xfe"
IDENTITY_DIGITS = 16  # of an avatar's identity, in the mark of a picture
MARK_MAX = 4096  # bytes of a mark that are read
JPEG_QSCALE = 4  # 1 (best) to 31


class PictureEncoder(Protocol):
    """Encodes the pictures of one session, in order."""

    codec: str  # "h264" or "jpeg"

    def encode(self, i420: np.ndarray, key: bool, mark: bytes) -> tuple[bytes, bool]:
        """The encoded picture, and whether it can be decoded alone.

        i420: uint8 [1.5 H W], in the colours of `being.inference.i420` for this codec. key: the
        picture must be decodable alone. mark: see `mark_json`.
        """


def mark_json(avatar: str, consent: bool | None, samples: int, identity: str = "") -> bytes:
    """The mark of one picture, JSON in UTF-8.

    samples: its time on the session's timeline; identity: of the avatar.
    """
    mark: dict[str, Any] = {
        "ai": True,
        "type": "trainedAlgorithmicMedia",
        "avatar": avatar,
        "consent": consent,
        "t": samples,
    }
    if identity:
        mark["id"] = identity[:IDENTITY_DIGITS]
    return json.dumps(mark, ensure_ascii=False, separators=(",", ":")).encode()


class H264Encoder:
    """H.264 Annex B, constrained baseline, no B-frames, no delay, one thread."""

    codec = "h264"

    def __init__(self, width: int, height: int, quality: int = 23):
        """width, height: px, even. quality: the constant rate factor, lower is better."""
        context = cast(av.VideoCodecContext, av.CodecContext.create("libx264", "w"))
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate, context.gop_size = Fraction(FPS), KEY_INTERVAL_S * FPS
        context.time_base = Fraction(1, FPS)
        context.max_b_frames, context.thread_count = 0, 1
        context.profile = "Baseline"
        context.color_range, context.colorspace = 1, 1
        context.color_primaries, context.color_trc = 1, 1
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "crf": str(quality),
            "x264-params": "annexb=1:repeat-headers=1:scenecut=0:sliced-threads=0:slices=1",
        }
        self._context, self._frame = context, av.VideoFrame(width, height, "yuv420p")
        self._frame.color_range, self._frame.colorspace = 1, 1
        self._count = 0

    def encode(self, i420: np.ndarray, key: bool, mark: bytes) -> tuple[bytes, bool]:
        """See `PictureEncoder.encode`."""
        _fill(self._frame, i420)
        self._frame.pts = self._count
        kind = av.video.frame.PictureType
        self._frame.pict_type = kind.I if key or self._count == 0 else kind.NONE
        self._count += 1
        (packet,) = self._context.encode(self._frame)
        return insert_sei(bytes(packet), mark), packet.is_keyframe


class JpegEncoder:
    """One JPEG file for each picture."""

    codec = "jpeg"

    def __init__(self, width: int, height: int):
        """width, height: px, even."""
        context = cast(av.VideoCodecContext, av.CodecContext.create("mjpeg", "w"))
        context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
        context.framerate, context.thread_count = Fraction(FPS), 1
        context.time_base = Fraction(1, FPS)
        context.color_range = 2
        context.options = {"qmin": str(JPEG_QSCALE), "qmax": str(JPEG_QSCALE)}
        self._context, self._frame = context, av.VideoFrame(width, height, "yuvj420p")
        self._count = 0

    def encode(self, i420: np.ndarray, key: bool, mark: bytes) -> tuple[bytes, bool]:
        """See `PictureEncoder.encode`; each picture can be decoded alone."""
        _fill(self._frame, i420)
        self._frame.pts = self._count
        self._count += 1
        (packet,) = self._context.encode(self._frame)
        content = bytes(packet)
        segment = JPEG_COMMENT + (len(mark) + 2).to_bytes(2, "big") + mark
        return content[:2] + segment + content[2:], True


def new_encoder(codec: str, width: int, height: int) -> PictureEncoder:
    """The encoder called "h264" or "jpeg"."""
    return H264Encoder(width, height) if codec == "h264" else JpegEncoder(width, height)


def codec_string(width: int, height: int) -> str:
    """The string of the H.264 stream for a browser: constrained baseline, its smallest level."""
    blocks = -(-width // 16) * -(-height // 16)
    # Level, largest picture and largest rate in blocks of 16 x 16 px (H.264, table A-1).
    for level, picture, rate in ((31, 3600, 108_000), (40, 8192, 245_760), (51, 36_864, 983_040)):
        if blocks <= picture and blocks * FPS <= rate:
            return f"avc1.42E0{level:02X}"
    return "avc1.42E034"


def insert_sei(unit: bytes, mark: bytes) -> bytes:
    """The access unit with a SEI unit `user_data_unregistered` before its first slice."""
    at = _first_slice(unit)
    payload = MARK_UUID.bytes + mark
    size = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    body = bytes([USER_DATA]) + size + payload + b"\x80"
    return unit[:at] + b"\x00" + START_CODE + bytes([SEI_UNIT]) + _escaped(body) + unit[at:]


def read_marks(unit: bytes) -> list[dict[str, Any]]:
    """The marks in an H.264 access unit (Annex B) or a JPEG file, which are not trusted."""
    if unit[:2] == b"\xff\xd8":
        comment = unit[6 : 4 + int.from_bytes(unit[4:6], "big")]
        return _parsed([comment]) if unit[2:4] == JPEG_COMMENT else []
    found: list[bytes] = []
    at = unit.find(START_CODE)
    while at >= 0:
        following = unit.find(START_CODE, at + 3)
        nal = unit[at + 3 : following if following >= 0 else None]
        if nal and nal[0] & 31 == SEI_UNIT and (start := nal.find(MARK_UUID.bytes)) > 0:
            text = nal[start + 16 :].replace(b"\x00\x00\x03", b"\x00\x00")
            found.append(text[: max(0, text.rfind(b"\x80"))])
        at = following
    return _parsed(found)


def _parsed(texts: list[bytes]) -> list[dict[str, Any]]:
    """The JSON objects among the texts."""
    marks = []
    for text in texts:
        with contextlib.suppress(Unreadable, UnicodeDecodeError):
            marks.append(parse_json(bytes(text[:MARK_MAX]).decode()))
    return [mark for mark in marks if isinstance(mark, dict)]


def _first_slice(unit: bytes) -> int:
    """The position of the start code (3 or 4 bytes) of the first slice."""
    at = unit.find(START_CODE)
    while at >= 0:
        if unit[at + 3] & 31 in (1, 5):
            return at - 1 if at > 0 and unit[at - 1] == 0 else at
        at = unit.find(START_CODE, at + 3)
    raise AssertionError("an access unit without a slice")


def _escaped(body: bytes) -> bytes:
    """The bytes of a NAL unit with emulation prevention (H.264, 7.4.1)."""
    if b"\x00\x00" not in body:
        return body
    out, zeros = bytearray(), 0
    for value in body:
        if zeros >= 2 and value <= 3:
            out.append(3)
            zeros = 0
        out.append(value)
        zeros = zeros + 1 if value == 0 else 0
    return bytes(out)


def _fill(frame: av.VideoFrame, i420: np.ndarray) -> None:
    """Copy a planar image into the frame, whose rows may be padded."""
    width, height = frame.width, frame.height
    assert i420.size == width * height * 3 // 2, (i420.size, width, height)
    start = 0
    for plane in frame.planes:
        wide, high = (width, height) if start == 0 else (width // 2, height // 2)
        part = i420[start : start + wide * high]
        start += wide * high
        if plane.line_size == wide:
            plane.update(cast(bytes, part))
            continue
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows[:high, :wide] = part.reshape(high, wide)


class LivePictureDecoder:
    """Decodes the access units or JPEG files of a session; for tests and benchmarks."""

    def __init__(self, codec: str):
        """codec: "h264" or "jpeg"."""
        name = "h264" if codec == "h264" else "mjpeg"
        self._context = cast(av.VideoCodecContext, av.CodecContext.create(name, "r"))
        self._context.thread_count = 1
        self._context.options = {"flags": "low_delay"}

    def decode(self, content: bytes) -> np.ndarray | None:
        """The picture uint8 [H, W, 3] RGB, or None where the decoder keeps it back."""
        frames = self._context.decode(av.Packet(content))
        return frames[-1].to_ndarray(format="rgb24") if frames else None
