"""Rigid head poses and the pinhole camera of the tracker, with derivatives for its solvers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Poses:
    """Poses of F frames: x_cam = rotation x_head + translation.

    Axes: the tracker's (`being/conventions.py`).
    """

    rotation: np.ndarray  # float64 [F, 3, 3]
    translation: np.ndarray  # float64 [F, 3], head units

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, frames: np.ndarray | slice) -> Poses:
        return Poses(self.rotation[frames], self.translation[frames])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Camera points [F, V, 3] of head points [V, 3] or [F, V, 3]."""
        return points @ np.swapaxes(self.rotation, 1, 2) + self.translation[:, None]

    def updated(self, step: np.ndarray) -> Poses:
        """The poses after steps [F, 6].

        A step is a rotation vector in radians about the camera's axes, then a translation.
        """
        rotation = vector_to_rotation(step[:, :3]) @ self.rotation
        return Poses(rotation, self.translation + step[:, 3:])


@dataclass(frozen=True)
class Camera:
    """Pinhole camera with square pixels that looks along -z."""

    focal: float  # px
    centre: np.ndarray  # float64 [2] px

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of camera points [..., 3]."""
        scale = self.focal / -points[..., 2:]
        return self.centre + points[..., :2] * scale * np.array([1.0, -1.0])

    def jacobian(self, points: np.ndarray) -> np.ndarray:
        """Derivative [..., 2, 3] of the pixel with respect to the camera point [..., 3]."""
        x, y, depth = points[..., 0], points[..., 1], -points[..., 2]
        jacobian = np.zeros((*points.shape[:-1], 2, 3))
        jacobian[..., 0, 0] = self.focal / depth
        jacobian[..., 0, 2] = self.focal * x / depth**2
        jacobian[..., 1, 1] = -self.focal / depth
        jacobian[..., 1, 2] = -self.focal * y / depth**2
        return jacobian


def pose_jacobian(rotated: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Derivative [..., 2, 6] of the pixel with respect to a pose step (see `Poses.updated`).

    rotated: rotation x_head [..., 3]. pixel: derivative of the pixel with respect to the camera
    point [..., 2, 3].
    """
    x, y, z = rotated[..., None, 0], rotated[..., None, 1], rotated[..., None, 2]
    a, b, c = pixel[..., 0], pixel[..., 1], pixel[..., 2]
    return np.stack([y * c - z * b, z * a - x * c, x * b - y * a, a, b, c], -1)


def vector_to_rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] (Rodrigues' formula)."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    zero = np.zeros(vector.shape[:-1])
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape[:-1], 3, 3)
    safe = np.maximum(angle, 1e-12)
    return (
        np.eye(3)
        + np.sinc(angle / np.pi) * cross
        + ((1 - np.cos(angle)) / safe**2) * (cross @ cross)
    )


def rotation_to_vector(rotation: np.ndarray) -> np.ndarray:
    """Rotation vectors [F, 3] in radians of rotation matrices [F, 3, 3]."""
    return np.stack([cv2.Rodrigues(matrix)[0][:, 0] for matrix in rotation])


def mean_rotation(rotation: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] nearest to the mean of rotations [F, 3, 3]."""
    left, _, right = np.linalg.svd(rotation.mean(0))
    return left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right


def rotation_angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angles [F, G] in radians between rotations [F, 3, 3] and [G, 3, 3]."""
    trace = np.einsum("fij,gij->fg", one, other)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))
