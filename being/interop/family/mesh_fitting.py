"""Fits a face mesh to landmarks under fixed cameras, as in the trackers of other systems.

The cameras are not changed. The fit has three stages. First one similarity transform places the
canonical mesh under the cameras. Then every vertex moves to where the landmarks of sampled frames
put it. Last, each frame's displacement is measured in the image plane and reduced to its main
components, the same low-rank expression model as in our tracker.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from being.conventions import CENTIMETRES_PER_UNIT
from being.data.cameras import euler_to_rotation
from being.face.topology import RIGID

SHAPE_FRAMES = 60  # sampled frames that decide the shape
BASIS_FRAMES = 600  # most frames that decide the expression basis
EXPRESSION_RANK = 16
# Head units of 10 cm: how far a vertex may lie from the canonical face.
IDENTITY_STD = 0.05
CANONICAL_HEIGHT = 1.8  # head units
NOISE_PX = 2.0  # of a landmark, at any size: its bias, not its jitter
GAUSS_NEWTON_STEPS = 4


class Cameras:
    """Tracker cameras of a clip: euler, trans [F, 3], focal px, image centre px."""

    def __init__(self, euler: np.ndarray, trans: np.ndarray, focal: float, width: int, height: int):
        self.rotation = euler_to_rotation(euler)
        self.translation = np.asarray(trans, np.float64)
        self.focal = focal
        self.centre = np.array([(width - 1) / 2, (height - 1) / 2])

    def to_camera(self, vertices: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Camera-space points [n, V, 3] of vertices [V, 3] in `frames` [n]."""
        rotated = vertices @ np.swapaxes(self.rotation[frames], 1, 2)
        return rotated + self.translation[frames, None]

    def project(self, camera: np.ndarray) -> np.ndarray:
        """Pixels [n, V, 2] of camera-space points [n, V, 3]."""
        return self.centre + self.focal * camera[..., :2] / -camera[..., 2:] * np.array([1.0, -1.0])


def place_canonical_mesh(points: np.ndarray, cameras: Cameras, canonical: np.ndarray) -> np.ndarray:
    """The canonical mesh [468, 3] (cm) in the head space of the cameras, float64 [468, 3].

    points: float [F, >= 468, >= 2] px, NaN where no face was found. One scale, rotation and
    translation is fitted to the rigid points of sampled frames.
    """
    sampled = _sample_frames(points)
    observed = points[sampled][:, RIGID, :2].astype(np.float64)
    shape = canonical.astype(np.float64) / CENTIMETRES_PER_UNIT
    middle = shape[RIGID].mean(0)

    def transform(parameters: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        """parameters: log scale [1], rotation vector [3], translation [3]."""
        rotated = Rotation.from_rotvec(parameters[1:4]).apply(vertices - middle)
        return np.exp(parameters[0]) * rotated + parameters[4:]

    def residual(parameters: np.ndarray) -> np.ndarray:
        camera = cameras.to_camera(transform(parameters, shape[RIGID]), sampled)
        return (cameras.project(camera) - observed).ravel() / NOISE_PX

    start = np.array([0.0, 0, 0, 0, *middle])
    fitted = least_squares(residual, start, loss="huber", max_nfev=60).x
    return transform(fitted, shape)


def fit_mesh_sequence(points: np.ndarray, cameras: Cameras, canonical: np.ndarray) -> np.ndarray:
    """Face vertices without pose of every frame, float32 [F, 468, 3] in the cameras' head units.

    points: float [F, >= 468, >= 2] px, NaN where no face was found; canonical: [468, 3] cm.
    """
    # The shape that all frames share.
    start = place_canonical_mesh(points, cameras, canonical)
    points = points[:, : len(start), :2].astype(np.float64)
    shape = _fit_identity(points, cameras, start)

    # The displacement of each frame, reduced to its main components.
    found = np.flatnonzero(np.isfinite(points).all((1, 2)))
    displacement = _displacement(points[found], cameras, found, shape)
    mean = displacement.mean(0)
    count = min(len(displacement), BASIS_FRAMES)
    some = np.unique(np.linspace(0, len(displacement) - 1, count).astype(int))
    centred = (displacement[some] - mean).reshape(len(some), -1)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:EXPRESSION_RANK]
    weights = (displacement - mean).reshape(len(displacement), -1) @ basis.T

    # Frames without a face get weights between those of their neighbours.
    frames = np.arange(len(points))
    weights = np.stack([np.interp(frames, found, weight) for weight in weights.T], 1)
    expression = (weights @ basis).reshape(len(points), *shape.shape)
    return (shape + mean + expression).astype(np.float32)


def _sample_frames(points: np.ndarray) -> np.ndarray:
    """At most SHAPE_FRAMES frames with a face, spread over the clip."""
    found = np.flatnonzero(np.isfinite(points[..., :2]).all((1, 2)))
    count = min(len(found), SHAPE_FRAMES)
    return found[np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))]


def _fit_identity(points: np.ndarray, cameras: Cameras, start: np.ndarray) -> np.ndarray:
    """Vertices [V, 3] fitted to the sampled frames, with a prior near `start` [V, 3].

    Gauss-Newton with one 3 x 3 system a vertex. The prior's spread is that of our tracker, in the
    scale of the mesh.
    """
    sampled = _sample_frames(points)
    observed, shape = points[sampled], start.copy()
    spread = IDENTITY_STD * np.ptp(start[:, 1]) / CANONICAL_HEIGHT
    for _ in range(GAUSS_NEWTON_STEPS):
        camera = cameras.to_camera(shape, sampled)
        error = observed - cameras.project(camera)

        # Derivative of the pixels by the vertices, [n, V, 2, 3].
        x, y, z = np.moveaxis(camera, -1, 0)
        jacobian = np.zeros((*camera.shape[:2], 2, 3))
        jacobian[..., 0, 0], jacobian[..., 0, 2] = -cameras.focal / z, cameras.focal * x / z**2
        jacobian[..., 1, 1], jacobian[..., 1, 2] = cameras.focal / z, -cameras.focal * y / z**2
        jacobian = jacobian @ cameras.rotation[sampled, None]

        # Huber weights, then the normal equations of each vertex.
        weight = 1 / np.maximum(1.0, np.linalg.norm(error, axis=-1) / NOISE_PX) / NOISE_PX**2
        normal = np.einsum("fvki,fvkj,fv->vij", jacobian, jacobian, weight)
        normal = normal + np.eye(3) / spread**2
        right = np.einsum("fvki,fvk,fv->vi", jacobian, error, weight)
        right = right + (start - shape) / spread**2
        shape = shape + np.linalg.solve(normal, right[..., None])[..., 0]
    return shape


def _displacement(
    points: np.ndarray, cameras: Cameras, frames: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    """Displacement of each vertex from `shape` in each of `frames`, head space [n, V, 3].

    It is measured in the image plane, so it has no component along the viewing axis.
    """
    camera = cameras.to_camera(shape, frames)
    error = points - cameras.project(camera)
    depth = -camera[..., 2]
    in_plane = np.stack([error[..., 0] * depth, -error[..., 1] * depth, np.zeros_like(depth)], -1)
    return (in_plane / cameras.focal) @ cameras.rotation[frames]
