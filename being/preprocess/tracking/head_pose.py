"""Head tracking of a clip: focal length, identity shape, expression, and a pose per frame.

The model: x_cam = R_f (S + sum_r c_fr B_r) + t_f, projected with one focal length. S is the
identity shape, B_r a low-rank expression basis, (R_f, t_f) the pose of frame f. Steps:

1. A start from the landmarks: the identity S, held near the canonical face mesh, and poses by
   robust least squares on the points that prove rigid in this clip. The weights start at the
   canonical mesh's rigid points and follow the scatter of each point.
2. With images, focal length and poses from the skin (`skin_tracking.py`). Landmark networks are
   biased towards the frontal face; with landmarks alone, a third of the nodding of a rendered head
   was lost.
3. A fixed-interval smoother over time. It has no lag, and it interpolates frames without a face.
4. The identity again, from the positions of the skin patches and from the landmarks. The principal
   components of what remains, in head space, are the expression basis.

Units and axes: `being/conventions.py`. The head unit is the canonical mesh's 10 cm, so a face has
the same size through every lens. The distance follows: about 7 units through a usual lens, more
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
from being.data.cameras import TRACKER_TO_RENDER, euler_to_rotation, rotation_to_euler
from being.errors import InputRejected
from being.face.canonical_mesh import add_skull
from being.face.landmarks import MESH_POINTS
from being.face.smoothing import interpolate_missing, smooth
from being.face.topology import RIGID
from being.preprocess.tracking.bundle_adjustment import FOCAL_PRIOR
from being.preprocess.tracking.geometry import (
    Camera,
    Poses,
    mean_rotation,
    pose_jacobian,
    rotation_to_vector,
    vector_to_rotation,
)
from being.preprocess.tracking.skin_tracking import HeadMesh, SkinTrack, track_skin

EXPRESSION_RANK = 16
SAMPLED_FRAMES = 100  # frames that determine the identity
CHUNK_FRAMES = 250  # frames that are solved at once, to limit the memory
OUTLIER_PX = 2.0  # Huber threshold at an image side of 512 px
IDENTITY_STD = 0.05  # head units of 10 cm: how far a vertex may lie from the canonical face
IDENTITY_ROUGHNESS = 0.01  # head units: how far its offset may differ from its neighbours' mean
LANDMARK_BIAS_PX = 0.5  # at 512: error of the mean of a landmark over a clip
SKIN_STD = 0.02  # head units: how far a skin patch may lie from the mesh


@dataclass(frozen=True)
class HeadTrack:
    """Camera, shape and poses of a clip, in the convention of the GaussianTalker family.

    x_cam = R(euler) x_head + trans.
    """

    focal: float  # px
    euler: np.ndarray  # float32 [F, 3], radians
    trans: np.ndarray  # float32 [F, 3], head units
    identity: np.ndarray  # float32 [468, 3], head units: the clip's mean face
    basis: np.ndarray  # float32 [R, 468, 3], orthonormal displacements
    coefficients: np.ndarray  # float32 [F, R], head units
    rigidity: np.ndarray  # float32 [468] in 0..1: weight of each vertex for the pose
    # float32 [F], px: median distance of projected vertices to their landmarks, NaN if no face.
    residual: np.ndarray

    @property
    def vertices(self) -> np.ndarray:
        """Vertices of every frame without pose, float32 [F, 468, 3], head units."""
        flat = self.coefficients @ self.basis.reshape(len(self.basis), -1)
        return self.identity + flat.reshape(-1, *self.identity.shape)


def project_vertices(track: HeadTrack, vertices: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels float32 [F, V, 2] of head-space vertices under the poses of a track.

    vertices: [V, 3] or [F, V, 3], head units. width, height: of the image, px.
    """
    camera = Camera(track.focal, _image_centre(width, height))
    posed = np.asarray(vertices, np.float64) @ np.swapaxes(euler_to_rotation(track.euler), -1, -2)
    return camera.project(posed + track.trans[:, None]).astype(np.float32)


def _image_centre(width: int, height: int) -> np.ndarray:
    """The principal point [2] px."""
    return np.array([(width - 1) / 2, (height - 1) / 2])


