"""Cameras of the family's tracker (euler, trans, focal) and the renderer's world-to-camera
matrices.

Axes and signs are in `being/conventions.py`; the rotation rule is the one of AD-NeRF's tracker,
which every system of the family shares: R = A(euler_0) @ B(euler_1) @ C(euler_2) with A and B the
usual rotations about x and y and C the transpose of the usual rotation about z.
"""

from __future__ import annotations

import numpy as np

FLIP = np.diag(
    [1.0, -1.0, -1.0]
)  # tracker camera (looks along -z, y up) to render camera (z forward, y down)


def euler_to_rotation(euler: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of tracker angles `euler` [..., 3] in radians."""
    euler = np.asarray(euler, dtype=np.float64)
    theta, phi, psi = euler[..., 0], euler[..., 1], euler[..., 2]
    zero, one = np.zeros_like(theta), np.ones_like(theta)

    def matrix(*entries: np.ndarray) -> np.ndarray:
        return np.stack(entries, -1).reshape(*theta.shape, 3, 3)

    a = matrix(
        one, zero, zero, zero, np.cos(theta), -np.sin(theta), zero, np.sin(theta), np.cos(theta)
    )
    b = matrix(np.cos(phi), zero, np.sin(phi), zero, one, zero, -np.sin(phi), zero, np.cos(phi))
    c = matrix(np.cos(psi), np.sin(psi), zero, -np.sin(psi), np.cos(psi), zero, zero, zero, one)
    return a @ b @ c


def rotation_to_euler(rotation: np.ndarray) -> np.ndarray:
    """Tracker angles [..., 3] in radians of rotation matrices [..., 3, 3] (inverse of
    `euler_to_rotation`).
    """
    rotation = np.asarray(rotation, dtype=np.float64)
    phi = np.arcsin(np.clip(rotation[..., 0, 2], -1, 1))
    theta = np.arctan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    psi = np.arctan2(rotation[..., 0, 1], rotation[..., 0, 0])
    return np.stack([theta, phi, psi], -1)


def world_to_camera(euler: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """Render matrices float32 [F, 4, 4] of tracker poses: angles [F, 3] in radians, `trans` [F, 3]
    in head units.
    """
    rotation = euler_to_rotation(euler)
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3] = FLIP @ rotation
    matrix[..., :3, 3] = np.asarray(trans, dtype=np.float64) @ FLIP.T
    matrix[..., 3, 3] = 1.0
    return matrix.astype(np.float32)


def camera_numbers(matrix: np.ndarray) -> np.ndarray:
    """The 12 camera numbers of the model [F, 12]: the stored (transposed) rotation row by row, then
    the raw shift.

    GaussianTalker keeps the transpose of the world-to-camera rotation and the translation without
    scaling.
    """
    rotation = np.swapaxes(matrix[..., :3, :3], -1, -2)
    return np.concatenate([rotation.reshape(*matrix.shape[:-2], 9), matrix[..., :3, 3]], -1).astype(
        np.float32
    )


def camera_to_world_json(euler: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """`transform_matrix` of transforms_*.json [F, 4, 4]: [R^T | -R^T t / 10], camera looking along
    -z.
    """
    inverse = np.swapaxes(euler_to_rotation(euler), -1, -2)
    matrix = np.tile(np.eye(4), (*inverse.shape[:-2], 1, 1))
    matrix[..., :3, :3] = inverse
    matrix[..., :3, 3] = -(inverse @ np.asarray(trans, dtype=np.float64)[..., None])[..., 0] / 10
    return matrix
