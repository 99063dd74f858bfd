"""The face's axes in the image, and the cut along the jaw that separates head and neck."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import FACE_OVAL

# Lengths along the face's own axes, in face heights (brow to chin) or widths.
# The cut runs this far outside the mesh's jaw line: at the corners of the jaw, and at the chin.
JAW_MARGIN = (0.008, 0.018)
EARS = ((127, 234, 93, 132), (356, 454, 323, 361))  # points of the mesh's border near the ears
EAR_WIDTH = 0.06
EAR_DROP = 0.02  # how far the ears end below the corners of the jaw
EAR_REACH = 0.45  # width beside the jaw in which the cut is level; beyond that it rises
COLLAR_REACH = 0.25  # how far cloth may reach above the cut, beside the jaw


@dataclass(frozen=True)
class FaceAxes:
    """Centre, axes and size of a face in the image. Make one with `from_landmarks`."""

    position: np.ndarray  # [478, 2] px, the landmarks
    centre: np.ndarray  # [2] px
    down: np.ndarray  # [2], unit vector from the brow to the chin
    right: np.ndarray  # [2], unit vector
    height: float  # px, top of the oval to the chin
    width: float  # px, of the oval

    @classmethod
    def from_landmarks(cls, position: np.ndarray) -> FaceAxes:
        """The axes of landmarks float [478, 2] px."""
        oval = position[FACE_OVAL].astype(np.float64)
        down = oval[18] - oval[0]
        height = float(np.hypot(*down))
        down = down / height
        right = np.array([down[1], -down[0]])
        return cls(position, oval.mean(0), down, right, height, float(np.ptp(oval @ right)))

    @property
    def area(self) -> float:
        """Area of the box around the face, px^2."""
        return self.height * self.width

    @property
    def ear_level(self) -> float:
        """Where the ears end: px along `down` from the centre."""
        corners = (self.position[[58, 288]] - self.centre) @ self.down
        return float(corners.mean()) + EAR_DROP * self.height

    def coordinates(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Face coordinates of every pixel, float32 [H, W] each: px along `right` and `down`.

        height, width: of the image. The origin is the face's centre.
        """
        x = np.arange(width, dtype=np.float32) - np.float32(self.centre[0])
        y = (np.arange(height, dtype=np.float32) - np.float32(self.centre[1]))[:, None]
        right, down = self.right.astype(np.float32), self.down.astype(np.float32)
        return x * right[0] + y * right[1], x * down[0] + y * down[1]

    def oval(self, height: int, width: int) -> np.ndarray:
        """The area inside the mesh's border, bool [H, W]."""
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [self.position[FACE_OVAL].round().astype(np.int32)], (1,))
        return mask > 0

    def ears(self, height: int, width: int) -> np.ndarray:
        """Where ears can be, bool [H, W]: beside the oval from the brow to the jaw's corner."""
        mask = np.zeros((height, width), np.uint8)
        thickness = max(1, round(2 * EAR_WIDTH * self.width))
        for side, outward in zip(EARS, (-self.right, self.right), strict=True):
            line = self.position[list(side)] + EAR_WIDTH * self.width * outward
            cv2.polylines(mask, [line.round().astype(np.int32)], False, (1,), thickness)
        return mask > 0


def above_jaw(position: np.ndarray, height: int, width: int) -> np.ndarray:
    """Share float32 [H, W] of each pixel on the head's side of the cut.

    The cut runs along the jaw and outward below the ears. position: landmarks [478, 2] px. height,
    width: of the image.
    """
    # The jaw from the corner at the right of the image by the chin to the other, moved outward.
    face = FaceAxes.from_landmarks(position)
    jaw = position[FACE_OVAL[11:26]].astype(np.float64)
    outward = jaw - face.centre
    bow = np.sin(np.linspace(0, np.pi, len(jaw)))
    margin = np.interp(bow, (0, 1), JAW_MARGIN)[:, None] * face.height
    jaw = jaw + outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6) * margin

    # Level lines below the ears, then rising lines that leave the image.
    far = 3.0 * max(height, width)
    drop, reach = EAR_DROP * face.height * face.down, EAR_REACH * face.width
    right = [jaw[0] + drop, jaw[0] + drop + reach * face.right]
    left = [jaw[-1] + drop - reach * face.right, jaw[-1] + drop]
    right.append(right[-1] + far * (face.right - face.down))
    left.insert(0, left[0] - far * (face.right + face.down))

    # Fill the polygon with antialiasing, in 1/16 px.
    corners = np.concatenate([right[::-1], jaw, left[::-1]])
    polygon = (np.clip(corners, -8000, 8000) * 16).round().astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [polygon], (255,), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Matrix float32 [2, 3] (rotation, scale, shift) that maps `source` best onto `target`.

    source, target: points float [N, 2]. Least squares.
    """
    source_mean = source.mean(0, dtype=np.float64)
    target_mean = target.mean(0, dtype=np.float64)
    a, b = source - source_mean, target - target_mean
    cosine = (a * b).sum()
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    turn = np.array([cosine, sine]) / (a**2).sum()
    linear = np.array([[turn[0], -turn[1]], [turn[1], turn[0]]])
    return np.column_stack([linear, target_mean - linear @ source_mean]).astype(np.float32)
