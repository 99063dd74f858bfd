"""Conversion of rendered RGB images to I420, the input of video encoders.

I420 is planar: Y [S, S], then Cb and Cr [S / 2, S / 2], 1.5 S^2 bytes. Native code does it in about
a tenth of the time of numpy, which takes over where the library was not built.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np

# Version of the C functions, as in i420.cpp; raise both with every change.
INTERFACE = 1
FOLDER = Path(__file__).parent / "backends/cpu"
SHIFT = 15  # fraction bits of the native matrix


class Colours:
    """How RGB becomes YCbCr: the shares of red and blue in luma, and the range."""

    def __init__(self, red: float, blue: float, full_range: bool):
        """full_range: luma spans 0 to 255 (JPEG), else 16 to 235 (video)."""
        green = 1 - red - blue
        luma, chroma = (1.0, 1.0) if full_range else (219 / 255, 224 / 255)
        self.black = 0 if full_range else 16
        rows = np.array(
            [
                [red, green, blue],
                [-red / (2 - 2 * blue), -green / (2 - 2 * blue), 0.5],
                [0.5, -green / (2 - 2 * red), -blue / (2 - 2 * red)],
            ]
        )
        self.matrix = rows * np.array([luma, chroma, chroma])[:, None]
        self.native = np.round(self.matrix * (1 << SHIFT)).astype(np.int32).ravel()


# H.264 (BT.709, limited range, as its stream says) and JPEG (BT.601, full range).
VIDEO_COLOURS = Colours(0.2126, 0.0722, full_range=False)
JPEG_COLOURS = Colours(0.299, 0.114, full_range=True)
COLOURS = (VIDEO_COLOURS, JPEG_COLOURS)


def i420_bytes(size: int) -> int:
    """Bytes of an I420 image of size x size px; the size is even."""
    return size * size * 3 // 2


def write_i420(image: np.ndarray, out: np.ndarray, colours: Colours) -> None:
    """Convert `image` uint8 [H, W, 3] RGB, contiguous, sides even, into `out` uint8 [1.5 H W]."""
    height, width, channels = image.shape
    assert channels == 3 and height % 2 == 0 and width % 2 == 0, image.shape
    assert image.flags.c_contiguous and out.flags.c_contiguous, "both must be contiguous"
    assert image.dtype == out.dtype == np.uint8 and out.size == height * width * 3 // 2, out.size
    library = _load()
    if library is None:
        out[:] = i420_by_numpy(image, colours)
        return
    library.i420_convert(
        image.ctypes.data,
        width,
        height,
        colours.native.ctypes.data,
        colours.black,
        out.ctypes.data,
    )


def i420_by_numpy(image: np.ndarray, colours: Colours) -> np.ndarray:
    """The I420 image uint8 [1.5 H W] of `image` uint8 [H, W, 3] RGB."""
    height, width = image.shape[:2]
    matrix = colours.matrix.astype(np.float32)
    pixels = image.astype(np.float32)
    luma = pixels @ matrix[0] + (colours.black + 0.5)
    means = pixels.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    chroma = means @ matrix[1:].T + 128.5
    planes = [luma.ravel(), chroma[..., 0].ravel(), chroma[..., 1].ravel()]
    return np.concatenate(planes).clip(0, 255).astype(np.uint8)


def status() -> str:
    """Return "OK", or why the native library cannot be used and what to do."""
    from being.splat.cpu.library import load_best_library

    library, reason = load_best_library(FOLDER, "i420", "picture converter", INTERFACE)
    return "OK" if library else reason


@functools.cache
def _load() -> ctypes.CDLL | None:
    """The native library, or None where it was not built."""
    # It comes with torch, which front processes do not load: they need the sizes alone.
    from being.splat.cpu.library import load_best_library

    library, _ = load_best_library(FOLDER, "i420", "picture converter", INTERFACE)
    if library is None:
        return None
    pointer, int64 = ctypes.c_void_p, ctypes.c_int64
    library.i420_convert.argtypes = [pointer, int64, int64, pointer, ctypes.c_int32, pointer]
    library.i420_convert.restype = None
    return library
