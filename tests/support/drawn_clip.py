"""A clip of a drawn person who sways before a wall, with its true parts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO
from being.face.topology import FACE_OVAL

SIZE = 256  # px
FACE = (38, 52)  # px: half axes of the face


@dataclass
class DrawnClip:
    """A head that sways over a still torso in front of a textured wall; every part is known."""

    frames: list[np.ndarray]  # uint8 [H, W, 3] RGB
    labels: list[np.ndarray]  # uint8 [H, W]
    points: np.ndarray  # float32 [F, 478, 3] px, only the face oval is drawn
    wall: np.ndarray  # uint8 [H, W, 3] RGB

    def network(self, error_px: int = 3):
        """A parser as coarse as the real one: 128 px, and too large by `error_px`."""
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * error_px + 1,) * 2)

        def person(frame: np.ndarray) -> np.ndarray:
            index = next(i for i, f in enumerate(self.frames) if f is frame)
            mask = cv2.dilate((self.labels[index] != BACKGROUND).astype(np.uint8), disc).astype(
                np.float32
            )
            return cv2.resize(mask, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)[None]

        return person


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def draw_clip(count: int = 12, long_hair: bool = False, hair_ends: int = 96) -> DrawnClip:
    """A clip of `count` frames. hair_ends: px below the middle of the face, of long hair."""
    rng = np.random.default_rng(3)
    coarse = rng.uniform(90, 200, (16, 16, 3)).astype(np.float32)
    wall = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) * (0.6, 0.9, 1.0)
    points = np.full((count, 478, 3), np.nan, np.float32)
    frames, labels = [], []
    for i in range(count):
        cx, cy = 128 + round(20 * np.sin(2 * np.pi * i / count)), 96
        part = np.full((SIZE, SIZE), BACKGROUND, np.uint8)
        picture = wall.copy()

        def paint(shape: np.ndarray, colour: tuple, label: int, picture=picture, part=part) -> None:
            picture[shape > 0] = colour
            part[shape > 0] = label

        blank = np.zeros((SIZE, SIZE), np.uint8)
        paint(
            cv2.ellipse(blank.copy(), (128, 262), (110, 80), 0, 0, 360, (1,), -1),
            (40, 60, 150),
            TORSO,
        )
        if long_hair:
            paint(
                cv2.rectangle(blank.copy(), (cx - 54, cy), (cx + 54, cy + hair_ends), (1,), -1),
                (70, 35, 20),
                HEAD,
            )
        paint(
            cv2.rectangle(blank.copy(), (cx - 20, cy + 30), (cx + 20, 190), (1,), -1),
            (190, 130, 105),
            NECK,
        )
        paint(
            cv2.ellipse(blank.copy(), (cx, cy - 12), (50, 60), 0, 180, 360, (1,), -1),
            (70, 35, 20),
            HEAD,
        )
        paint(
            cv2.rectangle(blank.copy(), (cx - 50, cy - 12), (cx + 50, cy + 6), (1,), -1),
            (70, 35, 20),
            HEAD,
        )
        paint(cv2.ellipse(blank.copy(), (cx, cy), FACE, 0, 0, 360, (1,), -1), (220, 160, 130), HEAD)
        picture = cv2.GaussianBlur(picture, (0, 0), 0.7) + rng.normal(0, 1.5, picture.shape)
        frames.append(picture.clip(0, 255).astype(np.uint8))
        labels.append(part)
        angle = np.arange(36) * np.pi / 18
        points[i] = (cx, cy, 0)
        points[i, FACE_OVAL, 0] = cx + FACE[0] * np.sin(angle)
        points[i, FACE_OVAL, 1] = cy - FACE[1] * np.cos(angle)
    return DrawnClip(frames, labels, points, wall.clip(0, 255).astype(np.uint8))
