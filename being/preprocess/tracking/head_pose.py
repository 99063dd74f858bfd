"""Head pose of a whole clip at once: one focal length, one identity shape, a low-rank expression
basis, a pose a frame.

The model: x_cam = R_f (S + sum_r c_fr B_r) + t_f, projected with one focal length. It is solved in
  this order:
1. a start from the landmarks: identity S, held near the canonical face mesh, and poses by robust
  least squares on the points that prove rigid in this clip (weights start at the canonical mesh's
  rigid points and follow each point's own scatter);
2. with pictures, focal length and poses from the skin itself (`keyframes.py`): landmark networks
  pull a turned face towards the frontal one, so that by landmarks a third of the nodding of a
  rendered head was lost;
3. a fixed-interval smoother over time: no lag; frames without a face are bridged;
4. identity again, from where the patches of skin lie and from the landmarks; what these leave
  unexplained, seen in head space, gives the expression basis (principal components). Units and
  axes: `being/conventions.py`. The head unit is the canonical mesh's 10 cm, so that a face has the
  same size through every lens; the distance follows: about 7 units through a usual lens, more
  through a long one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from being.conventions import CENTIMETRES_PER_UNIT
from being.data.cameras import FLIP, euler_to_rotation, rotation_to_euler
from being.errors import InputRejected
from being.face.canonical_mesh import with_skull
from being.face.landmarks import MESH_POINTS
from being.face.smoothing import fill, smooth
from being.face.topology import RIGID
from being.preprocess.tracking.bundle_adjustment import FOCAL_PRIOR
from being.preprocess.tracking.geometry import Camera, Poses, exp, log, mean_rotation, pose_jacobian
from being.preprocess.tracking.keyframes import Followed, Mesh, follow_skin

EXPRESSIONS = 16  # rank of the expression basis
SAMPLED_FRAMES = 100  # frames that decide the identity
TOGETHER = 250  # frames solved at once: memory stays flat
OUTLIER_PX = 2.0  # Huber threshold at a picture side of 512 px
IDENTITY_STD = 0.05  # head units of 10 cm: how far a vertex may lie from the canonical face
IDENTITY_ROUGHNESS = 0.01  # and from the mean of its neighbours' offsets
LANDMARK_BIAS_PX = 0.5  # at 512: what the mean of a landmark over a clip may be off
SKIN_STD = 0.02  # head units: what the place of a patch of skin may be off the mesh


@dataclass(frozen=True)
class Track:
    """Camera, shape and pose of a clip in the family's convention (x_cam = R(euler) x_head +
    trans).
    """

    focal: float  # px
    euler: np.ndarray  # float32 [F, 3], radians
    trans: np.ndarray  # float32 [F, 3], head units
    identity: np.ndarray  # float32 [468, 3], head units: the clip's mean face
    basis: np.ndarray  # float32 [R, 468, 3], orthonormal displacements
    coefficients: np.ndarray  # float32 [F, R], head units
    rigidity: np.ndarray  # float32 [468] in 0..1: how much each vertex had to say about the pose
    residual: (
        np.ndarray
    )  # float32 [F], px: median distance of projected vertices to their landmarks, NaN if no face

    @property
    def vertices(self) -> np.ndarray:
        """Vertices of every frame without pose, float32 [F, 468, 3], head units."""
        flat = self.coefficients @ self.basis.reshape(len(self.basis), -1)
        return self.identity + flat.reshape(-1, *self.identity.shape)


def project(track: Track, vertices: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels float32 [F, V, 2] of head-space vertices [V, 3] or [F, V, 3] under the poses of a
    track.
    """
    camera = Camera(track.focal, np.array([(width - 1) / 2, (height - 1) / 2]))
    posed = np.asarray(vertices, np.float64) @ np.swapaxes(euler_to_rotation(track.euler), -1, -2)
    return camera.project(posed + track.trans[:, None]).astype(np.float32)


