"""RGB to I420: native code against numpy, and both against known colours."""

from __future__ import annotations

import numpy as np
import pytest

from being.inference.i420 import (
    JPEG_COLOURS,
    VIDEO_COLOURS,
    Colours,
    i420_by_numpy,
    i420_bytes,
    write_i420,
)


@pytest.mark.parametrize("colours", [VIDEO_COLOURS, JPEG_COLOURS])
@pytest.mark.parametrize("shape", [(16, 16), (34, 1030), (1024, 512)])
def test_native_code_agrees_with_numpy(colours: Colours, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    out = np.zeros(image.size // 2, np.uint8)
    write_i420(image, out, colours)
    assert np.abs(out.astype(int) - i420_by_numpy(image, colours)).max() <= 1


def test_known_colours() -> None:
    """White, black and the primaries of BT.709 (limited) and BT.601 (full)."""
    known = {
        (255, 255, 255): ((235, 128, 128), (255, 128, 128)),
        (0, 0, 0): ((16, 128, 128), (0, 128, 128)),
        (255, 0, 0): ((63, 102, 240), (76, 85, 255)),
        (0, 0, 255): ((32, 240, 118), (29, 255, 107)),
    }
    for rgb, expected in known.items():
        for colours, values in zip((VIDEO_COLOURS, JPEG_COLOURS), expected, strict=True):
            image = np.full((4, 4, 3), rgb, np.uint8)
            out = np.zeros(i420_bytes(4), np.uint8)
            write_i420(image, out, colours)
            assert np.abs(out[[0, 16, 20]].astype(int) - values).max() <= 1, (rgb, out)
