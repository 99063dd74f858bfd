"""Labelled grids of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

PAPER = (24, 24, 24)


INK = (235, 235, 235)


TEXT_PX = 22  # height of a label line


GAP = 4


def frame_grid(
    rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], cell: int | None = None
) -> np.ndarray:
    """A labelled grid uint8 [h, w, 3] RGB: one row of equal-sized pictures for each label.

    rows: for each row pictures uint8 [H, W, 3] RGB of any size; cell: height of a picture in the
    grid, px (the first picture's own by default; all take the first picture's proportions).
    """
    assert len(rows) == len(labels) and len(rows) > 0, (len(rows), len(labels))
    first = next(picture for row in rows for picture in row)
    height = cell or first.shape[0]
    width = round(first.shape[1] * height / first.shape[0])
    across = max(len(row) for row in rows)
    grid = np.full(
        (len(rows) * (height + TEXT_PX + GAP), across * (width + GAP) - GAP, 3), PAPER, np.uint8
    )
    for r, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = r * (height + TEXT_PX + GAP)
        cv2.putText(
            grid, label, (4, top + TEXT_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA
        )
        for c, picture in enumerate(row):
            assert picture.dtype == np.uint8 and picture.ndim == 3, (picture.dtype, picture.shape)
            left = c * (width + GAP)
            grid[top + TEXT_PX : top + TEXT_PX + height, left : left + width] = _fit(
                picture, width, height
            )
    return grid


def _fit(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = picture.shape[0] > height
    return cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
