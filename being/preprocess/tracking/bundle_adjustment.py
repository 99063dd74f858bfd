"""Bundle adjustment: solves focal length, head poses and skin patch positions together.

A face that turns before a long lens looks like a flatter face that turns further (the bas-relief
ambiguity). Observations of the same skin from many sides resolve the ambiguity where the head turns
far enough. Where it does not, priors resolve it: patches lie near the canonical face, and the focal
length is near the usual one. The errors of observations are not independent, so all observations
together count as `EVIDENCE_POINTS` points in `EVIDENCE_FRAMES` frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.preprocess.tracking.geometry import Camera, Poses, pose_jacobian

# Prior on the focal length over the image side: lenses of portraits and broadcasts, 1.4 to 4.5.
FOCAL_PRIOR = 2.5
FOCAL_PRIOR_LOG_STD = 0.45
RELIEF_STD = 0.07  # head units of 10 cm: how far a patch may lie from the canonical face
# So many of these distances count as independent: the depth of a face is known to about 8 %.
RELIEF_POINTS = 20.0
EVIDENCE_POINTS, EVIDENCE_FRAMES = 20.0, 30.0  # weight of all observations together
EVIDENCE_NOISE_PX = 0.4  # at 512: noise of these independent observations
OUTLIER_PX = 0.4  # at 512: scale of the Cauchy weights
STEPS = 12  # Gauss-Newton steps
REWEIGHT_STEPS = (4, 7, 10)  # steps before which the trust in patches is computed again
STEADY_PX = 0.15  # at 512: a patch with this residual has half the trust of a perfect one


@dataclass(frozen=True)
class Observations:
    """Where patches were found: M observations of P patches in F frames."""

    frame: np.ndarray  # int [M]
    patch: np.ndarray  # int [M]
    pixel: np.ndarray  # float64 [M, 2]

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Scene:
    """The result for camera and head."""

    camera: Camera
    points: np.ndarray  # float64 [P, 3], head units: positions of the patches on the head
    trust: np.ndarray  # float64 [P] in 0..1: how well each patch follows the head


def bundle_adjust(
    observations: Observations,
    points: np.ndarray,
    expected: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
) -> tuple[Scene, Poses]:
    """Scene and poses that explain the observations best.

    Damped Gauss-Newton with the points eliminated (Schur complement).

    points: float64 [P, 3], positions of the patches on the canonical face: start and prior.
    expected: float [P] in 0..1, the prior trust in the patches; those observed in fewer than three
    frames get none. poses: of F frames, start. camera: start. side: of the image, px.
    """
    count = len(points)
    expected = expected * (np.bincount(observations.patch, minlength=count) >= 3)
    prior, trust, damping = points, expected, 1e-3
    for step in range(STEPS):
        residual = _residual(observations, points, poses, camera)
        if step in REWEIGHT_STEPS:
            trust = expected * _trust(residual, observations.patch, count, side)
        weight = _weights(residual, trust[observations.patch], side)
        offset = points - prior
        change = _gauss_newton_step(
            observations, residual, weight, offset, points, poses, camera, side, damping
        )
        points, poses = points + change.points, poses.updated(change.poses)
        camera = Camera(camera.focal * float(np.exp(change.log_focal)), camera.centre)
        damping *= 0.3
    residual = _residual(observations, points, poses, camera)
    trust = expected * _trust(residual, observations.patch, count, side)
    return Scene(camera, points, trust), poses


@dataclass(frozen=True)
class _Change:
    """One Gauss-Newton step."""

    points: np.ndarray  # [P, 3]
    poses: np.ndarray  # [F, 6], see `Poses.updated`
    log_focal: float


def _residual(
    observations: Observations, points: np.ndarray, poses: Poses, camera: Camera
) -> np.ndarray:
    """Observed minus projected pixels [M, 2]."""
    rotated = _rotated(observations, points, poses)
    return observations.pixel - camera.project(rotated + poses.translation[observations.frame])


def _rotated(observations: Observations, points: np.ndarray, poses: Poses) -> np.ndarray:
    """The point of each observation after the head's rotation, [M, 3]."""
    return np.einsum("mij,mj->mi", poses.rotation[observations.frame], points[observations.patch])


def _weights(residual: np.ndarray, trust: np.ndarray, side: float) -> np.ndarray:
    """Weights [M] in 1 / px^2; their sum is that of the independent observations."""
    weight = trust / (1 + (residual**2).sum(1) / (OUTLIER_PX * side / 512) ** 2)
    evidence = EVIDENCE_POINTS * EVIDENCE_FRAMES / (EVIDENCE_NOISE_PX * side / 512) ** 2
    return weight * evidence / max(weight.sum(), 1e-9)


