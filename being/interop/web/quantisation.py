"""Whole numbers of 8 and 16 bits for the floats of a web bundle, and one file of all tensors.

A tensor of rows [R, n] is stored as `least[r] + step[r] * number`. Rows are fields, so a Gaussian's
numbers lie apart and those of one field together, which also packs better.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

TYPES = ("int8", "uint8", "int16", "uint16", "float32")
ALIGNMENT = 8  # bytes
STEP_MIN = 1e-12  # of rows in which everything is equal


def symmetric(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers int8 or int16 [R, n] of float rows [R, n], and their steps float32 [R]."""
    most = 2 ** (bits - 1) - 1
    step = np.maximum(np.abs(rows).max(1), STEP_MIN).astype(np.float32) / np.float32(most)
    numbers = np.rint(rows / step[:, None]).clip(-most, most)
    return numbers.astype(f"int{bits}"), step


def spread(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers uint16 [R, n] of float rows [R, n], their least values and steps float32 [R]."""
    least = rows.min(1).astype(np.float32)
    step = np.maximum((rows.max(1) - least) / 65535, STEP_MIN).astype(np.float32)
    numbers = np.rint((rows - least[:, None]) / step[:, None]).clip(0, 65535)
    return numbers.astype(np.uint16), least, step


def pack_tensors(tensors: dict[str, np.ndarray]) -> tuple[bytes, dict[str, Any]]:
    """The deflated file of the tensors, and its list for the manifest: type, shape and offset."""
    parts: list[bytes] = []
    entries: dict[str, Any] = {}
    size = 0
    for name, value in tensors.items():
        assert str(value.dtype) in TYPES, (name, value.dtype)
        content = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"))).tobytes()
        entries[name] = {"type": str(value.dtype), "shape": list(value.shape), "offset": size}
        padding = -len(content) % ALIGNMENT
        parts += [content, bytes(padding)]
        size += len(content) + padding
    return zlib.compress(b"".join(parts), 9), entries


def unpack_tensors(content: bytes, entries: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a file of `pack_tensors`. Raises ValueError for one that does not fit."""
    try:
        plain = zlib.decompress(content)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    found = {}
    for name, entry in entries.items():
        if entry["type"] not in TYPES:
            raise ValueError(f"{name} has the type {entry['type']!r}")
        count = int(np.prod(entry["shape"], dtype=np.int64))
        kind = np.dtype(entry["type"]).newbyteorder("<")
        values = np.frombuffer(plain, kind, count, entry["offset"])
        found[name] = values.reshape(entry["shape"]).astype(entry["type"])
    return found
