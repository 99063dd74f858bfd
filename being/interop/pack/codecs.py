"""Lossless codecs of a packed dataset: files, arrays of floats, folders of mask pictures; and the
clip, near lossless.

Every decoder is told how much may come out and stops there, so that a small file cannot fill a
disk.
"""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import IO, Any

import av
import numpy as np

from being.conventions import FPS

RANK = 16  # of the low-rank prediction of arrays over time: the tracked mesh is one
CLIP_QUALITY = {
    "crf": "12",
    "preset": "medium",
}  # 46 dB against the JPEG frames, about 1.4 Mbit/s at 512 px
LOSSLESS = {"qp": "0", "preset": "medium"}

Parts = dict[str, bytes]
Facts = dict[str, Any]


class Damaged(Exception):
    """Packed bytes are not what they should be."""


class Hashed:
    """Pictures on their way, and the sha256 over all of their pixels that have passed."""

    def __init__(self, pictures: Iterator[np.ndarray]):
        self._pictures, self._digest = pictures, hashlib.sha256()

    def __iter__(self) -> Iterator[np.ndarray]:
        for picture in self._pictures:
            self._digest.update(picture.tobytes())
            yield picture

    def hexdigest(self) -> str:
        """As `hashlib` gives it."""
        return self._digest.hexdigest()


def content_digest(content: np.ndarray | bytes) -> str:
    """sha256 of bytes or of an array's values, hexadecimal."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest()


def array_file(writer: str, arrays: dict[str, np.ndarray]) -> bytes:
    """A .npy or .npz file of arrays, by one of numpy's writers."""
    buffer = io.BytesIO()
    if writer == "save":
        np.save(buffer, arrays[""])
    else:
        write: Any = {"savez": np.savez, "savez_compressed": np.savez_compressed}[writer]
        write(buffer, **arrays)
    return buffer.getvalue()


def squeeze(data: bytes) -> bytes:
    """`data` as xz; checked when it is opened."""
    return lzma.compress(data, preset=6)


