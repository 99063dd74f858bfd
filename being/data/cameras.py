"""Camera conversions: head poses of the tracker, matrices of the renderer, inputs of the model.

Axes and signs are in `being/conventions.py`. The rotation rule is that of AD-NeRF's tracker, which
every system of the GaussianTalker family shares: R = A(euler_0) @ B(euler_1) @ C(euler_2). A and B
are the usual rotations about x and y; C is the transpose of the usual rotation about z.
"""

from __future__ import annotations

import numpy as np

# From the tracker's camera axes (looks along -z, y up) to the renderer's (z forward, y down).
TRACKER_TO_RENDER = np.diag([1.0, -1.0, -1.0])


def euler_to_rotation(euler: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of tracker angles `euler` [..., 3] in radians."""
    euler = np.asarray(euler, dtype=np.float64)
    theta, phi, psi = euler[..., 0], euler[..., 1], euler[..., 2]
    zero, one = np.zeros_like(theta), np.ones_like(theta)

    def matrix(*entries: np.ndarray) -> np.ndarray:
        return np.stack(entries, -1).reshape(*theta.shape, 3, 3)

    cos, sin = np.cos(theta), np.sin(theta)
    a = matrix(one, zero, zero, zero, cos, -sin, zero, sin, cos)
    cos, sin = np.cos(phi), np.sin(phi)
    b = matrix(cos, zero, sin, zero, one, zero, -sin, zero, cos)
    cos, sin = np.cos(psi), np.sin(psi)
    c = matrix(cos, sin, zero, -sin, cos, zero, zero, zero, one)
    return a @ b @ c


def rotation_to_euler(rotation: np.ndarray) -> np.ndarray:
    """Tracker angles [..., 3] in radians of rotation matrices [..., 3, 3].

    The inverse of `euler_to_rotation`.
    """
    rotation = np.asarray(rotation, dtype=np.float64)
    phi = np.arcsin(np.clip(rotation[..., 0, 2], -1, 1))
    theta = np.arctan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    psi = np.arctan2(rotation[..., 0, 1], rotation[..., 0, 0])
    return np.stack([theta, phi, psi], -1)


def world_to_camera(euler: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """Renderer matrices float32 [F, 4, 4] of tracker poses.

    euler: [F, 3] in radians. trans: [F, 3] in head units.
    """
    rotation = euler_to_rotation(euler)
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3] = TRACKER_TO_RENDER @ rotation
    matrix[..., :3, 3] = np.asarray(trans, dtype=np.float64) @ TRACKER_TO_RENDER.T
    matrix[..., 3, 3] = 1.0
    return matrix.astype(np.float32)


def camera_vector(matrix: np.ndarray) -> np.ndarray:
    """The model's camera input float32 [F, 12] of world-to-camera matrices [F, 4, 4].

    GaussianTalker stores the transposed rotation row by row, then the translation without scaling.
    """
    rotation = np.swapaxes(matrix[..., :3, :3], -1, -2)
    flat = rotation.reshape(*matrix.shape[:-2], 9)
    return np.concatenate([flat, matrix[..., :3, 3]], -1).astype(np.float32)


def camera_to_world_json(euler: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """`transform_matrix` of transforms_*.json, float64 [F, 4, 4]: [R^T | -R^T t / 10].

    euler: [F, 3] in radians. trans: [F, 3] in head units. The camera looks along -z.
    """
    inverse = np.swapaxes(euler_to_rotation(euler), -1, -2)
    matrix = np.tile(np.eye(4), (*inverse.shape[:-2], 1, 1))
    matrix[..., :3, :3] = inverse
    matrix[..., :3, 3] = -(inverse @ np.asarray(trans, dtype=np.float64)[..., None])[..., 0] / 10
    return matrix
