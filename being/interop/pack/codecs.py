"""Codecs of a packed dataset: frames near lossless; files, arrays and masks lossless.

Every decoder knows how much data may come out and stops there, so a small file cannot fill a disk.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import math
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from being.media import packed_video
from being.reading.arrays import KINDS

# Rank of the low-rank prediction of arrays over time: the tracked mesh has this rank.
RANK = 16
MEMORY_MAX = 256 << 20  # bytes that the xz decoder may use
COLOURS_MAX = 256
ARRAY_MAX = 1 << 30  # bytes of one array
DIMENSIONS_MAX = 8

# Name of a part -> its bytes.
Parts = dict[str, bytes]
# dtype, shape and codec of an array, as JSON.
ArrayInfo = dict[str, Any]


class DamagedPack(Exception):
    """Packed bytes are wrong."""


class TooManyColours(Exception):
    """Images have more colours than one byte can number."""


class HashedImages:
    """An iterator over images that computes the sha256 of all pixels passed."""

    def __init__(self, images: Iterator[np.ndarray]):
        self._images, self._digest = images, hashlib.sha256()

    def __iter__(self) -> Iterator[np.ndarray]:
        for image in self._images:
            self._digest.update(image.tobytes())
            yield image

    def hexdigest(self) -> str:
        """sha256 of the images passed so far, hexadecimal."""
        return self._digest.hexdigest()


def content_digest(content: np.ndarray | bytes) -> str:
    """sha256 of bytes or of an array's values, hexadecimal."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest()


