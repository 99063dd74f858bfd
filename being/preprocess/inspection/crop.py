"""The square round the head that becomes the dataset's picture: from the head over the whole kept
clip.
"""

from __future__ import annotations

import numpy as np

CROP_FACES = 2.5  # side of the square over the face's (brow to chin)
CROP_FACE_AT = 0.54  # height of the face's centre in the square
WHOLE_FROM = 0.75  # share of the picture's shorter side from which the square takes all of it
HAIR = 0.45  # height of the crown over the brow line's top, over the face's height
MESH_POINTS = 468  # the rest are the irises


def face_boxes(points: np.ndarray) -> np.ndarray:
    """Boxes float64 [n, 4] of faces (left, top, right, bottom, px) with these points [n, 478, 3]."""
    assert points.ndim == 3 and len(points), points.shape
    face = points[:, :MESH_POINTS, :2].astype(np.float64)
    return np.concatenate([face.min(1), face.max(1)], 1)


def square_round_head(width: int, height: int, boxes: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side in px of the square of a picture to keep, for face boxes [n, 4] over the
    clip.

    A square that would take nearly all of the shorter side takes all of it, so that a square
    picture stays whole.
    """
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    spread = float(max(0.0, (high - low).max() - face))
    wanted, short = CROP_FACES * face + spread, min(width, height)
    side = short if wanted >= WHOLE_FROM * short else round(wanted)
    centre = (low + high) / 2
    left = int(np.clip(round(centre[0] - side / 2), 0, width - side))
    top = int(np.clip(round(centre[1] - CROP_FACE_AT * side), 0, height - side))
    return left, top, side


def crown_cut(boxes: np.ndarray, top: int) -> np.ndarray:
    """bool [n]: faces whose hair must reach over the upper edge `top` (px) of the square."""
    return boxes[:, 1] - HAIR * (boxes[:, 3] - boxes[:, 1]) < top