def track_head(
    points: np.ndarray,
    width: int,
    height: int,
    canonical: np.ndarray,
    triangles: np.ndarray,
    frames: Sequence[np.ndarray] | np.ndarray | None = None,
    segments: Sequence[tuple[int, int]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Track:
    """Focal length, identity, expression and pose of a clip from its landmarks and pictures.

    points: float32 [F, >= 468, >= 2] px (x right, y down), NaN where no face was found. canonical:
    float [468, 3] cm and triangles int [T, 3] from `mesh.canonical_mesh`. frames: F pictures uint8
    [H, W, 3] RGB (index and len are used, from threads); without them the landmarks alone decide,
    with a usual focal length. segments: frame ranges [start, end) that motion must not be smoothed
    across (cuts); by default one; camera and identity are those of all. progress: told of frames
    done. Raises InputRejected when fewer than two frames have a face.
    """
    assert points.ndim == 3 and points.shape[1] >= MESH_POINTS and points.shape[2] >= 2, (
        points.shape
    )
    assert canonical.shape == (MESH_POINTS, 3), canonical.shape
    assert frames is None or len(frames) == len(points), (len(points),)
    observed = points[:, :MESH_POINTS, :2].astype(np.float64)
    found = np.all(np.isfinite(observed), axis=(1, 2))
    if found.sum() < 2:
        raise InputRejected(
            "no face was found in the video",
            f"{int(found.sum())} of {len(found)} frames show one",
            "Record one person who looks at the camera",
        )
    side = float(max(width, height))
    camera = Camera(FOCAL_PRIOR * side, np.array([(width - 1) / 2, (height - 1) / 2]))
    face, seen = canonical.astype(np.float64) / CENTIMETRES_PER_UNIT, observed[found]
    sample = np.unique(np.linspace(0, len(seen) - 1, SAMPLED_FRAMES).round().astype(int))
    smoothness = _smoothness(triangles)
    shape, weights = _identity(seen[sample], face, camera, side, smoothness)
    poses = _first_poses(seen, shape, camera)
    poses, information = _solve_poses(seen, shape, weights, poses, camera, side, steps=6)
    followed = None
    if frames is not None:
        vertices, skull = with_skull(canonical, triangles)
        mesh, numbers = (
            Mesh(vertices / CENTIMETRES_PER_UNIT, skull, MESH_POINTS),
            np.flatnonzero(found),
        )
        followed = follow_skin(
            lambda i: frames[int(numbers[i])], seen, mesh, poses, camera, side, progress
        )
    if followed is not None:
        camera, poses, information = followed.scene.camera, followed.poses, followed.information
        shape = _solve_identity(
            seen[sample], face, shape, poses[sample], camera, side, smoothness, followed
        )
        weights = _rigidity(seen, shape, poses, camera, side)
    rotation, shift = _smooth_all(poses, information, found, segments or [(0, len(found))])
    return track_of(observed, Poses(rotation, shift), shape, camera, weights / weights.max())


def track_of(
    observed: np.ndarray, poses: Poses, shape: np.ndarray, camera: Camera, rigidity: np.ndarray
) -> Track:
    """The track of known poses of F frames and a known identity; expression is what they leave of
    the landmarks.

    observed: float64 [F, 468, 2] px, NaN without a face. shape: float64 [468, 3], head units.
    rigidity: [468] in 0..1.
    """
    found = np.isfinite(observed).all(axis=(1, 2))
    basis, coefficients = _expression(observed[found], shape, poses[found], camera)
    every = np.zeros((len(found), len(basis)))
    every[found] = coefficients
    every = fill(every, found)
    track = Track(
        camera.focal,
        rotation_to_euler(poses.rotation).astype(np.float32),
        poses.shift.astype(np.float32),
        shape.astype(np.float32),
        basis.astype(np.float32),
        every.astype(np.float32),
        rigidity.astype(np.float32),
        np.full(len(found), np.nan, np.float32),
    )
    shown = camera.project(poses.place(track.vertices.astype(np.float64)))
    distance = np.linalg.norm(shown - observed, axis=-1)
    track.residual[found] = np.median(distance[found], axis=1)
    return track


def _identity(
    sample: np.ndarray,
    canonical: np.ndarray,
    camera: Camera,
    side: float,
    smoothness: sparse.csr_matrix,
) -> tuple[np.ndarray, np.ndarray]:
    """Identity [468, 3] and rigidity weights [468] that explain the landmarks of sampled frames [n,
    468, 2] best.
    """
    shape, weights = canonical, _first_weights()
    poses = _first_poses(sample, shape, camera)
    for _ in range(4):
        poses, _ = _solve_poses(sample, shape, weights, poses, camera, side, steps=3)
        shape = _solve_identity(sample, canonical, shape, poses, camera, side, smoothness, None)
        weights = _rigidity(sample, shape, poses, camera, side)
    return shape, weights


def _first_weights() -> np.ndarray:
    weights = np.full(MESH_POINTS, 1e-3)
    weights[RIGID] = 1.0
    return weights


def _first_poses(observed: np.ndarray, shape: np.ndarray, camera: Camera) -> Poses:
    """Perspective-n-point on the canonical mesh's rigid points, frame by frame (SQPNP, Terzakis and
    Lourakis 2020).
    """
    matrix = np.array(
        [[camera.focal, 0, camera.centre[0]], [0, camera.focal, camera.centre[1]], [0, 0, 1]]
    )
    rotation, shift = np.empty((len(observed), 3, 3)), np.empty((len(observed), 3))
    for i, frame in enumerate(observed):
        done, vector, offset = cv2.solvePnP(
            shape[RIGID], frame[RIGID], matrix, None, flags=cv2.SOLVEPNP_SQPNP
        )
        assert done, "SQPNP has a solution for 33 points in general position"
        rotation[i], shift[i] = FLIP @ cv2.Rodrigues(vector)[0], FLIP @ offset[:, 0]
    return Poses(rotation, shift)


def _residual(observed: np.ndarray, shape: np.ndarray, poses: Poses, camera: Camera) -> np.ndarray:
    """Pixels [F, V, 2] by which the projected shape falls short of the observed points."""
    return observed - camera.project(poses.place(shape))


def _huber(residual: np.ndarray, side: float) -> np.ndarray:
    """Weights [F, V] of Huber's estimator."""
    return 1 / np.maximum(1, np.linalg.norm(residual, axis=-1) / (OUTLIER_PX * side / 512))


def _solve_poses(
    observed: np.ndarray,
    shape: np.ndarray,
    weights: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
    steps: int,
) -> tuple[Poses, np.ndarray]:
    """Gauss-Newton, many frames at once; also the information matrices [F, 6, 6] (turn in radians,
    then shift).
    """
    use = weights > 0.02 * weights.max()
    points, share, out = shape[use], weights[use], []
    for start in range(0, len(observed), TOGETHER):
        seen, moved = observed[start : start + TOGETHER, use], poses[start : start + TOGETHER]
        for _ in range(steps):
            turned = points @ np.swapaxes(moved.rotation, 1, 2)
            placed = turned + moved.shift[:, None]
            residual = seen - camera.project(placed)
            jacobian = pose_jacobian(turned, camera.jacobian(placed))  # [F, V, 2, 6]
            weighted = jacobian * (share * _huber(residual, side))[..., None, None]
            frames, columns = len(jacobian), jacobian.reshape(len(jacobian), -1, 6)
            rows = np.swapaxes(weighted.reshape(frames, -1, 6), 1, 2)
            information = rows @ columns + 1e-9 * np.eye(6)
            moved = moved.moved(
                np.linalg.solve(information, rows @ residual.reshape(frames, -1, 1))[..., 0]
            )
        out.append((moved.rotation, moved.shift, information))
    rotation, shift, information = (np.concatenate(column) for column in zip(*out, strict=True))
    return Poses(rotation, shift), information


def _solve_identity(
    observed: np.ndarray,
    canonical: np.ndarray,
    shape: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
    smoothness: sparse.csr_matrix,
    followed: Followed | None,
) -> np.ndarray:
    """Identity [468, 3]: least squares over landmarks and patches of skin, near the canonical shape
    and smoothly so.

    The errors of a landmark repeat from frame to frame: all frames together say as much as one
    without noise.
    """
    residual = _residual(observed, shape, poses, camera)
    jacobian = camera.jacobian(poses.place(shape)) @ poses.rotation[:, None]  # [F, V, 2, 3]
    weight = _huber(residual, side) / (LANDMARK_BIAS_PX * side / 512) ** 2 / len(observed)
    normal = np.einsum("fvij,fvik,fv->vjk", jacobian, jacobian, weight, optimize=True)
    pull = np.einsum("fvij,fvi,fv->vj", jacobian, residual, weight, optimize=True)
    pull += np.einsum("vjk,vk->vj", normal, shape - canonical)
    count = len(shape)
    prior = (
        sparse.identity(count) / IDENTITY_STD**2 + smoothness.T @ smoothness / IDENTITY_ROUGHNESS**2
    )
    if followed is not None:
        skin, places, trust = _skin(followed, count)
        prior = prior + skin.T @ sparse.diags(trust / SKIN_STD**2) @ skin
        pull += skin.T @ ((trust / SKIN_STD**2)[:, None] * (places - skin @ canonical))
    system = sparse.kron(prior, sparse.identity(3)) + sparse.block_diag(normal)
    return canonical + splu(system.tocsc()).solve(pull.ravel()).reshape(count, 3)


def _skin(followed: Followed, count: int) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Patches on the face: their shares of the vertices, sparse [P, count], their places [P, 3] and
    trust [P].
    """
    anchors, trust = followed.anchors, followed.scene.trust
    use = np.flatnonzero((anchors.corners < count).all(1) & (trust > 0))
    rows = np.repeat(np.arange(len(use)), 3)
    shares = sparse.csr_matrix(
        (anchors.shares[use].ravel(), (rows, anchors.corners[use].ravel())), (len(use), count)
    )
    return shares, followed.scene.points[use], trust[use]


def _smoothness(triangles: np.ndarray) -> sparse.csr_matrix:
    """Uniform graph Laplacian, sparse [468, 468], of the mesh: a vertex minus the mean of its
    neighbours.
    """
    linked = np.zeros((MESH_POINTS, MESH_POINTS))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        linked[triangles[:, a], triangles[:, b]] = linked[triangles[:, b], triangles[:, a]] = 1
    return sparse.csr_matrix(
        np.eye(MESH_POINTS) - linked / np.maximum(linked.sum(1, keepdims=True), 1)
    )


def _rigidity(
    observed: np.ndarray, shape: np.ndarray, poses: Poses, camera: Camera, side: float
) -> np.ndarray:
    """Weights [468]: the inverse of each point's mean squared residual over the clip, in units of a
    steady point's.
    """
    squared = (_residual(observed, shape, poses, camera) ** 2).sum(-1).mean(0)
    floor = (0.7 * side / 512) ** 2
    return floor / (floor + squared)


def _expression(
    observed: np.ndarray, shape: np.ndarray, poses: Poses, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Basis [R, 468, 3] and coefficients [F, R] of the displacements that the poses leave, as seen
    by the camera.

    A residual is taken to lie in the plane parallel to the picture; depth is not seen.
    """
    residual = _residual(observed, shape, poses, camera)
    depth = -(shape @ poses.rotation[:, 2].T).T - poses.shift[:, 2:]
    in_camera = np.zeros((*residual.shape[:2], 3))
    in_camera[..., :2] = residual * (depth / camera.focal)[..., None] * np.array([1.0, -1.0])
    flat = (in_camera @ poses.rotation).reshape(len(residual), -1)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    basis = vectors[:, ::-1][:, : min(EXPRESSIONS, len(flat))].T
    return basis.reshape(len(basis), *shape.shape), flat @ basis.T


def _smooth_all(
    poses: Poses, information: np.ndarray, found: np.ndarray, segments: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [F, 3, 3] and shifts [F, 3] of all frames, smoothed within each segment."""
    middle = mean_rotation(poses.rotation)
    values = np.zeros((len(found), 6))
    values[found] = np.concatenate([log(poses.rotation @ middle.T), poses.shift], 1)
    values = fill(values, found)
    weight = np.zeros((len(found), 6, 6))
    weight[found] = information
    for start, end in segments:
        if found[start:end].any():
            values[start:end] = smooth(values[start:end], weight[start:end], found[start:end])
    return exp(values[:, :3]) @ middle, values[:, 3:]