def expand(data: bytes, size: int) -> bytes:
    """What `squeeze` was given, which must be `size` bytes. Raises Damaged."""
    opener = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 << 20)
    try:
        out = opener.decompress(data, max_length=size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise Damaged(str(error)) from error
    if len(out) != size:
        raise Damaged(f"{len(out)} bytes instead of {size}")
    return out


def encode_array(values: np.ndarray) -> tuple[Facts, Parts]:
    """An array as its facts and what the best codec makes of it; `decode_array` gives back equal
    bits.

    "plain": its bytes. For float32 [F, ...], "steps": the differences over time of the numbers'
    ranks among all floats, sorted into byte planes; or "rank": the same against a low-rank
    approximation, whose factors are stored too.
    """
    values = np.asarray(values, order="C")
    facts: Facts = {"dtype": values.dtype.str, "shape": list(values.shape)}
    made: dict[str, Parts] = {}
    if values.dtype == np.float32 and values.ndim > 1 and values.size:
        flat = values.reshape(len(values), -1)
        steps = _ranks(flat)
        steps[1:] = np.diff(steps, axis=0)  # wraps
        made["steps"] = {"rest": squeeze(_planes(steps))}
        if min(flat.shape) > 4 * RANK and np.isfinite(flat).all():
            factors = _factors(flat)
            made["rank"] = {
                "rest": squeeze(_planes(_ranks(flat) - _ranks(_predicted(factors)))),
                **{f"factor{k}": squeeze(factor.tobytes()) for k, factor in enumerate(factors)},
            }
    made = made or {"plain": {"plain": squeeze(values.tobytes())}}
    codec = min(made, key=lambda name: sum(map(len, made[name].values())))
    return {**facts, "codec": codec}, made[codec]


def decode_array(facts: Facts, parts: Parts) -> np.ndarray:
    """The array that `encode_array` was given. Raises Damaged."""
    dtype, shape = np.dtype(facts["dtype"]), tuple(int(n) for n in facts["shape"])
    if dtype.hasobject or any(n < 0 for n in shape):
        raise Damaged(f"an array of {dtype} {shape}")
    count = int(np.prod(shape))
    if facts["codec"] == "plain":
        return (
            np.frombuffer(expand(parts["plain"], count * dtype.itemsize), dtype)
            .reshape(shape)
            .copy()
        )
    if dtype != np.float32 or len(shape) < 2 or not count:
        raise Damaged(f"an array of {dtype} {shape} as {facts['codec']}")
    frames, width = shape[0], count // shape[0]
    rest = _from_planes(expand(parts["rest"], 4 * count)).reshape(frames, width)
    if facts["codec"] == "steps":
        return _floats(np.cumsum(rest, axis=0)).reshape(shape)
    sizes = ((width,), (frames, RANK), (RANK, width))
    factors = [
        np.frombuffer(expand(parts[f"factor{k}"], 4 * int(np.prod(size))), np.float32).reshape(size)
        for k, size in enumerate(sizes)
    ]
    return _floats(rest + _ranks(_predicted(factors))).reshape(shape)


def _factors(flat: np.ndarray) -> list[np.ndarray]:
    """Mean [D], coefficients [F, RANK] and basis [RANK, D] of the best approximation of float32 [F,
    D].
    """
    wide = flat.astype(np.float64)
    mean = wide.mean(0)
    values, vectors = np.linalg.eigh((wide - mean) @ (wide - mean).T)
    left = vectors[:, ::-1][:, :RANK]
    return [part.astype(np.float32) for part in (mean, left, left.T @ (wide - mean))]


def _predicted(factors: Sequence[np.ndarray]) -> np.ndarray:
    """mean + coefficients @ basis, float32, summed in a fixed order in double precision: equal on
    every machine.
    """
    mean, coefficients, basis = factors
    total = np.tile(mean.astype(np.float64), (len(coefficients), 1))
    for k in range(RANK):
        total += coefficients[:, k, None].astype(np.float64) * basis[k].astype(np.float64)
    return total.astype(np.float32)


def _ranks(values: np.ndarray) -> np.ndarray:
    """int32: how many float32 values lie between 0 and each of `values`, signed; every bit pattern
    has its own.
    """
    bits = np.ascontiguousarray(values).view(np.int32)
    return np.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits)


def _floats(ranks: np.ndarray) -> np.ndarray:
    """float32 of `_ranks`; whole numbers of any width are taken modulo 2^32."""
    ranks = ranks.astype(np.int32)
    return np.where(ranks < 0, (-1 - ranks) | np.int32(-0x80000000), ranks).view(np.float32)


def _planes(steps: np.ndarray) -> bytes:
    """int32 folded to 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..., as four planes of bytes."""
    return (
        ((steps << 1) ^ (steps >> 31))
        .astype("<i4")
        .reshape(-1)
        .view(np.uint8)
        .reshape(-1, 4)
        .T.tobytes()
    )


def _from_planes(data: bytes) -> np.ndarray:
    folded = (
        np.frombuffer(data, np.uint8)
        .reshape(4, -1)
        .T.copy()
        .view("<u4")
        .reshape(-1)
        .astype(np.int64)
    )
    return (folded >> 1) ^ -(folded & 1)


class TooMany(Exception):
    """Pictures of more colours than one byte can number."""


