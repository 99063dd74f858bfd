"""Arrays of .npy and .npz files that are not trusted.

The header of an array is read first. An array is allocated only when the file holds, or is allowed
to expand to, as many bytes as the header claims. Pickled objects are refused.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Literal

import numpy as np

from being.reading.content import RESTORE_HINT, Unreadable, check_regular, reason, rejected

# Bytes that may come out of a compressed file: so many for each of its bytes, and some besides.
EXPANSION_MAX, EXPANSION_FREE = 20, 64 << 20
FILE_MAX = 8 << 30  # bytes
MEMBERS_MAX = 1000  # arrays of one .npz file
HEADER_MAX = 10_000  # bytes
Order = Literal["C", "F"]
KINDS = "biufU"  # of numpy: plain numbers and text


def expansion_limit(size: int) -> int:
    """The bytes that may come out of a compressed file of `size` bytes."""
    return EXPANSION_MAX * size + EXPANSION_FREE


def load_all_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name. Raises InputRejected as `load_arrays`."""
    return _load(path, None, RESTORE_HINT)


def load_arrays(
    path: Path, names: Collection[str], fix: str = RESTORE_HINT
) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that an .npz file holds, by name; others are not read.

    Raises InputRejected when the file is missing, cut off, or holds anything but plain arrays.
    """
    return _load(path, names, fix)


def _load(path: Path, names: Collection[str] | None, fix: str) -> dict[str, np.ndarray]:
    try:
        limit = expansion_limit(check_regular(path, FILE_MAX))
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MAX:
                raise Unreadable(f"it holds {len(members)} arrays, at most {MEMBERS_MAX} are read")
            arrays: dict[str, np.ndarray] = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays or (names is not None and name not in names):
                    continue
                with archive.open(member) as stream:
                    arrays[name] = _read_array(stream, member.file_size, limit)
                limit -= arrays[name].nbytes
    except Exception as error:  # zipfile and numpy raise many types for a broken file
        raise rejected(path, error, fix) from error
    return arrays


def load_array(path: Path, fix: str = RESTORE_HINT, mapped: bool = False) -> np.ndarray:
    """The array of a .npy file. Raises InputRejected as `load_arrays`.

    mapped: map it from disk instead of reading it.
    """
    try:
        size = check_regular(path, FILE_MAX)
        with open(path, "rb") as file:
            dtype, shape, order = _read_header(file)
            start, count = file.tell(), math.prod(shape)
            if count * dtype.itemsize > size - start:
                raise Unreadable(
                    f"it is cut off: {shape} of {dtype} need {count * dtype.itemsize} bytes, "
                    f"{size - start} are there"
                )
            if mapped and count:
                return np.memmap(path, dtype, "r", start, shape, order)
            content = bytearray(file.read(count * dtype.itemsize))
        return np.frombuffer(content, dtype, count).reshape(shape, order=order)
    except Exception as error:  # numpy raises many types for a broken file
        raise rejected(path, error, fix) from error


def _read_array(stream: IO[bytes], size: int, limit: int) -> np.ndarray:
    """The array of one member of `size` bytes; at most `limit` bytes are allocated."""
    dtype, shape, order = _read_header(stream)
    count = math.prod(shape)
    needed = count * dtype.itemsize
    if needed > size:
        raise Unreadable(f"an array {shape} of {dtype} does not fit into its {size} bytes")
    if needed > limit:
        raise Unreadable(
            f"an array {shape} of {dtype} expands beyond {EXPANSION_MAX} times the file"
        )
    content = bytearray(needed)
    view, done = memoryview(content), 0
    while done < needed:
        part = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not part:
            raise Unreadable("an array is cut off")
        done += part
    stream.read(1)  # at the end of the member its checksum is compared
    return np.frombuffer(content, dtype, count).reshape(shape, order=order)


def _read_header(stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...], Order]:
    """dtype, shape and order ("C" or "F") of the array that follows. Raises Unreadable."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise Unreadable(f"it has version {version} of the .npy format")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            shape, fortran, dtype = readers[version](stream, max_header_size=HEADER_MAX)
    except Unreadable:
        raise
    except Exception as error:  # numpy raises many types for a broken header
        raise Unreadable(f"its header is broken: {reason(error)}") from error
    if dtype.kind not in KINDS or not all(0 <= side < 1 << 62 for side in shape):
        raise Unreadable("it holds no plain arrays")
    return dtype, shape, "F" if fortran else "C"
