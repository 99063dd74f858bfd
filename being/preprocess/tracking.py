"""Head pose of a whole clip at once: one focal length, one identity shape, a low-rank expression basis, a pose a frame.

The model: x_cam = R_f (S + sum_r c_fr B_r) + t_f, projected with one focal length. It is solved in this order:
1. focal length and identity S together with the poses of sampled frames, S held near the canonical face mesh;
2. the poses of all frames by robust least squares on the points that prove rigid in this clip (weights start at the
   canonical mesh's rigid points and follow each point's own scatter), so jaw, lips and brows do not leak into them;
3. what these poses leave unexplained, seen in head space, gives the expression basis (principal components);
4. a fixed-interval smoother over time, tied by optical flow where it is given: no lag; frames without a face are
   bridged.
Units and axes: `being/conventions.py`. The head unit is chosen so that the mean t_z is -7, the family's habit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from being.conventions import CENTIMETRES_PER_UNIT
from being.data.cameras import FLIP, euler_to_rotation, rotation_to_euler
from being.errors import InputRejected
from being.preprocess.facemap import RIGID
from being.preprocess.landmarks import MESH_POINTS
from being.preprocess.smoothing import Motion, smooth

EXPRESSIONS = 16  # rank of the expression basis
MEAN_DISTANCE = 7.0  # head units from camera to head, as in the family's trackers
FOCAL_PRIOR = 2.0  # focal length over picture side: a portrait shot of about 28 degrees
FOCAL_PRIOR_LOG_STD = 0.35
FOCAL_GRID = np.geomspace(1.1, 4.5, 7)  # over the picture side
SAMPLED_FRAMES = 100  # frames that decide focal length and identity
OUTLIER_PX = 2.0  # Huber threshold at a picture side of 512 px
INDEPENDENT_POINTS = 20.0  # landmark errors of one frame are correlated: 468 points say as much as about so many
IDENTITY_STD = 0.05  # head units of 10 cm: how far a vertex may lie from the canonical face
IDENTITY_ROUGHNESS = 0.01  # and from the mean of its neighbours' offsets
# Weights between landmarks and flow, at 512. Landmarks are precise but biased with the pose: by themselves they gave
# half of the true nodding of a rendered head; with 5 px against 0.1 px flow rules up to about two seconds (0.86 of it).
LANDMARK_NOISE_PX = 5.0
FLOW_NOISE_PX = 0.1
RIGID_ENOUGH = 0.3  # of the steadiest point's weight: points whose flow counts


@dataclass(frozen=True)
class Track:
    """Camera, shape and pose of a clip in the family's convention (x_cam = R(euler) x_head + trans)."""

    focal: float  # px
    euler: np.ndarray  # float32 [F, 3], radians
    trans: np.ndarray  # float32 [F, 3], head units, mean t_z = -7
    identity: np.ndarray  # float32 [468, 3], head units: the clip's mean face
    basis: np.ndarray  # float32 [R, 468, 3], orthonormal displacements
    coefficients: np.ndarray  # float32 [F, R], head units
    rigidity: np.ndarray  # float32 [468] in 0..1: how much each vertex had to say about the pose
    residual: np.ndarray  # float32 [F], px: median distance of projected vertices to their landmarks, NaN if no face

    @property
    def vertices(self) -> np.ndarray:
        """Vertices of every frame without pose, float32 [F, 468, 3], head units."""
        flat = self.coefficients @ self.basis.reshape(len(self.basis), -1)
        return self.identity + flat.reshape(-1, *self.identity.shape)


@dataclass
class _Poses:
    rotation: np.ndarray  # [F, 3, 3]
    shift: np.ndarray  # [F, 3]


