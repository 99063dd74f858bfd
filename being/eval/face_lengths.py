"""Lengths measured on the landmarks of image sequences."""

from __future__ import annotations

import numpy as np

from being.face.landmarks import Landmarks
from being.face.topology import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, IBUG_68, RIGID

MOUTH_CORNERS = (61, 291)
LIP_POINTS = IBUG_68[48:]  # the 20 lip points of the 68, as in the published LMD


def concatenate_landmarks(parts: list[Landmarks]) -> Landmarks:
    """Landmarks of several sequences, one after the other."""
    fields = ("points", "blendshapes", "confidence")
    return Landmarks(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def lip_width(points: np.ndarray) -> np.ndarray:
    """Lip width float32 [F]: distance of the mouth corners divided by the distance of the outer eye
    corners; NaN where no face was found.

    points: float [F, 478, 2 or 3] px.
    """

    def distance(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=-1)

    eyes = np.maximum(distance(EYE_OUTER_RIGHT, EYE_OUTER_LEFT), 1e-6)
    return (distance(*MOUTH_CORNERS) / eyes).astype(np.float32)


def landmark_distance(true: np.ndarray, rendered: np.ndarray) -> np.ndarray:
    """LMD float64 [F] in px: mean distance of the 20 lip landmarks.

    The mean of each frame's lip landmarks is subtracted first, so a shifted mouth of the right
    shape has LMD 0 (Chen et al. 2018, ECCV; the GaussianTalker family removes the translation too).

    true, rendered: float [F, 478, 2 or 3] px of the same size; NaN where no face was found.
    """

    def lip_shape(points: np.ndarray) -> np.ndarray:
        lips = points[:, LIP_POINTS, :2].astype(np.float64)
        return lips - lips.mean(1, keepdims=True)

    return np.linalg.norm(lip_shape(true) - lip_shape(rendered), axis=-1).mean(1)


def jitter(points: np.ndarray, segment: np.ndarray | None = None) -> np.ndarray:
    """Jitter float64 [F] in px: mean length of the second difference in time of the rigid
    landmarks.

    NaN in the first and last frame, beside a missed face, and between two segments.

    points: float [F, 478, 2 or 3] px; segment: int [F], the clip's segment of each frame.
    """
    rigid = points[:, RIGID, :2].astype(np.float64)
    found = np.full(len(points), np.nan)
    if len(points) >= 3:
        second_difference = rigid[2:] - 2 * rigid[1:-1] + rigid[:-2]
        found[1:-1] = np.linalg.norm(second_difference, axis=-1).mean(1)
        if segment is not None:
            found[1:-1][segment[2:] != segment[:-2]] = np.nan
    return found
