"""The link between a front process and the render process: messages and shared memory.

Messages go over a local socket, each with its length and kind before it. Rows of speech features
and pictures lie in memory that the front makes and both map. The front passes its descriptor with
the first message. So the memory goes when both have ended, however they end.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.session.avatar_facts import AvatarFacts
from being.session.live_session import KEPT_ROWS, FrameOrder

# Pictures of a session that may be under way or are being encoded.
BUFFERS = 6
_HEADER = struct.Struct("<IB")
# Slot, buffer, token, pose, number of rows, number of expression channels; then the window, the
# numbers of the rows and the expression.
_ORDER = struct.Struct("<HHIiHH")
_DONE = struct.Struct("<HHI")
_SLOT = struct.Struct("<H")
# Slot, utterance, first chunk, frames of the utterance; then the samples.
_SOUND = struct.Struct("<HIIq")
# Slot, utterance, frame; then the code.
_CODE = struct.Struct("<HII")


class Kind(IntEnum):
    """Kinds of messages; the comment says who sends it."""

    HELLO = 1  # front: JSON of the layout, with the descriptor of the memory
    OPEN = 2  # front: JSON
    CLOSE = 3  # front: slot
    ORDER = 4  # front: a picture to render
    OPENED = 5  # render: JSON
    DONE = 6  # render: a picture is in its buffer
    SOUND = 7  # front: sound whose speech features are wanted
    CODE = 8  # render: the mouth code of one frame of sound


@dataclass(frozen=True)
class MemoryLayout:
    """Sizes of the shared memory of one front: `slots` sessions of any of its avatars."""

    slots: int
    width: int  # the largest C of the avatars
    picture_bytes: int  # of the largest picture

    @classmethod
    def of(cls, facts: list[AvatarFacts], slots: int) -> MemoryLayout:
        """The layout for sessions of these avatars."""
        return cls(slots, max(f.width for f in facts), max(f.picture_bytes for f in facts))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of speech features."""
        return FEATURE_WINDOW * self.width * 4

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot: rows, then pictures."""
        return KEPT_ROWS * self.row_bytes + BUFFERS * self.picture_bytes


class FrontMemory:
    """The shared memory of a front. Pages that no session uses take no memory."""

    def __init__(self, layout: MemoryLayout, descriptor: int | None = None):
        """descriptor: of the memory that a front made; default: make it."""
        self.layout = layout
        size = layout.slots * layout.slot_bytes
        if descriptor is None:
            descriptor = _new_memory(size)
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, size)

    def row(self, slot: int, number: int, width: int) -> np.ndarray:
        """The place of a row of a session, float32 [16, C]."""
        start = slot * self.layout.slot_bytes + (number % KEPT_ROWS) * self.layout.row_bytes
        count = FEATURE_WINDOW * width
        found = np.frombuffer(self._map, np.float32, count, start)
        return found.reshape(FEATURE_WINDOW, width)

    def picture(self, slot: int, buffer: int, count: int) -> np.ndarray:
        """The place of a picture of a session, uint8 [count]: its I420 bytes."""
        pictures = slot * self.layout.slot_bytes + KEPT_ROWS * self.layout.row_bytes
        start = pictures + buffer * self.layout.picture_bytes
        return np.frombuffer(self._map, np.uint8, count, start)

    def close(self) -> None:
        """Close the descriptor. The mapping goes with the last array that reads it."""
        os.close(self.descriptor)


def _new_memory(size: int) -> int:
    """A descriptor of `size` bytes of memory without a name in the file system."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("being-front", os.MFD_CLOEXEC)
    else:
        descriptor, name = tempfile.mkstemp()
        os.unlink(name)
    os.ftruncate(descriptor, size)
    return descriptor


def pack(kind: Kind, body: bytes) -> bytes:
    """A message."""
    return _HEADER.pack(len(body), kind) + body


def pack_json(kind: Kind, fields: dict[str, Any]) -> bytes:
    """A message whose body is JSON."""
    return pack(kind, json.dumps(fields).encode())


def pack_close(slot: int) -> bytes:
    """The message that closes the session of a slot."""
    return pack(Kind.CLOSE, _SLOT.pack(slot))


def pack_done(slot: int, buffer: int, token: int) -> bytes:
    """The message that a picture is in its buffer."""
    return pack(Kind.DONE, _DONE.pack(slot, buffer, token))


def pack_order(slot: int, buffer: int, token: int, order: FrameOrder) -> bytes:
    """The message that orders a picture. Its rows must lie in the memory already."""
    numbers = np.array([number for number, _ in order.rows], np.int32)
    head = _ORDER.pack(slot, buffer, token, order.pose, len(numbers), len(order.expression))
    window = np.ascontiguousarray(order.window, np.int32).tobytes()
    expression = np.ascontiguousarray(order.expression, np.float32).tobytes()
    return pack(Kind.ORDER, head + window + numbers.tobytes() + expression)


def pack_sound(slot: int, utterance: int, first: int, frames: int, samples: np.ndarray) -> bytes:
    """The message of chunks of sound; arguments as for `FeatureWorker.put`."""
    head = _SOUND.pack(slot, utterance, first, frames)
    return pack(Kind.SOUND, head + np.ascontiguousarray(samples, np.float32).tobytes())


def pack_code(slot: int, utterance: int, frame: int, code: np.ndarray) -> bytes:
    """The message of a mouth code float32 [K]."""
    return pack(Kind.CODE, _CODE.pack(slot, utterance, frame) + code.tobytes())


def unpack_sound(body: bytes) -> tuple[int, int, int, int, np.ndarray]:
    """The arguments of `pack_sound`."""
    slot, utterance, first, frames = _SOUND.unpack_from(body)
    return slot, utterance, first, frames, np.frombuffer(body, np.float32, offset=_SOUND.size)


def unpack_code(body: bytes) -> tuple[int, int, int, np.ndarray]:
    """The arguments of `pack_code`."""
    slot, utterance, frame = _CODE.unpack_from(body)
    return slot, utterance, frame, np.frombuffer(body, np.float32, offset=_CODE.size)


def unpack_slot(body: bytes) -> int:
    """The slot of a CLOSE message."""
    return int(_SLOT.unpack(body)[0])


def unpack_done(body: bytes) -> tuple[int, int, int]:
    """Slot, buffer and token of a DONE message."""
    slot, buffer, token = _DONE.unpack(body)
    return slot, buffer, token


def unpack_order(
    body: bytes, memory: FrontMemory, width_of_slot: dict[int, int]
) -> tuple[int, int, int, FrameOrder]:
    """Slot, buffer, token and order of an ORDER message; its rows are copied from the memory."""
    slot, buffer, token, pose, rows, channels = _ORDER.unpack_from(body)
    at = _ORDER.size
    window = np.frombuffer(body, np.int32, ATTENTION_WINDOW, at)
    numbers = np.frombuffer(body, np.int32, rows, at + window.nbytes)
    expression = np.frombuffer(body, np.float32, channels, at + window.nbytes + numbers.nbytes)
    width = width_of_slot.get(slot, 1)
    found = [(int(number), memory.row(slot, int(number), width).copy()) for number in numbers]
    return slot, buffer, token, FrameOrder(pose, expression, window, found)


class MessageReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def push(self, content: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The messages that are complete now: kind and body."""
        self._bytes += content
        at = 0
        while len(self._bytes) - at >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._bytes, at)
            end = at + _HEADER.size + length
            if end > len(self._bytes):
                break
            yield Kind(kind), bytes(self._bytes[at + _HEADER.size : end])
            at = end
        del self._bytes[:at]