class Colours:
    """Numbers 0 to 255 for the few colours of label pictures; grey pictures are numbers already."""

    def __init__(self, known: Sequence[Sequence[int]] = ()):
        self.known = [
            list(colour) for colour in known
        ]  # each [R, G, B] or [R, G, B, A], in the order first seen

    def numbers(
        self, pictures: Iterator[np.ndarray], shape: tuple[int, int]
    ) -> Iterator[np.ndarray]:
        """uint8 [H, W] of pictures uint8 [H, W] or [H, W, C]; raises TooMany, also for one of
        another shape.
        """
        for i, picture in enumerate(pictures):
            if picture.shape[:2] != shape or (i and (picture.ndim == 3) != bool(self.known)):
                raise TooMany
            yield picture if picture.ndim == 2 else self._numbered(picture)

    def _numbered(self, picture: np.ndarray) -> np.ndarray:
        depth = picture.shape[2]
        code = np.zeros(picture.shape[:2], np.uint32)
        for channel in range(depth):
            code |= picture[..., channel].astype(np.uint32) << np.uint32(8 * channel)
        numbers, todo = np.zeros(code.shape, np.uint8), np.ones(code.shape, bool)
        for number in range(257):
            if number == len(self.known):
                if not todo.any():
                    return numbers
                self.known.append(picture[todo][0].tolist())
            if number == 256 or len(self.known[number]) != depth:
                break
            same = code == sum(
                value << 8 * channel for channel, value in enumerate(self.known[number])
            )
            numbers[same], todo = number, todo & ~same
        raise TooMany

    def pictures(self, numbers: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The pictures that `numbers` was given. Raises Damaged for a number without a colour."""
        table = np.array(self.known, np.uint8) if self.known else None
        for picture in numbers:
            if table is not None and picture.max() >= len(table):
                raise Damaged(f"colour {picture.max()} of {len(table)}")
            yield picture if table is None else table[picture]


def encode_pictures(
    pictures: Iterator[np.ndarray], shape: tuple[int, int], file: IO[bytes]
) -> None:
    """Write pictures uint8 [H, W] as a video from which `decode_pictures` reads the same: H.264
    without loss.

    Masks change little from frame to frame, so it takes a quarter of what FFV1 and a seventh of
    what PNG files take.
    """
    _encode(pictures, shape, file, "gray", LOSSLESS)


def decode_pictures(file: IO[bytes], shape: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """The `count` pictures uint8 [H, W] that `encode_pictures` was given. Raises Damaged."""
    for frame in _decode(
        file, shape, count, ("gray", "yuv420p")
    ):  # decoders add empty colour planes
        plane = frame.planes[0]
        yield (
            np.frombuffer(bytes(plane), np.uint8)
            .reshape(-1, plane.line_size)[: shape[0], : shape[1]]
            .copy()
        )


def encode_clip(pictures: Iterator[np.ndarray], shape: tuple[int, int], file: IO[bytes]) -> None:
    """Write pictures uint8 [H, W, 3] RGB as H.264 at full colour resolution, near lossless."""
    _encode(pictures, shape, file, "yuv444p", CLIP_QUALITY)


def decode_clip(file: IO[bytes], shape: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """The `count` pictures uint8 [H, W, 3] RGB of what `encode_clip` wrote, to within 46 dB. Raises
    Damaged.
    """
    for frame in _decode(file, shape, count, ("yuv444p",)):
        yield frame.to_ndarray(format="rgb24")


def _encode(
    pictures: Iterator[np.ndarray],
    shape: tuple[int, int],
    file: IO[bytes],
    pixels: str,
    options: dict[str, str],
) -> None:
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *shape, pixels
        for i, picture in enumerate(pictures):
            assert picture.dtype == np.uint8 and picture.shape[:2] == shape, (
                picture.dtype,
                picture.shape,
            )
            frame = av.VideoFrame.from_ndarray(picture, "gray" if picture.ndim == 2 else "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _decode(
    file: IO[bytes], shape: tuple[int, int], count: int, pixels: tuple[str, ...]
) -> Iterator[av.VideoFrame]:
    done = 0
    try:
        with av.open(file, format="matroska") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if (
                    (frame.height, frame.width) != shape
                    or frame.format.name not in pixels
                    or done == count
                ):
                    raise Damaged(
                        f"picture {done} of {count} is {frame.width}x{frame.height} {frame.format.name}"
                    )
                yield frame
                done += 1
    except (av.error.FFmpegError, IndexError) as error:
        raise Damaged(str(error)) from error
    if done < count:
        raise Damaged(f"{done} of {count} pictures")
