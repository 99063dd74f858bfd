"""Clips of a painted head with known poses: skin, moving brows, a talking jaw, and landmarks.

The landmarks have the errors of a network: noise, and a bias towards the frontal face where the
head is turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.data.cameras import euler_to_rotation
from being.face.canonical_mesh import add_skull
from being.face.topology import BROWS

SIDE = 512
# Share of nodding, turning and tilting that landmarks show (measured on the sample).
PULL = np.array([0.65, 0.9, 0.9])
SUBPIXEL = 4  # bits
TEXTURE = 1024  # px a side, round the head and from top to bottom


@dataclass(frozen=True)
class PaintedClip:
    """Images, landmarks and true poses of F frames (tracker axes, head units)."""

    frames: np.ndarray  # uint8 [F, 512, 512, 3] RGB
    points: np.ndarray  # float32 [F, 468, 2] px
    focal: float  # px
    euler: np.ndarray  # [F, 3] radians
    trans: np.ndarray  # [F, 3]


def painted_clip(
    mesh: tuple[np.ndarray, np.ndarray],
    frames: int,
    focal: float,
    seed: int,
    stretch: list[float],
    turns: list[float],
) -> PaintedClip:
    """A clip of `frames` frames through a lens of `focal` times the image side.

    mesh: `canonical_mesh`. stretch: of the head along x, y, z; waves of a few mm are added. turns:
    the largest nod, turn and tilt, degrees.
    """
    rng = np.random.default_rng(seed)
    rest, triangles = add_skull(*mesh)
    rest = rest / 10
    wave = 0.025 * np.sin(3 * rest[:, [1, 2, 0]] + rng.uniform(0, 6, 3))
    face = rest * stretch + wave
    time, phase = np.arange(frames) / 25 * 250 / frames, rng.uniform(0, 6, 6)
    swing = np.sin(time[:, None] * [1.9, 0.8, 1.3] + phase[:3]) + 0.2 * np.sin(
        time[:, None] * [5, 4, 4] + phase[3:]
    )
    euler = np.radians(swing * turns)
    distance = 3.2 * focal
    trans = np.stack(
        [0.15 * np.sin(0.9 * time), 0.1 * np.sin(1.9 * time), 0.02 * distance * np.sin(0.7 * time)],
        1,
    )
    trans[:, 2] -= distance
    jaw = np.clip(-rest[:, 1] - 0.35, 0, None)[:, None] * [0, -0.3, -0.1]
    near = np.exp(-((rest[:, None] - rest[BROWS]) ** 2).sum(-1).min(1) / 0.15**2)
    brow = near[:, None] * [0, 0.05, 0]
    talk, lift = np.abs(np.sin(9 * time)), np.clip(np.sin(1.1 * time), 0, 1)
    vertices = face + talk[:, None, None] * jaw + lift[:, None, None] * brow
    painter = _Painter(rest, triangles, focal * SIDE, rng)
    pictures = np.stack(
        [
            painter(shape, euler_to_rotation(e), t, rng)
            for shape, e, t in zip(vertices, euler, trans, strict=True)
        ]
    )
    shown = painter.project(
        vertices[:, :468] @ np.swapaxes(euler_to_rotation(euler * PULL), 1, 2) + trans[:, None]
    )
    points = shown + rng.normal(0, 0.6, shown.shape) + rng.normal(0, 0.3, (frames, 1, 2))
    return PaintedClip(pictures, points.astype(np.float32), focal * SIDE, euler, trans)


class _Painter:
    """Draws the mesh, the farthest triangles first; every pixel looks its colour up where its ray
    meets the skin.
    """

    def __init__(
        self, rest: np.ndarray, triangles: np.ndarray, focal: float, rng: np.random.Generator
    ):
        self.triangles, self.focal = triangles, focal
        self.around = np.stack(
            [np.arctan2(rest[:, 0], rest[:, 2] + 0.6) / np.pi, rest[:, 1] / 3], 1
        )  # on the texture
        self.texture = sum(
            a * _noise(rng, TEXTURE, blur) for a, blur in ((9, 2.5), (14, 5), (14, 12))
        )
        self.wall = 110 + 30 * _noise(rng, SIDE, 4)
        y, x = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2
        self.rays = np.stack([x / focal, -y / focal, -np.ones_like(x)], -1)

    def project(self, placed: np.ndarray) -> np.ndarray:
        return self.focal * placed[..., :2] / -placed[..., 2:] * [1, -1] + (SIDE - 1) / 2

    def __call__(
        self, shape: np.ndarray, rotation: np.ndarray, trans: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        placed = shape @ rotation.T + trans
        a, b, c = (placed[self.triangles[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        corners = np.round(self.project(placed) * 2**SUBPIXEL).astype(np.int32)[self.triangles]
        index = np.full((SIDE, SIDE), -1, np.int32)
        for t in np.argsort((a + b + c)[:, 2]):
            if (normal[t] * a[t]).sum() < 0:
                cv2.fillConvexPoly(index, corners[t], int(t), lineType=cv2.LINE_8, shift=SUBPIXEL)
        head = index >= 0
        here, ray = index[head], self.rays[head]
        depth = (normal[here] * a[here]).sum(1) / (normal[here] * ray).sum(1)
        hit = ray * depth[:, None]
        area = (normal**2).sum(1)[here]
        one = (np.cross(c[here] - b[here], hit - b[here]) * normal[here]).sum(1) / area
        two = (np.cross(a[here] - c[here], hit - c[here]) * normal[here]).sum(1) / area
        weights = np.stack([one, two, 1 - one - two], 1)
        where = (
            np.einsum("nc,ncd->nd", weights, self.around[self.triangles[here]]) * TEXTURE / 2
            + TEXTURE / 2
        )
        places = np.zeros((SIDE, SIDE, 2), np.float32)
        places[head] = where
        skin = cv2.remap(self.texture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)[
            head
        ]
        light = (normal @ [0.4, 0.5, 0.77])[here] / np.sqrt(area)
        grey = self.wall.copy()
        grey[head] = (150 + skin) * (0.75 + 0.25 * light)
        grey = cv2.GaussianBlur(grey, (0, 0), 0.7) + rng.normal(0, 2, grey.shape)
        return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)


def _noise(rng: np.random.Generator, side: int, blur: float) -> np.ndarray:
    """Smooth noise float32 [side, side] of unit variance."""
    field = cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), blur)
    return (field / field.std()).astype(np.float32)
