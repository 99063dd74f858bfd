"""The face's own axes in the picture, and the cut along the jaw and below the ears that parts head
from neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import FACE_OVAL

# Along the face's own axes, in face heights (brow to chin) or widths.
JAW_MARGIN = (
    0.008,
    0.018,
)  # the cut runs this far outside the mesh's jaw line, at the jaw's corners and at the chin
EARS = ((127, 234, 93, 132), (356, 454, 323, 361))  # the mesh's rim where the ears are
EAR_WIDTH = 0.06
EAR_DROP = 0.02
EAR_REACH = 0.45  # width beside the jaw in which the cut runs level; beyond it rises


@dataclass(frozen=True)
class Face:
    """The face's own axes in the picture; made with `of` from landmarks float [478, 2] px."""

    position: np.ndarray  # [478, 2] px
    centre: np.ndarray
    down: np.ndarray  # unit vectors
    right: np.ndarray
    height: float  # px, top of the oval to the chin
    width: float

    @classmethod
    def of(cls, position: np.ndarray) -> Face:
        """From landmarks float [478, 2] px."""
        oval = position[FACE_OVAL].astype(np.float64)
        down = oval[18] - oval[0]
        height = float(np.hypot(*down))
        down = down / height
        right = np.array([down[1], -down[0]])
        return cls(position, oval.mean(0), down, right, height, float(np.ptp(oval @ right)))

    @property
    def area(self) -> float:
        """Of the box round the face, px^2."""
        return self.height * self.width

    @property
    def ear_level(self) -> float:
        """Along `down` from the centre: where the ears end."""
        corners = (self.position[[58, 288]] - self.centre) @ self.down
        return float(corners.mean()) + EAR_DROP * self.height

    def coordinates(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Of every pixel: px to the right of and below the face's centre along its axes, float32
        [H, W] each.
        """
        x = np.arange(width, dtype=np.float32) - np.float32(self.centre[0])
        y = (np.arange(height, dtype=np.float32) - np.float32(self.centre[1]))[:, None]
        right, down = self.right.astype(np.float32), self.down.astype(np.float32)
        return x * right[0] + y * right[1], x * down[0] + y * down[1]

    def oval(self, height: int, width: int) -> np.ndarray:
        """Inside of the mesh's rim, bool [H, W]."""
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [self.position[FACE_OVAL].round().astype(np.int32)], (1,))
        return mask > 0

    def ears(self, height: int, width: int) -> np.ndarray:
        """Where ears can be: beside the oval from the brow to the jaw's corner, bool [H, W]."""
        mask = np.zeros((height, width), np.uint8)
        for side, outward in zip(EARS, (-self.right, self.right), strict=True):
            line = (
                (self.position[list(side)] + EAR_WIDTH * self.width * outward)
                .round()
                .astype(np.int32)
            )
            cv2.polylines(mask, [line], False, (1,), max(1, round(2 * EAR_WIDTH * self.width)))
        return mask > 0


def above_jaw(position: np.ndarray, height: int, width: int) -> np.ndarray:
    """Share float32 [H, W] of each pixel on the head's side of the cut along the jaw and out below
    the ears.
    """
    face = Face.of(position)
    jaw = position[FACE_OVAL[11:26]].astype(
        np.float64
    )  # from the picture's right jaw corner by the chin to its left
    out = jaw - face.centre
    margin = (
        np.interp(np.sin(np.linspace(0, np.pi, len(jaw))), (0, 1), JAW_MARGIN)[:, None]
        * face.height
    )
    jaw = jaw + out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6) * margin
    far = 3.0 * max(height, width)
    ears, reach = EAR_DROP * face.height * face.down, EAR_REACH * face.width
    right = [jaw[0] + ears, jaw[0] + ears + reach * face.right]
    left = [jaw[-1] + ears - reach * face.right, jaw[-1] + ears]
    right.append(right[-1] + far * (face.right - face.down))
    left.insert(0, left[0] - far * (face.right + face.down))
    corners = np.concatenate([right[::-1], jaw, left[::-1]])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(
        mask,
        [(np.clip(corners, -8000, 8000) * 16).round().astype(np.int32)],
        (255,),
        cv2.LINE_AA,
        4,
    )
    return mask.astype(np.float32) / 255


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turn, scale and shift float32 [2, 3] that lay points float [N, 2] on others by least squares."""
    middle, goal = source.mean(0, dtype=np.float64), target.mean(0, dtype=np.float64)
    a, b = source - middle, target - goal
    turn = np.array([(a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()]) / (a**2).sum()
    matrix = np.array([[turn[0], -turn[1]], [turn[1], turn[0]]])
    return np.column_stack([matrix, goal - matrix @ middle]).astype(np.float32)
