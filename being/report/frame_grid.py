"""Labelled grids of images, for reports and previews."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

BACKGROUND = (24, 24, 24)
TEXT_COLOUR = (235, 235, 235)
TEXT_PX = 22  # height of a label line
GAP = 4  # px between two images


def frame_grid(
    rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], cell: int | None = None
) -> np.ndarray:
    """A labelled grid uint8 [h, w, 3] RGB: one row of images of the same size for each label.

    rows: the images uint8 [H, W, 3] RGB of each row, of any size. cell: height of an image in the
    grid, px (default: that of the first image). All images get the first image's aspect ratio.
    """
    assert len(rows) == len(labels) and len(rows) > 0, (len(rows), len(labels))
    first = next(image for row in rows for image in row)
    height = cell or first.shape[0]
    width = round(first.shape[1] * height / first.shape[0])
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + TEXT_PX + GAP), columns * (width + GAP) - GAP, 3)
    grid = np.full(shape, BACKGROUND, np.uint8)

    for r, (row, label) in enumerate(zip(rows, labels, strict=True)):
        # The label line
        top = r * (height + TEXT_PX + GAP)
        origin = (4, top + TEXT_PX - 7)
        cv2.putText(grid, label, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, TEXT_COLOUR, 1, cv2.LINE_AA)

        # The images below it
        top += TEXT_PX
        for c, image in enumerate(row):
            assert image.dtype == np.uint8 and image.ndim == 3, (image.dtype, image.shape)
            left = c * (width + GAP)
            grid[top : top + height, left : left + width] = _resize(image, width, height)
    return grid


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    smaller = image.shape[0] > height
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
