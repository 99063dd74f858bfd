"""Clips of a drawn talking head with known poses, real enough for the face detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from being.data.cameras import euler_to_rotation
from being.face.canonical_mesh import canonical_mesh
from being.face.topology import EYE_LEFT, EYE_RIGHT, INNER_LIPS, OUTER_LIPS
from being.media import VideoWriter

FOCAL_RATIO = 2.2  # focal length over image side
DISTANCE = 9.5  # head units
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
SKIN, LIP, HAIR, WHITE, CLOTH = (
    (205, 160, 135),
    (170, 75, 75),
    (60, 40, 30),
    (235, 235, 235),
    (50, 70, 120),
)
BACKDROP = (150, 165, 175)
LIGHT = np.array([0.25, 0.45, 0.85])
Colour = tuple[int, int, int]


def face_points(euler: np.ndarray, trans: np.ndarray, side: int, jaw: float = 0.0) -> np.ndarray:
    """Pixels float64 [468, 2] of the mesh under a pose (radians, head units).

    jaw: opening of the mouth, 0 to 1.
    """
    vertices = canonical_mesh()[0].astype(np.float64) / 10
    lower = np.clip(-vertices[:, 1] - 0.42, 0, 0.1)[:, None] * 10
    vertices = vertices + jaw * lower * [0, -0.12, -0.02]
    placed = vertices @ euler_to_rotation(euler).T + trans
    return (
        placed[:, :2] / -placed[:, 2:] * [side * FOCAL_RATIO, -side * FOCAL_RATIO] + (side - 1) / 2
    )


def draw(points: np.ndarray, picture: np.ndarray) -> None:
    """Draw the person with the mesh points [468, 2] px into `picture` uint8 [H, W, 3] RGB."""
    top, chin, left, right = points[10], points[152], points[234], points[454]
    wide, tall, middle = (
        np.linalg.norm(right - left),
        np.linalg.norm(chin - top),
        (left + right) / 2,
    )
    corners = np.array([[-0.75, 1.7], [-0.3, 0.75], [0.3, 0.75], [0.75, 1.7]]) * [wide, tall]
    _fill(picture, middle + corners, CLOTH)
    below = np.array([0, 0.9 * tall])
    neck = [
        middle - [0.27 * wide, 0] + below,
        left * 0.75 + right * 0.25,
        left * 0.25 + right * 0.75,
        middle + [0.27 * wide, 0] + below,
    ]
    _fill(picture, np.stack(neck), _shade(SKIN, 0.8))
    down = (chin - top) / tall
    crown = tuple(np.round(middle - down * 0.18 * tall).astype(int).tolist())
    turn = float(np.degrees(np.arctan2(-down[0], down[1])))
    cv2.ellipse(
        picture, crown, (round(0.56 * wide), round(0.5 * tall)), turn, 0, 360, HAIR, -1, cv2.LINE_AA
    )
    _draw_skin(points, picture)
    _fill(picture, points[OUTER_LIPS], LIP)
    _fill(picture, points[INNER_LIPS], (45, 15, 15))
    for eye in (EYE_RIGHT, EYE_LEFT):
        _fill(picture, points[eye], WHITE)
        radius = 0.21 * np.linalg.norm(points[eye[0]] - points[eye[8]])
        _dot(picture, points[eye].mean(0), radius, (60, 40, 25))
        _dot(picture, points[eye].mean(0), 0.45 * radius, (5, 5, 5))
        cv2.polylines(picture, [_fixed(points[eye[:9]])], False, (40, 25, 20), 2, cv2.LINE_AA, 4)
    for brow in BROWS:
        _fill(picture, points[list(brow)], HAIR)
    for nostril in (98, 327):
        _dot(picture, points[nostril], 0.018 * wide, (90, 50, 40))


def _draw_skin(points: np.ndarray, picture: np.ndarray) -> None:
    vertices, triangles = canonical_mesh()
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    light = np.clip(0.55 + 0.5 * normal @ LIGHT / np.linalg.norm(normal, axis=1), 0.3, 1.15)
    for t in np.argsort(vertices[triangles].mean(1)[:, 2]):
        _fill(picture, points[triangles[t]], _shade(SKIN, light[t]))


def _shade(colour: Colour, light: float) -> Colour:
    red, green, blue = (int(min(255, channel * light)) for channel in colour)
    return red, green, blue


def _fixed(corners: np.ndarray) -> np.ndarray:
    return np.round(corners * 16).astype(np.int32)[:, None]


def _fill(picture: np.ndarray, corners: np.ndarray, colour: Colour) -> None:
    cv2.fillPoly(picture, [_fixed(corners)], colour, cv2.LINE_AA, 4)


def _dot(picture: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    cv2.circle(
        picture, _fixed(centre[None])[0, 0].tolist(), int(radius * 16), colour, -1, cv2.LINE_AA, 4
    )


def talking_head(frames: int, side: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images uint8 [side, side, 3] RGB, true angles [F, 3] in radians, points [F, 468, 2] px."""
    time = np.arange(frames) / 25
    euler = np.radians(
        np.stack([5 * np.sin(2.3 * time), 12 * np.sin(1.5 * time), 3 * np.sin(1.1 * time)], 1)
    )
    trans = np.stack([0.1 * np.sin(time), 0.05 * np.cos(time), np.full(frames, -DISTANCE)], 1)
    jaw = np.clip(np.sin(9 * time), 0, 1)
    points = np.stack(
        [face_points(e, t, side, j) for e, t, j in zip(euler, trans, jaw, strict=True)]
    )
    pictures = []
    for face in points:
        picture = np.empty((side, side, 3), np.uint8)
        picture[:] = BACKDROP
        draw(face, picture)
        pictures.append(picture)
    return pictures, euler, points


def write_clip(path: Path, pictures: list[np.ndarray], sound: np.ndarray | None) -> Path:
    """A video of the pictures, with sound float32 [T] at 16 kHz or none."""
    with VideoWriter(path, pictures[0].shape[1], pictures[0].shape[0], audio=sound) as video:
        for picture in pictures:
            video.write(picture)
    return path
