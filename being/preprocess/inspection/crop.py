"""The square crop around the head: one square for the whole clip."""

from __future__ import annotations

import numpy as np

CROP_FACES = 2.5  # side of the square over the face's height (brow to chin)
CROP_FACE_AT = 0.54  # height of the face's centre in the square
TIGHT_CROP_FACES = 1.9  # the same of a tight square: the head with its hair, and a margin
WHOLE_FROM = 0.75  # share of the picture's shorter side from which the square takes all of it
HAIR_HEIGHT = 0.45  # height of the crown over the top of the brows, over the face's height
MESH_POINTS = 468  # the other landmarks are the irises


def face_boxes(points: np.ndarray) -> np.ndarray:
    """Face boxes float64 [n, 4] (left, top, right, bottom, px) of landmarks [n, 478, 3] px."""
    assert points.ndim == 3 and len(points), points.shape
    face = points[:, :MESH_POINTS, :2].astype(np.float64)
    return np.concatenate([face.min(1), face.max(1)], 1)


def head_square(
    width: int, height: int, boxes: np.ndarray, tight: bool = False
) -> tuple[int, int, int]:
    """Left, top and side in px of the square to keep of a picture.

    width, height: of the picture, px. boxes: face boxes [n, 4] px over the whole clip. A square
    that would take nearly all of the shorter side takes all of it: a square picture stays whole.
    tight: the square holds little more than the head, which then has more pixels.
    """
    # The square holds the usual face and the way that the head moves.
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    motion = float(max(0.0, (high - low).max() - face))
    wanted = (TIGHT_CROP_FACES if tight else CROP_FACES) * face + motion
    shorter = min(width, height)
    whole_from = 1.0 if tight else WHOLE_FROM
    side = shorter if wanted >= whole_from * shorter else round(wanted)

    # The square stays inside the picture.
    centre = (low + high) / 2
    left = int(np.clip(round(centre[0] - side / 2), 0, width - side))
    top = int(np.clip(round(centre[1] - CROP_FACE_AT * side), 0, height - side))
    return left, top, side


def hair_cut_off(boxes: np.ndarray, top: int) -> np.ndarray:
    """bool [n]: the faces whose hair reaches over the upper edge `top` (px) of the square."""
    return boxes[:, 1] - HAIR_HEIGHT * (boxes[:, 3] - boxes[:, 1]) < top
