"""The binary messages of the protocol: media with one header (docs/protocol.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np

from being.session.refusals import Refusal
from being.session.timeline import FRAME, RATE

HEADER = struct.Struct("<BBHIQI")
# Before the numbers of a frame that the client draws: pose, nothing, step.
DRAWN = struct.Struct("<HHf")
MOST_DRAWN = 4  # such frames of a packet
CLIENT_RATES = (16_000, 24_000, 48_000)


class Kind(IntEnum):
    """What a packet holds."""

    H264 = 1
    JPEG = 2
    PCM = 3
    COEFFICIENTS = 4


class Flag(IntFlag):
    """Properties of a packet."""

    NONE = 0
    KEY = 1  # the picture can be decoded alone
    SILENCE = 2  # sound without a payload
    LIVE = 4  # sound from a microphone
    MATTE = 8  # the matte is stacked under the colours
    SPEECH = 16  # the avatar speaks at this time


KNOWN_FLAGS = sum(Flag)


@dataclass(frozen=True)
class Packet:
    """A packet without its payload."""

    kind: Kind
    flags: Flag
    rate: int  # samples/s of sound; of frames to draw: K, numbers of each
    epoch: int
    timestamp: int
    length: int


def pack_picture(codec: str, flags: Flag, epoch: int, at: int, content: bytes) -> bytes:
    """The packet of an encoded picture; codec: "h264" or "jpeg"."""
    kind = Kind.H264 if codec == "h264" else Kind.JPEG
    return HEADER.pack(kind, flags, 0, epoch, at, FRAME) + content


def pack_coefficients(
    flags: Flag, epoch: int, at: int, frames: Sequence[tuple[int, float, np.ndarray]]
) -> bytes:
    """The packet of frames in a row that the client draws: pose, step and int16 [K] of each."""
    assert 0 < len(frames) <= MOST_DRAWN, len(frames)
    length, count = FRAME * len(frames), len(frames[0][2])
    parts = [HEADER.pack(Kind.COEFFICIENTS, flags, count, epoch, at, length)]
    for pose, step, numbers in frames:
        parts += [DRAWN.pack(pose, 0, step), numbers.astype("<i2", copy=False).tobytes()]
    return b"".join(parts)


def unpack_coefficients(packet: Packet, payload: bytes) -> list[tuple[int, np.ndarray]]:
    """Pose and coefficients float32 [K] of the frames of a packet. Raises Refusal `bad_packet`."""
    size = DRAWN.size + 2 * packet.rate
    frames = packet.length // FRAME
    if packet.kind is not Kind.COEFFICIENTS or len(payload) != frames * size:
        raise _refusal(f"it has {len(payload)} bytes of {frames} frames of {packet.rate} numbers")
    found = []
    for start in range(0, len(payload), size):
        pose, _, step = DRAWN.unpack_from(payload, start)
        numbers = np.frombuffer(payload, "<i2", packet.rate, start + DRAWN.size)
        found.append((pose, np.float32(step) * numbers.astype(np.float32)))
    return found


def pack_sound(flags: Flag, epoch: int, at: int, samples: np.ndarray | None) -> bytes:
    """The packet of int16 samples at 24 kHz, or of the silence of one frame."""
    if samples is None:
        return HEADER.pack(Kind.PCM, flags | Flag.SILENCE, RATE, epoch, at, FRAME)
    head = HEADER.pack(Kind.PCM, flags, RATE, epoch, at, samples.size)
    return head + samples.astype("<i2", copy=False).tobytes()


def unpack(content: bytes) -> tuple[Packet, bytes]:
    """The header and the payload of any packet. Raises Refusal `bad_packet`."""
    if len(content) < HEADER.size:
        raise _refusal(f"it has {len(content)} bytes, the header alone has {HEADER.size}")
    kind, flags, rate, epoch, timestamp, length = HEADER.unpack_from(content)
    if kind not in Kind.__members__.values():
        raise _refusal(f"its kind is {kind}")
    if flags & ~KNOWN_FLAGS:
        raise _refusal(f"its flags are {flags:#x}")
    packet = Packet(Kind(kind), Flag(flags), rate, epoch, timestamp, length)
    return packet, content[HEADER.size :]


def unpack_client_sound(content: bytes) -> tuple[Packet, bytes]:
    """The header and the PCM of a packet from a client. Raises Refusal `bad_packet`."""
    packet, payload = unpack(content)
    if packet.kind is not Kind.PCM:
        raise _refusal(f"its kind is {packet.kind.name}: clients send sound only")
    if packet.rate not in CLIENT_RATES:
        raise _refusal(f"its rate is {packet.rate} Hz")
    if len(payload) % 2:
        raise _refusal(f"its PCM has an odd length of {len(payload)} bytes")
    if packet.length != len(payload) // 2:
        raise _refusal(f"its length is {packet.length} samples, it holds {len(payload) // 2}")
    return packet, payload


def _refusal(why: str) -> Refusal:
    return Refusal(
        "bad_packet",
        "a binary message is no packet of sound",
        why,
        f"Send PCM16 mono at {', '.join(str(rate) for rate in CLIENT_RATES)} Hz behind a header "
        f"of {HEADER.size} bytes",
    )
