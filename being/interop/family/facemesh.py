"""A face mesh under cameras that are given: what the family's tracker calls vertices, from our
landmarks.

The cameras stay as they are. First the canonical mesh is laid under them (one similarity), then
every vertex moves to where the landmarks of sampled frames say it is, as far as they can tell, then
each frame's own displacement is read off in the picture plane and kept to its main components (the
same low-rank expression as our tracker's).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from being.conventions import CENTIMETRES_PER_UNIT
from being.data.cameras import euler_to_rotation
from being.face.topology import RIGID

SAMPLED = 60  # frames that decide the shape
EXPRESSIONS = 16  # rank of the expression basis
IDENTITY_STD = 0.05  # head units of 10 cm: how far a vertex may lie from the canonical face
NOISE_PX = 2.0  # of a landmark, at any size: its bias, not its jitter
STEPS = 4


class Cameras:
    """Tracker cameras of a clip: euler, trans [F, 3], focal px, picture centre px."""

    def __init__(self, euler: np.ndarray, trans: np.ndarray, focal: float, width: int, height: int):
        self.rotation, self.shift = euler_to_rotation(euler), np.asarray(trans, np.float64)
        self.focal, self.centre = focal, np.array([(width - 1) / 2, (height - 1) / 2])

    def place(self, vertices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Camera-space points [n, V, 3] of vertices [V, 3] in `frames` [n]."""
        return vertices @ np.swapaxes(self.rotation[frames], 1, 2) + self.shift[frames, None]

    def project(self, camera: np.ndarray) -> np.ndarray:
        """Pixels [n, V, 2] of camera-space points [n, V, 3]."""
        return self.centre + self.focal * camera[..., :2] / -camera[..., 2:] * np.array([1.0, -1.0])


def lay_under(points: np.ndarray, cameras: Cameras, canonical: np.ndarray) -> np.ndarray:
    """The canonical mesh [468, 3] (cm) in the head space of the cameras, float64 [468, 3].

    points: float [F, >= 468, >= 2] px, NaN where no face was found. One scale, rotation and shift
    is fitted to the rigid points of sampled frames.
    """
    sampled = _sample(points)
    seen = points[sampled][:, RIGID, :2].astype(np.float64)
    shape = canonical.astype(np.float64) / CENTIMETRES_PER_UNIT
    middle = shape[RIGID].mean(0)

    def laid(numbers: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        turned = Rotation.from_rotvec(numbers[1:4]).apply(vertices - middle)
        return np.exp(numbers[0]) * turned + numbers[4:]

    def residual(numbers: np.ndarray) -> np.ndarray:
        camera = cameras.place(laid(numbers, shape[RIGID]), sampled)
        return (cameras.project(camera) - seen).ravel() / NOISE_PX

    start = np.array([0.0, 0, 0, 0, *middle])
    fitted = least_squares(residual, start, loss="huber", max_nfev=60).x
    return laid(fitted, shape)


def mesh_under(points: np.ndarray, cameras: Cameras, canonical: np.ndarray) -> np.ndarray:
    """Face vertices without pose of every frame, float32 [F, 468, 3] in the cameras' head units.

    points: float [F, >= 468, >= 2] px, NaN where no face was found; canonical: [468, 3] cm.
    """
    start = lay_under(points, cameras, canonical)
    points = points[:, : len(start), :2].astype(np.float64)
    shape = _identity(points, cameras, start)
    found = np.flatnonzero(np.isfinite(points).all((1, 2)))
    moved = _displacement(points[found], cameras, found, shape)
    mean = moved.mean(0)
    few = moved[np.unique(np.linspace(0, len(moved) - 1, min(len(moved), 600)).astype(int))] - mean
    basis = np.linalg.svd(few.reshape(len(few), -1), full_matrices=False)[2][:EXPRESSIONS]
    amounts = (moved - mean).reshape(len(moved), -1) @ basis.T
    every = np.stack([np.interp(np.arange(len(points)), found, amount) for amount in amounts.T], 1)
    return (shape + mean + (every @ basis).reshape(len(points), *shape.shape)).astype(np.float32)


def _sample(points: np.ndarray) -> np.ndarray:
    found = np.flatnonzero(np.isfinite(points[..., :2]).all((1, 2)))
    return found[
        np.unique(np.linspace(0, len(found) - 1, min(len(found), SAMPLED)).round().astype(int))
    ]


def _identity(points: np.ndarray, cameras: Cameras, start: np.ndarray) -> np.ndarray:
    """Vertices [V, 3] that the sampled frames agree on, held near `start` [V, 3] (Gauss-Newton, one
    vertex a system).

    The prior's spread is that of our tracker, in the scale of the mesh.
    """
    sampled = _sample(points)
    observed, shape = points[sampled], start.copy()
    spread = IDENTITY_STD * np.ptp(start[:, 1]) / 1.8  # the canonical face is 1.8 units high
    for _ in range(STEPS):
        camera = cameras.place(shape, sampled)
        error = observed - cameras.project(camera)
        x, y, z = np.moveaxis(camera, -1, 0)
        rows = np.zeros((*camera.shape[:2], 2, 3))
        rows[..., 0, 0], rows[..., 0, 2] = -cameras.focal / z, cameras.focal * x / z**2
        rows[..., 1, 1], rows[..., 1, 2] = cameras.focal / z, -cameras.focal * y / z**2
        rows = rows @ cameras.rotation[sampled, None]
        weight = 1 / np.maximum(1.0, np.linalg.norm(error, axis=-1) / NOISE_PX) / NOISE_PX**2
        normal = np.einsum("fvki,fvkj,fv->vij", rows, rows, weight) + np.eye(3) / spread**2
        right = np.einsum("fvki,fvk,fv->vi", rows, error, weight) + (start - shape) / spread**2
        shape = shape + np.linalg.solve(normal, right[..., None])[..., 0]
    return shape


def _displacement(
    points: np.ndarray, cameras: Cameras, frames: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    """How far each vertex lies from `shape` in each of `frames`, head space [n, V, 3], seen in the
    picture plane.
    """
    camera = cameras.place(shape, frames)
    error = points - cameras.project(camera)
    depth = -camera[..., 2]
    inside = (
        np.stack([error[..., 0] * depth, -error[..., 1] * depth, np.zeros_like(depth)], -1)
        / cameras.focal
    )
    return inside @ cameras.rotation[frames]
