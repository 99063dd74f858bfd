"""The mask of the mouth, which a refinement leaves as it is: its shape is that of the speech."""

from __future__ import annotations

import cv2
import numpy as np

from being.face.topology import IBUG_68

LIPS = IBUG_68[48:]  # the 20 landmarks of the lips
GROWTH = 1.35  # of the lips' hull, about its centre
FEATHER = 0.12  # standard deviation of the soft edge, in widths of the mouth


def mouth_mask(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The share float32 [height, width] in 0..1 of each pixel that belongs to the mouth.

    points: landmarks float [478, 2 or 3] px of an image of that size.
    """
    lips = points[LIPS, :2].astype(np.float32)
    centre, mouth_width = lips.mean(0), float(np.ptp(lips[:, 0]))
    sigma = max(0.5, FEATHER * mouth_width)
    # The soft edge lies outside of the hull: its middle is two deviations away.
    around = lips - centre
    reach = np.linalg.norm(around, axis=1, keepdims=True)
    grown = centre + around * (GROWTH + 2 * sigma / np.maximum(reach, sigma))
    mask = np.zeros((height, width), np.float32)
    hull = cv2.convexHull(grown.round().astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 1.0)
    return cv2.GaussianBlur(mask, (0, 0), sigma)