@dataclass(frozen=True)
class _Camera:
    focal: float
    centre: np.ndarray  # [2] px

    def project(self, camera_points: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of tracker-camera points [..., 3]."""
        scale = self.focal / -camera_points[..., 2:]
        return self.centre + camera_points[..., :2] * scale * np.array([1.0, -1.0])


def project(track: Track, vertices: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels float32 [F, V, 2] of head-space vertices [V, 3] or [F, V, 3] under the poses of a track."""
    camera = _Camera(track.focal, np.array([(width - 1) / 2, (height - 1) / 2]))
    posed = np.asarray(vertices, np.float64) @ np.swapaxes(euler_to_rotation(track.euler), -1, -2)
    return camera.project(posed + track.trans[:, None]).astype(np.float32)


def track_head(points: np.ndarray, width: int, height: int, canonical: np.ndarray, triangles: np.ndarray,
               segments: Sequence[tuple[int, int]] | None = None, flow: np.ndarray | None = None) -> Track:
    """Focal length, identity, expression and pose of a clip from its landmarks.

    points: float32 [F, >= 468, >= 2] px (x right, y down), NaN where no face was found. canonical: float [468, 3] cm
    and triangles int [T, 3] from `mesh.canonical_mesh`. segments: frame ranges [start, end) that motion must not be
    smoothed across (cuts); by default one. flow: float32 [F - 1, 468, 2] px from `flow.point_flow`, which says which
    fast motion is real; without it the landmarks alone decide. Raises InputRejected when fewer than two frames have a
    face.
    """
    assert points.ndim == 3 and points.shape[1] >= MESH_POINTS and points.shape[2] >= 2, points.shape
    assert canonical.shape == (MESH_POINTS, 3), canonical.shape
    observed = points[:, :MESH_POINTS, :2].astype(np.float64)
    found = np.all(np.isfinite(observed), axis=(1, 2))
    if found.sum() < 2:
        raise InputRejected("no face was found in the video", f"{int(found.sum())} of {len(found)} frames show one",
                            "Record one person who looks at the camera")
    side = float(max(width, height))
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shape = canonical.astype(np.float64) / CENTIMETRES_PER_UNIT
    seen = observed[found]
    sample = seen[np.unique(np.linspace(0, len(seen) - 1, SAMPLED_FRAMES).round().astype(int))]
    camera, shape, weights = _focal_and_identity(sample, shape, triangles, centre, side)
    poses = _first_poses(seen, shape, camera)
    poses, information = _solve_poses(seen, shape, weights, poses, camera, side, steps=6)
    basis, coefficients = _expression(seen, shape, poses, camera)
    motion = None
    if flow is not None:
        motion = _motion(flow, shape, weights, poses, found, camera, side)
        information = information * INDEPENDENT_POINTS / weights.sum() / (LANDMARK_NOISE_PX * side / 512) ** 2
    rotation, shift = _smooth_all(poses, information, found, segments or [(0, len(found))], motion)
    scale = MEAN_DISTANCE / -shift[:, 2].mean()
    every = np.zeros((len(found), len(basis)))
    for r in range(len(basis)):
        every[:, r] = np.interp(np.arange(len(found)), np.flatnonzero(found), coefficients[:, r])
    track = Track(camera.focal, rotation_to_euler(rotation).astype(np.float32), (shift * scale).astype(np.float32),
                  (shape * scale).astype(np.float32), basis.astype(np.float32), (every * scale).astype(np.float32),
                  (weights / weights.max()).astype(np.float32), np.full(len(found), np.nan, np.float32))
    distance = np.linalg.norm(project(track, track.vertices, width, height) - observed, axis=-1)
    track.residual[found] = np.median(distance[found], axis=1)
    return track


def _focal_and_identity(sample: np.ndarray, canonical: np.ndarray, triangles: np.ndarray, centre: np.ndarray,
                        side: float) -> tuple[_Camera, np.ndarray, np.ndarray]:
    """Camera, identity [468, 3] and rigidity weights [468] that explain the sampled frames [n, 468, 2] best."""
    smoothness = _smoothness(triangles)
    best: tuple[float, _Camera, np.ndarray, np.ndarray] | None = None
    noise = (1.0 * side / 512) ** 2
    for ratio in FOCAL_GRID:
        camera = _Camera(float(ratio * side), centre)
        shape, weights = canonical, _first_weights()
        poses = _first_poses(sample, shape, camera)
        for _ in range(4):
            poses, _ = _solve_poses(sample, shape, weights, poses, camera, side, steps=3)
            shape = _solve_identity(sample, canonical, shape, poses, camera, side, smoothness)
            weights = _rigidity(sample, shape, poses, camera, side)
        poses, _ = _solve_poses(sample, shape, weights, poses, camera, side, steps=3)
        squared = ((_residual(sample, shape, poses, camera)) ** 2).sum(-1)
        misfit = (np.minimum(squared, 9 * noise) * weights).sum(1).mean() / weights.sum() / noise
        offset = shape - canonical
        prior = (offset ** 2).mean() / IDENTITY_STD ** 2 + ((smoothness @ offset) ** 2).mean() / IDENTITY_ROUGHNESS ** 2
        cost = INDEPENDENT_POINTS * (misfit * len(sample) / 10 + prior)
        cost += (np.log(ratio / FOCAL_PRIOR) / FOCAL_PRIOR_LOG_STD) ** 2
        if best is None or cost < best[0]:
            best = (cost, camera, shape, weights)
    assert best is not None
    return best[1:]


def _first_weights() -> np.ndarray:
    weights = np.full(MESH_POINTS, 1e-3)
    weights[RIGID] = 1.0
    return weights


def _first_poses(observed: np.ndarray, shape: np.ndarray, camera: _Camera) -> _Poses:
    """Perspective-n-point on the canonical mesh's rigid points, frame by frame (SQPNP, Terzakis and Lourakis 2020)."""
    matrix = np.array([[camera.focal, 0, camera.centre[0]], [0, camera.focal, camera.centre[1]], [0, 0, 1]])
    rotation, shift = np.empty((len(observed), 3, 3)), np.empty((len(observed), 3))
    for i, frame in enumerate(observed):
        done, vector, offset = cv2.solvePnP(shape[RIGID], frame[RIGID], matrix, None, flags=cv2.SOLVEPNP_SQPNP)
        assert done, "SQPNP has a solution for 33 points in general position"
        rotation[i], shift[i] = FLIP @ cv2.Rodrigues(vector)[0], FLIP @ offset[:, 0]
    return _Poses(rotation, shift)


def _residual(observed: np.ndarray, shape: np.ndarray, poses: _Poses, camera: _Camera) -> np.ndarray:
    """Pixels [F, V, 2] by which the projected shape falls short of the observed points."""
    return observed - camera.project(shape @ np.swapaxes(poses.rotation, 1, 2) + poses.shift[:, None])


def _pixel_jacobian(camera_points: np.ndarray, focal: float) -> np.ndarray:
    """Derivative [..., 2, 3] of the pixel with respect to the tracker-camera point [..., 3]."""
    x, y, depth = camera_points[..., 0], camera_points[..., 1], -camera_points[..., 2]
    jacobian = np.zeros((*camera_points.shape[:-1], 2, 3))
    jacobian[..., 0, 0] = focal / depth
    jacobian[..., 0, 2] = focal * x / depth ** 2
    jacobian[..., 1, 1] = -focal / depth
    jacobian[..., 1, 2] = -focal * y / depth ** 2
    return jacobian


def _huber(residual: np.ndarray, side: float) -> np.ndarray:
    """Weights [F, V] of Huber's estimator."""
    return 1 / np.maximum(1, np.linalg.norm(residual, axis=-1) / (OUTLIER_PX * side / 512))


def _solve_poses(observed: np.ndarray, shape: np.ndarray, weights: np.ndarray, poses: _Poses, camera: _Camera,
                 side: float, steps: int) -> tuple[_Poses, np.ndarray]:
    """Gauss-Newton on all frames at once; also the information matrices [F, 6, 6] (turn in radians, then shift)."""
    use = weights > 0.02 * weights.max()
    points, share, seen = shape[use], weights[use], observed[:, use]
    rotation, shift = poses.rotation, poses.shift
    for _ in range(steps):
        turned = points @ np.swapaxes(rotation, 1, 2)
        placed = turned + shift[:, None]
        residual = seen - camera.project(placed)
        pixel = _pixel_jacobian(placed, camera.focal)
        jacobian = np.concatenate([np.cross(turned[:, :, None, :], pixel), pixel], -1)  # [F, V, 2, 6]
        weighted = jacobian * (share * _huber(residual, side))[..., None, None]
        frames, columns = len(jacobian), jacobian.reshape(len(jacobian), -1, 6)
        rows = np.swapaxes(weighted.reshape(frames, -1, 6), 1, 2)
        information = rows @ columns + 1e-9 * np.eye(6)
        step = np.linalg.solve(information, rows @ residual.reshape(frames, -1, 1))[..., 0]
        rotation = _exp(step[:, :3]) @ rotation
        shift = shift + step[:, 3:]
    return _Poses(rotation, shift), information


def _solve_identity(observed: np.ndarray, canonical: np.ndarray, shape: np.ndarray, poses: _Poses, camera: _Camera,
                    side: float, smoothness: sparse.csr_matrix) -> np.ndarray:
    """Identity [468, 3]: least squares over frames, held near the canonical shape and smooth in its offset from it."""
    residual = _residual(observed, shape, poses, camera)
    placed = shape @ np.swapaxes(poses.rotation, 1, 2) + poses.shift[:, None]
    jacobian = _pixel_jacobian(placed, camera.focal) @ poses.rotation[:, None]  # [F, V, 2, 3]
    weight = _huber(residual, side) / (side / 512) ** 2
    weight = weight * (min(len(observed), 40) / len(observed))  # frames of one clip repeat each other's errors
    normal = np.einsum("fvij,fvik,fv->vjk", jacobian, jacobian, weight, optimize=True)
    pull = np.einsum("fvij,fvi,fv->vj", jacobian, residual, weight, optimize=True)
    pull += np.einsum("vjk,vk->vj", normal, shape - canonical)
    count = len(shape)
    prior = sparse.identity(count) / IDENTITY_STD ** 2 + smoothness.T @ smoothness / IDENTITY_ROUGHNESS ** 2
    system = sparse.kron(prior, sparse.identity(3)) + sparse.block_diag(normal)
    return canonical + splu(system.tocsc()).solve(pull.ravel()).reshape(count, 3)


def _smoothness(triangles: np.ndarray) -> sparse.csr_matrix:
    """Uniform graph Laplacian, sparse [468, 468], of the mesh: a vertex minus the mean of its neighbours."""
    linked = np.zeros((MESH_POINTS, MESH_POINTS))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        linked[triangles[:, a], triangles[:, b]] = linked[triangles[:, b], triangles[:, a]] = 1
    return sparse.csr_matrix(np.eye(MESH_POINTS) - linked / np.maximum(linked.sum(1, keepdims=True), 1))


def _rigidity(observed: np.ndarray, shape: np.ndarray, poses: _Poses, camera: _Camera, side: float) -> np.ndarray:
    """Weights [468]: the inverse of each point's mean squared residual over the clip, in units of a steady point's."""
    squared = (_residual(observed, shape, poses, camera) ** 2).sum(-1).mean(0)
    floor = (0.7 * side / 512) ** 2
    return floor / (floor + squared)


def _expression(observed: np.ndarray, shape: np.ndarray, poses: _Poses,
                camera: _Camera) -> tuple[np.ndarray, np.ndarray]:
    """Basis [R, 468, 3] and coefficients [F, R] of the displacements that the poses leave, as seen by the camera.

    A residual is taken to lie in the plane parallel to the picture; depth is not seen.
    """
    residual = _residual(observed, shape, poses, camera)
    depth = -(shape @ poses.rotation[:, 2].T).T - poses.shift[:, 2:]
    in_camera = np.zeros((*residual.shape[:2], 3))
    in_camera[..., :2] = residual * (depth / camera.focal)[..., None] * np.array([1.0, -1.0])
    flat = (in_camera @ poses.rotation).reshape(len(residual), -1)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    basis = vectors[:, ::-1][:, :min(EXPRESSIONS, len(flat))].T
    return basis.reshape(len(basis), *shape.shape), flat @ basis.T


def _smooth_all(poses: _Poses, information: np.ndarray, found: np.ndarray, segments: Sequence[tuple[int, int]],
                motion: Motion | None) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [F, 3, 3] and shifts [F, 3] of all frames, smoothed within each segment."""
    middle = _mean_rotation(poses.rotation)
    values = np.zeros((len(found), 6))
    values[found] = np.concatenate([_log(poses.rotation @ middle.T), poses.shift], 1)
    weight = np.zeros((len(found), 6, 6))
    weight[found] = information
    for start, end in segments:
        ties = motion[start:end - 1] if motion is not None else None
        values[start:end] = smooth(values[start:end], weight[start:end], found[start:end], ties)
    return _exp(values[:, :3]) @ middle, values[:, 3:]


def _motion(flow: np.ndarray, shape: np.ndarray, weights: np.ndarray, poses: _Poses, found: np.ndarray,
            camera: _Camera, side: float) -> Motion:
    """The flow [F - 1, 468, 2] as ties between the poses of neighbouring frames, on the rigid points."""
    use = weights > RIGID_ENOUGH * weights.max()
    frames = np.maximum(np.cumsum(found) - 1, 0)  # row of each frame's pose; without a face its flow is NaN anyway
    turned = shape[use] @ np.swapaxes(poses.rotation[frames], 1, 2)
    placed = turned + poses.shift[frames][:, None]
    pixel = _pixel_jacobian(placed, camera.focal)
    jacobian = np.concatenate([np.cross(turned[:, :, None, :], pixel), pixel], -1)
    shortfall = flow[:, use] - np.diff(camera.project(placed), axis=0)
    known = np.isfinite(shortfall).all(-1)
    shortfall = np.where(known[..., None], shortfall, 0.0)
    median = np.array([np.median(row[k], axis=0) if k.any() else np.zeros(2) for row, k in
                       zip(shortfall, known, strict=True)])
    away = np.linalg.norm(shortfall - median[:, None], axis=-1) / (FLOW_NOISE_PX * side / 512)
    weight = known * weights[use] / np.maximum(1, away / 2)
    weight *= INDEPENDENT_POINTS / np.maximum(weight.sum(1, keepdims=True), 4) / (FLOW_NOISE_PX * side / 512) ** 2
    pairs, width = len(flow), 6
    return Motion(jacobian[:-1].reshape(pairs, -1, width), jacobian[1:].reshape(pairs, -1, width),
                  shortfall.reshape(pairs, -1), np.repeat(weight, 2, axis=1))


def _exp(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] (Rodrigues)."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    zero = np.zeros(vector.shape[:-1])
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape[:-1], 3, 3)
    safe = np.maximum(angle, 1e-12)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + ((1 - np.cos(angle)) / safe ** 2) * (cross @ cross)


def _log(rotation: np.ndarray) -> np.ndarray:
    """Rotation vectors [F, 3] of rotation matrices [F, 3, 3]."""
    return np.stack([cv2.Rodrigues(matrix)[0][:, 0] for matrix in rotation])


def _mean_rotation(rotation: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] nearest to the mean of rotations [F, 3, 3]."""
    left, _, right = np.linalg.svd(rotation.mean(0))
    return left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