def numpy_file_bytes(writer: str, arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a .npy or .npz file of `arrays`.

    writer: "save" (one array, named ""), "savez" or "savez_compressed".
    """
    buffer = io.BytesIO()
    if writer == "save":
        np.save(buffer, arrays[""])
    else:
        write: Any = {"savez": np.savez, "savez_compressed": np.savez_compressed}[writer]
        write(buffer, **arrays)
    return buffer.getvalue()


def compress(data: bytes) -> bytes:
    """`data` as xz, with a checksum."""
    return lzma.compress(data, preset=6)


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes that `compress` was called with. Raises DamagedPack."""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY_MAX)
    try:
        content = decoder.decompress(data, max_length=size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise DamagedPack(str(error)) from error
    if len(content) != size:
        raise DamagedPack(f"{len(content)} bytes instead of {size}")
    return content


# --- arrays


def encode_array(values: np.ndarray) -> tuple[ArrayInfo, Parts]:
    """The info and parts of an array with the smallest codec; `decode_array` returns equal bits.

    The codecs: "plain" stores the bytes. For float32 [F, ...], "steps" stores the differences over
    time of the numbers' ranks among all floats, sorted into byte planes. "rank" stores the
    difference of the ranks from those of a low-rank approximation, and its factors.
    """
    values = np.asarray(values, order="C")
    candidates: dict[str, Parts] = {}
    if values.dtype == np.float32 and values.ndim > 1 and values.size:
        flat = values.reshape(len(values), -1)
        steps = _ranks(flat)
        steps[1:] = np.diff(steps, axis=0)  # wraps around
        candidates["steps"] = {"rest": compress(_byte_planes(steps))}
        if min(flat.shape) > 4 * RANK and np.isfinite(flat).all():
            factors = _low_rank_factors(flat)
            rest = _ranks(flat) - _ranks(_low_rank_product(factors))
            stored = {f"factor{k}": compress(factor.tobytes()) for k, factor in enumerate(factors)}
            candidates["rank"] = {"rest": compress(_byte_planes(rest)), **stored}
    if not candidates:
        candidates["plain"] = {"plain": compress(values.tobytes())}
    codec = min(candidates, key=lambda name: sum(map(len, candidates[name].values())))
    info = {"dtype": values.dtype.str, "shape": list(values.shape), "codec": codec}
    return info, candidates[codec]


def decode_array(info: ArrayInfo, parts: Parts) -> np.ndarray:
    """The array that `encode_array` was called with. Raises DamagedPack."""
    dtype, shape = np.dtype(info["dtype"]), tuple(int(n) for n in info["shape"])
    count = math.prod(shape)
    if dtype.kind not in KINDS or min(shape, default=1) < 0 or len(shape) > DIMENSIONS_MAX:
        raise DamagedPack(f"an array of {dtype} {shape}")
    if count * dtype.itemsize > ARRAY_MAX:
        raise DamagedPack(f"an array of {count * dtype.itemsize} bytes")
    if info["codec"] == "plain":
        content = decompress(parts["plain"], count * dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(shape).copy()

    if dtype != np.float32 or len(shape) < 2 or not count:
        raise DamagedPack(f"an array of {dtype} {shape} as {info['codec']}")
    frames, width = shape[0], count // shape[0]
    rest = _from_byte_planes(decompress(parts["rest"], 4 * count)).reshape(frames, width)
    if info["codec"] == "steps":
        return _floats_of_ranks(np.cumsum(rest, axis=0)).reshape(shape)

    sizes = ((width,), (frames, RANK), (RANK, width))
    factors = []
    for k, size in enumerate(sizes):
        content = decompress(parts[f"factor{k}"], 4 * int(np.prod(size)))
        factors.append(np.frombuffer(content, np.float32).reshape(size))
    return _floats_of_ranks(rest + _ranks(_low_rank_product(factors))).reshape(shape)


def _low_rank_factors(flat: np.ndarray) -> list[np.ndarray]:
    """Mean [D], coefficients [F, RANK] and basis [RANK, D] that best approximate float32 [F, D]."""
    values = flat.astype(np.float64)
    mean = values.mean(0)
    _, vectors = np.linalg.eigh((values - mean) @ (values - mean).T)
    left = vectors[:, ::-1][:, :RANK]
    return [part.astype(np.float32) for part in (mean, left, left.T @ (values - mean))]


def _low_rank_product(factors: Sequence[np.ndarray]) -> np.ndarray:
    """mean + coefficients @ basis, float32 [F, D].

    The sum is in double precision and in a fixed order, so it is equal on every machine.
    """
    mean, coefficients, basis = factors
    total = np.tile(mean.astype(np.float64), (len(coefficients), 1))
    for k in range(RANK):
        total += coefficients[:, k, None].astype(np.float64) * basis[k].astype(np.float64)
    return total.astype(np.float32)


def _ranks(values: np.ndarray) -> np.ndarray:
    """int32: the signed number of float32 values between 0 and each of `values`.

    Every bit pattern has its own rank.
    """
    bits = np.ascontiguousarray(values).view(np.int32)
    return np.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits)


def _floats_of_ranks(ranks: np.ndarray) -> np.ndarray:
    """The float32 values of `_ranks`; integers of any width are taken modulo 2^32."""
    ranks = ranks.astype(np.int32)
    return np.where(ranks < 0, (-1 - ranks) | np.int32(-0x80000000), ranks).view(np.float32)


def _byte_planes(steps: np.ndarray) -> bytes:
    """int32 as four planes of bytes, after the map 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..."""
    folded = ((steps << 1) ^ (steps >> 31)).astype("<i4")
    return folded.reshape(-1).view(np.uint8).reshape(-1, 4).T.tobytes()


def _from_byte_planes(data: bytes) -> np.ndarray:
    """The integers of `_byte_planes`, int64 [n]."""
    planes = np.frombuffer(data, np.uint8).reshape(4, -1)
    folded = planes.T.copy().view("<u4").reshape(-1).astype(np.int64)
    return (folded >> 1) ^ -(folded & 1)


# --- label images


class LabelPalette:
    """Numbers 0 to 255 for the colours of label images; grey images are numbers already."""

    def __init__(self, colours: Sequence[Sequence[int]] = ()):
        # each [R, G, B] or [R, G, B, A], in the order first seen
        self.colours = [list(colour) for colour in colours]

    def to_numbers(
        self, images: Iterator[np.ndarray], shape: tuple[int, int]
    ) -> Iterator[np.ndarray]:
        """Numbers uint8 [H, W] of images uint8 [H, W] or [H, W, C].

        Raises TooManyColours, also for an image of another shape.
        """
        for i, image in enumerate(images):
            if image.shape[:2] != shape or (i and (image.ndim == 3) != bool(self.colours)):
                raise TooManyColours
            yield image if image.ndim == 2 else self._number_colours(image)

    def _number_colours(self, image: np.ndarray) -> np.ndarray:
        """Numbers uint8 [H, W] of an image uint8 [H, W, C]; adds its new colours to the palette."""
        # One integer for each pixel's colour.
        depth = image.shape[2]
        code = np.zeros(image.shape[:2], np.uint32)
        for channel in range(depth):
            code |= image[..., channel].astype(np.uint32) << np.uint32(8 * channel)

        # Number the pixels of one colour after the other until none is left.
        numbers, remaining = np.zeros(code.shape, np.uint8), np.ones(code.shape, bool)
        for number in range(COLOURS_MAX + 1):
            if number == len(self.colours):
                if not remaining.any():
                    return numbers
                self.colours.append(image[remaining][0].tolist())
            if number == COLOURS_MAX or len(self.colours[number]) != depth:
                break
            colour = sum(value << 8 * channel for channel, value in enumerate(self.colours[number]))
            same = code == colour
            numbers[same] = number
            remaining &= ~same
        raise TooManyColours

    def to_images(self, numbers: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The images of `to_numbers`. Raises DamagedPack for a number without a colour."""
        table = self._table()
        for image in numbers:
            if table is not None and image.max() >= len(table):
                raise DamagedPack(f"colour {image.max()} of {len(table)}")
            yield image if table is None else table[image]

    def _table(self) -> np.ndarray | None:
        """The colours uint8 [n, 3 or 4], or None for grey images. Raises DamagedPack."""
        if not self.colours:
            return None
        depth = len(self.colours[0])
        if len(self.colours) > COLOURS_MAX or depth not in (3, 4):
            raise DamagedPack(f"{len(self.colours)} colours of {depth} channels")
        for colour in self.colours:
            if len(colour) != depth or not all(
                isinstance(value, int) and 0 <= value < 256 for value in colour
            ):
                raise DamagedPack("a colour")
        return np.array(self.colours, np.uint8)


def encode_labels(images: Iterator[np.ndarray], shape: tuple[int, int], file: IO[bytes]) -> None:
    """Write images uint8 [H, W] as lossless H.264; `decode_labels` returns the same.

    Masks change little from frame to frame. The video takes a quarter of the bytes of FFV1 and a
    seventh of PNG files.
    """
    packed_video.encode_grey(images, shape, file)


def decode_labels(file: IO[bytes], shape: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """The `count` images uint8 [H, W] that `encode_labels` was called with. Raises DamagedPack."""
    try:
        yield from packed_video.decode_grey(file, shape, count)
    except packed_video.DamagedVideo as error:
        raise DamagedPack(str(error)) from error


# --- frames


def encode_clip(images: Iterator[np.ndarray], shape: tuple[int, int], file: IO[bytes]) -> None:
    """Write images uint8 [H, W, 3] RGB as H.264 at full colour resolution, near lossless."""
    packed_video.encode_rgb(images, shape, file)


def decode_clip(file: IO[bytes], shape: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """The `count` images uint8 [H, W, 3] RGB of `encode_clip`, to 46 dB. Raises DamagedPack."""
    try:
        yield from packed_video.decode_rgb(file, shape, count)
    except packed_video.DamagedVideo as error:
        raise DamagedPack(str(error)) from error