def _trust(residual: np.ndarray, patch: np.ndarray, count: int, side: float) -> np.ndarray:
    """How well each patch follows the head, [P], 1 for a perfect one."""
    total = np.bincount(patch, minlength=count)
    limited = np.minimum((residual**2).sum(1), (3 * OUTLIER_PX * side / 512) ** 2)
    squared = np.bincount(patch, limited, count) / np.maximum(total, 1)
    return 1 / (1 + squared / (STEADY_PX * side / 512) ** 2)


def _gauss_newton_step(
    observations: Observations,
    residual: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray,
    points: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
    damping: float,
) -> _Change:
    """One damped step of points, poses and focal length.

    residual: [M, 2] px. weight: [M]. offset: [P, 3], points minus their prior positions. The
    parameters are the six of each pose, the logarithm of the focal length, and the points.
    """
    frames, count = len(poses), len(points)
    frame, patch = observations.frame, observations.patch
    columns = 6 * frames + 1

    # Derivatives of the pixels with respect to poses, focal length and points.
    rotated = _rotated(observations, points, poses)
    in_camera = rotated + poses.translation[frame]
    pixel = camera.jacobian(in_camera)
    by_pose = pose_jacobian(rotated, pixel)  # [M, 2, 6]
    by_focal = camera.project(in_camera) - camera.centre  # [M, 2], of the logarithm
    by_point = pixel @ poses.rotation[frame]  # [M, 2, 3]

    # Normal equations of poses and focal length.
    normal, pull = np.zeros((columns, columns)), np.zeros(columns)
    blocks = _sums(np.einsum("mki,mkj,m->mij", by_pose, by_pose, weight), frame, frames)
    for f in range(frames):
        normal[6 * f : 6 * f + 6, 6 * f : 6 * f + 6] = blocks[f]
    mixed = _sums(np.einsum("mki,mk,m->mi", by_pose, by_focal, weight), frame, frames)
    normal[-1, :-1] = normal[:-1, -1] = mixed.ravel()
    normal[-1, -1] = (by_focal**2 * weight[:, None]).sum() + 1 / FOCAL_PRIOR_LOG_STD**2
    by_frame = _sums(np.einsum("mki,mk,m->mi", by_pose, residual, weight), frame, frames)
    pull[:-1] = by_frame.ravel()
    pull[-1] = (by_focal * residual * weight[:, None]).sum()
    pull[-1] -= np.log(camera.focal / side / FOCAL_PRIOR) / FOCAL_PRIOR_LOG_STD**2

    # Normal equations of the points: one 3 x 3 block each, with the prior.
    prior = RELIEF_POINTS / count / RELIEF_STD**2
    block = _sums(np.einsum("mki,mkj,m->mij", by_point, by_point, weight), patch, count)
    trace = np.trace(block, axis1=1, axis2=2)[:, None, None]
    block += (prior + damping * trace / 3) * np.eye(3)
    point_pull = _sums(np.einsum("mki,mk,m->mi", by_point, residual, weight), patch, count)
    point_pull = point_pull - prior * offset

    # Blocks between poses or focal length and points.
    cross = np.zeros((columns, count, 3))
    rows = 6 * frame[:, None] + np.arange(6)
    pose_point = np.einsum("mki,mkj,m->mij", by_pose, by_point, weight)
    np.add.at(cross, (rows, patch[:, None]), pose_point)
    cross[-1] = _sums(np.einsum("mk,mkj,m->mj", by_focal, by_point, weight), patch, count)

    # Schur complement: solve for poses and focal length, then for the points.
    inverse = np.linalg.inv(block)
    eliminated = np.einsum("cpi,pij->cpj", cross, inverse, optimize=True).reshape(columns, -1)
    flat = cross.reshape(columns, -1)
    reduced = normal - eliminated @ flat.T
    reduced[np.diag_indices(columns)] += damping * np.diag(normal) + 1e-9
    step = np.linalg.solve(reduced, pull - eliminated @ point_pull.ravel())
    moved = np.einsum("pij,pj->pi", inverse, point_pull - (step @ flat).reshape(count, 3))
    return _Change(moved, step[:-1].reshape(frames, 6), float(step[-1]))


def _sums(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Sums [count, ...] of the values [M, ...] with the same index [M]."""
    flat = values.reshape(len(values), -1)
    out = np.stack([np.bincount(index, column, count) for column in flat.T], 1)
    return out.reshape(count, *values.shape[1:])
