"""A face in a small picture of its own: eyes and nose always at the same place."""

from __future__ import annotations

import cv2
import numpy as np

from being.face.topology import EYE_OUTER_LEFT, EYE_OUTER_RIGHT

PATCH = 64  # px, side
NOSE_BASE = 2  # landmark under the nose, which does not move with the jaw
# Where these landmarks lie in the patch, px.
ANCHORS = (EYE_OUTER_RIGHT, EYE_OUTER_LEFT, NOSE_BASE)
PLACES = np.array([[14, 20], [50, 20], [32, 40]], np.float32)


def patch_map(points: np.ndarray) -> np.ndarray:
    """The affine map float64 [2, 3] of px of the picture to px of the patch.

    points: float32 [478, 3] px of the picture.
    """
    return cv2.getAffineTransform(points[ANCHORS, :2].astype(np.float32), PLACES)


def face_patch(picture: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """The face as uint8 [64, 64, 3] RGB, or None without a face.

    picture: uint8 [H, W, 3] RGB. points: float32 [478, 3] px of it, NaN without a face.
    """
    if np.isnan(points[0, 0]):
        return None
    matrix = patch_map(points)
    # A face larger than the patch is blurred first, so that nothing aliases.
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 0.5:
        low = np.maximum(points[:, :2].min(0).astype(int) - 8, 0)
        high = points[:, :2].max(0).astype(int) + 8
        picture = picture[low[1] : high[1], low[0] : high[0]]
        if not picture.size:
            return None
        small = cv2.resize(picture, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        ratio = np.array([small.shape[1] / picture.shape[1], small.shape[0] / picture.shape[0]])
        picture, points = small, (points[:, :2] - low + 0.5) * ratio - 0.5
        matrix = patch_map(points)
    return cv2.warpAffine(
        picture, matrix, (PATCH, PATCH), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