def track_head(
    points: np.ndarray,
    width: int,
    height: int,
    canonical: np.ndarray,
    triangles: np.ndarray,
    frames: Sequence[np.ndarray] | np.ndarray | None = None,
    segments: Sequence[tuple[int, int]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> HeadTrack:
    """Focal length, identity, expression and poses of a clip from its landmarks and images.

    points: float32 [F, >= 468, >= 2] px (x right, y down), NaN where no face was found. canonical:
    float [468, 3] cm and triangles int [T, 3], from `canonical_mesh.canonical_mesh`. frames: F
    images uint8 [H, W, 3] RGB, indexed from several threads; without them only the landmarks are
    used, with a usual focal length. segments: frame ranges [start, end) between cuts, by default
    one; motion is smoothed only within them, while camera and identity are common to all.
    progress(n) is called when n more frames are done. Raises InputRejected when fewer than two
    frames have a face.
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

    # 1. Identity and poses from the landmarks.
    side = float(max(width, height))
    camera = Camera(FOCAL_PRIOR * side, _image_centre(width, height))
    face, seen = canonical.astype(np.float64) / CENTIMETRES_PER_UNIT, observed[found]
    sample = np.unique(np.linspace(0, len(seen) - 1, SAMPLED_FRAMES).round().astype(int))
    laplacian = _laplacian(triangles)
    shape, weights = _identity(seen[sample], face, camera, side, laplacian)
    poses = _first_poses(seen, shape, camera)
    poses, information = _solve_poses(seen, shape, weights, poses, camera, side, steps=6)

    # 2. Focal length and poses from the skin, where it can be tracked.
    skin = None
    if frames is not None:
        vertices, with_skull = add_skull(canonical, triangles)
        mesh = HeadMesh(vertices / CENTIMETRES_PER_UNIT, with_skull, MESH_POINTS)
        numbers = np.flatnonzero(found)
        skin = track_skin(
            lambda i: frames[int(numbers[i])], seen, mesh, poses, camera, side, progress
        )
    if skin is not None:
        camera, poses, information = skin.scene.camera, skin.poses, skin.information
        shape = _solve_identity(
            seen[sample], face, shape, poses[sample], camera, side, laplacian, skin
        )
        weights = _rigidity(seen, shape, poses, camera, side)

    # 3. and 4. Smoothing and expression.
    rotation, translation = _smooth_all(poses, information, found, segments or [(0, len(found))])
    smoothed = Poses(rotation, translation)
    return track_from_poses(observed, smoothed, shape, camera, weights / weights.max())


def track_from_poses(
    observed: np.ndarray, poses: Poses, shape: np.ndarray, camera: Camera, rigidity: np.ndarray
) -> HeadTrack:
    """The track of given poses of F frames and a given identity.

    The expression is what these do not explain of the landmarks.

    observed: float64 [F, 468, 2] px, NaN without a face. shape: float64 [468, 3], head units.
    rigidity: [468] in 0..1.
    """
    # Expression of the frames with a face, interpolated in the others.
    found = np.isfinite(observed).all(axis=(1, 2))
    basis, coefficients = _expression(observed[found], shape, poses[found], camera)
    of_all = np.zeros((len(found), len(basis)))
    of_all[found] = coefficients
    of_all = interpolate_missing(of_all, found)

    track = HeadTrack(
        camera.focal,
        rotation_to_euler(poses.rotation).astype(np.float32),
        poses.translation.astype(np.float32),
        shape.astype(np.float32),
        basis.astype(np.float32),
        of_all.astype(np.float32),
        rigidity.astype(np.float32),
        np.full(len(found), np.nan, np.float32),
    )

    projected = camera.project(poses.to_camera(track.vertices.astype(np.float64)))
    distance = np.linalg.norm(projected - observed, axis=-1)
    track.residual[found] = np.median(distance[found], axis=1)
    return track


def _identity(
    sample: np.ndarray,
    canonical: np.ndarray,
    camera: Camera,
    side: float,
    laplacian: sparse.csr_matrix,
) -> tuple[np.ndarray, np.ndarray]:
    """Identity [468, 3] and rigidity weights [468] that explain sampled landmarks best.

    sample: [n, 468, 2] px.
    """
    shape, weights = canonical, _first_weights()
    poses = _first_poses(sample, shape, camera)
    for _ in range(4):
        poses, _ = _solve_poses(sample, shape, weights, poses, camera, side, steps=3)
        shape = _solve_identity(sample, canonical, shape, poses, camera, side, laplacian, None)
        weights = _rigidity(sample, shape, poses, camera, side)
    return shape, weights


def _first_weights() -> np.ndarray:
    """Rigidity weights [468] before the first solution: the canonical mesh's rigid points."""
    weights = np.full(MESH_POINTS, 1e-3)
    weights[RIGID] = 1.0
    return weights


def _first_poses(observed: np.ndarray, shape: np.ndarray, camera: Camera) -> Poses:
    """Poses of observed points [F, 468, 2] px, frame by frame.

    Perspective-n-point on the rigid points of the mesh (SQPNP, Terzakis and Lourakis 2020).
    """
    matrix = np.array(
        [[camera.focal, 0, camera.centre[0]], [0, camera.focal, camera.centre[1]], [0, 0, 1]]
    )
    rotation, translation = np.empty((len(observed), 3, 3)), np.empty((len(observed), 3))
    for i, frame in enumerate(observed):
        done, vector, offset = cv2.solvePnP(
            shape[RIGID], frame[RIGID], matrix, None, flags=cv2.SOLVEPNP_SQPNP
        )
        assert done, "SQPNP has a solution for 33 points in general position"
        rotation[i] = TRACKER_TO_RENDER @ cv2.Rodrigues(vector)[0]
        translation[i] = TRACKER_TO_RENDER @ offset[:, 0]
    return Poses(rotation, translation)


def _residual(observed: np.ndarray, shape: np.ndarray, poses: Poses, camera: Camera) -> np.ndarray:
    """Observed minus projected points [F, V, 2] px."""
    return observed - camera.project(poses.to_camera(shape))


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
    """Refined poses, and their information matrices [F, 6, 6] (rotation in radians, translation).

    Gauss-Newton, many frames at once. observed: [F, 468, 2] px. shape: [468, 3]. weights: [468];
    points with a small weight are left out. poses: start.
    """
    use = weights > 0.02 * weights.max()
    points, share, solved = shape[use], weights[use], []
    for start in range(0, len(observed), CHUNK_FRAMES):
        chunk = slice(start, start + CHUNK_FRAMES)
        seen, moved = observed[chunk, use], poses[chunk]
        for _ in range(steps):
            # Residuals and derivatives.
            rotated = points @ np.swapaxes(moved.rotation, 1, 2)
            in_camera = rotated + moved.translation[:, None]
            residual = seen - camera.project(in_camera)
            jacobian = pose_jacobian(rotated, camera.jacobian(in_camera))  # [F, V, 2, 6]
            weighted = jacobian * (share * _huber(residual, side))[..., None, None]

            # Normal equations of each frame.
            frames, columns = len(jacobian), jacobian.reshape(len(jacobian), -1, 6)
            rows = np.swapaxes(weighted.reshape(frames, -1, 6), 1, 2)
            information = rows @ columns + 1e-9 * np.eye(6)
            pull = rows @ residual.reshape(frames, -1, 1)
            moved = moved.updated(np.linalg.solve(information, pull)[..., 0])
        solved.append((moved.rotation, moved.translation, information))
    rotation, translation, information = (
        np.concatenate(column) for column in zip(*solved, strict=True)
    )
    return Poses(rotation, translation), information


def _solve_identity(
    observed: np.ndarray,
    canonical: np.ndarray,
    shape: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
    laplacian: sparse.csr_matrix,
    skin: SkinTrack | None,
) -> np.ndarray:
    """Identity [468, 3] that fits landmarks and skin patches, near the canonical shape.

    Weighted least squares with a prior on the offset from the canonical shape and on its
    smoothness. The errors of a landmark repeat from frame to frame, so all frames together count as
    one frame without noise. observed: [n, 468, 2] px. shape: [468, 3], the current identity.
    """
    # Normal equations of the landmarks, a 3 x 3 block for each vertex.
    residual = _residual(observed, shape, poses, camera)
    jacobian = camera.jacobian(poses.to_camera(shape)) @ poses.rotation[:, None]  # [F, V, 2, 3]
    weight = _huber(residual, side) / (LANDMARK_BIAS_PX * side / 512) ** 2 / len(observed)
    normal = np.einsum("fvij,fvik,fv->vjk", jacobian, jacobian, weight, optimize=True)
    pull = np.einsum("fvij,fvi,fv->vj", jacobian, residual, weight, optimize=True)
    pull += np.einsum("vjk,vk->vj", normal, shape - canonical)

    # Priors, and the positions of skin patches.
    count = len(shape)
    prior = (
        sparse.identity(count) / IDENTITY_STD**2 + laplacian.T @ laplacian / IDENTITY_ROUGHNESS**2
    )
    if skin is not None:
        shares, positions, trust = _patches_on_face(skin, count)
        precision = trust / SKIN_STD**2
        prior = prior + shares.T @ sparse.diags(precision) @ shares
        pull += shares.T @ (precision[:, None] * (positions - shares @ canonical))

    system = sparse.kron(prior, sparse.identity(3)) + sparse.block_diag(normal)
    return canonical + splu(system.tocsc()).solve(pull.ravel()).reshape(count, 3)


def _patches_on_face(
    skin: SkinTrack, count: int
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Barycentric shares, sparse [P, count], positions [P, 3] and trust [P] of patches on the face.

    count: number of vertices of the face.
    """
    patches, trust = skin.patches, skin.scene.trust
    use = np.flatnonzero((patches.corners < count).all(1) & (trust > 0))
    rows = np.repeat(np.arange(len(use)), 3)
    shares = sparse.csr_matrix(
        (patches.shares[use].ravel(), (rows, patches.corners[use].ravel())), (len(use), count)
    )
    return shares, skin.scene.points[use], trust[use]


def _laplacian(triangles: np.ndarray) -> sparse.csr_matrix:
    """Uniform graph Laplacian of the mesh, sparse [468, 468].

    It maps values at the vertices to each value minus the mean of its neighbours.
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
    """Weights [468] in 0..1: 1 for a rigid point.

    The inverse of each point's mean squared residual over the clip, relative to a rigid point's.
    """
    squared = (_residual(observed, shape, poses, camera) ** 2).sum(-1).mean(0)
    floor = (0.7 * side / 512) ** 2
    return floor / (floor + squared)


def _expression(
    observed: np.ndarray, shape: np.ndarray, poses: Poses, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Basis [R, 468, 3] and coefficients [F, R] of the displacements that the poses leave.

    Principal components of the residuals in head space. Depth is not visible, so a residual is
    taken to lie in the plane parallel to the image.
    """
    residual = _residual(observed, shape, poses, camera)
    depth = -(shape @ poses.rotation[:, 2].T).T - poses.translation[:, 2:]
    in_camera = np.zeros((*residual.shape[:2], 3))
    in_camera[..., :2] = residual * (depth / camera.focal)[..., None] * np.array([1.0, -1.0])
    flat = (in_camera @ poses.rotation).reshape(len(residual), -1)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    basis = vectors[:, ::-1][:, : min(EXPRESSION_RANK, len(flat))].T
    return basis.reshape(len(basis), *shape.shape), flat @ basis.T


def _smooth_all(
    poses: Poses, information: np.ndarray, found: np.ndarray, segments: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [F, 3, 3] and translations [F, 3] of all frames, smoothed within each segment.

    poses, information: of the frames with a face.
    """
    # Rotation vectors relative to the mean rotation, and translations.
    mean = mean_rotation(poses.rotation)
    vectors = rotation_to_vector(poses.rotation @ mean.T)
    values = np.zeros((len(found), 6))
    values[found] = np.concatenate([vectors, poses.translation], 1)
    values = interpolate_missing(values, found)
    weight = np.zeros((len(found), 6, 6))
    weight[found] = information
    for start, end in segments:
        if found[start:end].any():
            values[start:end] = smooth(values[start:end], weight[start:end], found[start:end])
    return vector_to_rotation(values[:, :3]) @ mean, values[:, 3:]
