"""Bundle adjustment: focal length, poses and the places of skin patches in head space that explain
their sightings.

A face turned through a long lens looks like a flatter face turned further (the bas-relief
ambiguity). Sightings of the same skin from many sides decide between them where the head turns far
enough; where it does not, what is known of faces and lenses does: patches lie near the canonical
face, lenses near the usual. The errors of sightings are not independent, so all of them together
count as `EVIDENCE_POINTS` points in `EVIDENCE_FRAMES` frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.preprocess.tracking.geometry import Camera, Poses, pose_jacobian

FOCAL_PRIOR = 2.5  # focal length over picture side: lenses of portraits and broadcasts, 1.4 to 4.5
FOCAL_PRIOR_LOG_STD = 0.45
RELIEF_STD = 0.07  # head units of 10 cm: how far a patch may lie from the canonical face
RELIEF_POINTS = (
    20.0  # so many of these distances are independent: depth of the face is known to about 8 %
)
EVIDENCE_POINTS, EVIDENCE_FRAMES, EVIDENCE_NOISE_PX = 20.0, 30.0, 0.4
OUTLIER_PX = 0.4  # at 512: scale of Cauchy's weights
STEPS = 12
REWEIGHTED = (4, 7, 10)  # steps before which patches are judged anew
STEADY_PX = 0.15  # at 512: a patch that is followed this well has half the say of a perfect one


@dataclass(frozen=True)
class Sightings:
    """Where patches were found: M sightings of P patches in F frames."""

    frame: np.ndarray  # int [M]
    patch: np.ndarray  # int [M]
    pixel: np.ndarray  # float64 [M, 2]

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Scene:
    """Solution: what the head and the camera are, and how far each patch may be relied on."""

    camera: Camera
    points: np.ndarray  # float64 [P, 3], head units
    trust: np.ndarray  # float64 [P] in 0..1


def adjust(
    sightings: Sightings,
    points: np.ndarray,
    expected: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
) -> tuple[Scene, Poses]:
    """Scene and poses that explain the sightings best: damped Gauss-Newton with the points
    eliminated (Schur).

    points: float64 [P, 3], where the canonical face has the patches: start and prior. expected:
    float [P] in 0..1, the trust in them beforehand; those seen in fewer than three frames get none.
    poses: of F frames, start. side: px.
    """
    count = len(points)
    expected = expected * (np.bincount(sightings.patch, minlength=count) >= 3)
    prior, trust, damping = points, expected, 1e-3
    for step in range(STEPS):
        residual = sightings.pixel - camera.project(_placed(points, poses, sightings))
        if step in REWEIGHTED:
            trust = expected * _trust(residual, sightings.patch, count, side)
        weight = _weights(residual, trust[sightings.patch], side)
        change = _step(
            sightings, residual, weight, points - prior, points, poses, camera, side, damping
        )
        points, poses = points + change.points, poses.moved(change.poses)
        camera = Camera(camera.focal * float(np.exp(change.focal)), camera.centre)
        damping *= 0.3
    residual = sightings.pixel - camera.project(_placed(points, poses, sightings))
    return Scene(camera, points, expected * _trust(residual, sightings.patch, count, side)), poses


@dataclass(frozen=True)
class _Change:
    points: np.ndarray
    poses: np.ndarray
    focal: float


def _placed(points: np.ndarray, poses: Poses, sightings: Sightings) -> np.ndarray:
    turned = np.einsum("mij,mj->mi", poses.rotation[sightings.frame], points[sightings.patch])
    return turned + poses.shift[sightings.frame]


def _weights(residual: np.ndarray, trust: np.ndarray, side: float) -> np.ndarray:
    """Weights [M] in 1 / px^2 whose sum is that of the independent sightings."""
    weight = trust / (1 + (residual**2).sum(1) / (OUTLIER_PX * side / 512) ** 2)
    evidence = EVIDENCE_POINTS * EVIDENCE_FRAMES / (EVIDENCE_NOISE_PX * side / 512) ** 2
    return weight * evidence / max(weight.sum(), 1e-9)


def _trust(residual: np.ndarray, patch: np.ndarray, count: int, side: float) -> np.ndarray:
    """How well each patch follows the head [P], 1 for a perfect one."""
    total = np.bincount(patch, minlength=count)
    limited = np.minimum((residual**2).sum(1), (3 * OUTLIER_PX * side / 512) ** 2)
    squared = np.bincount(patch, limited, count) / np.maximum(total, 1)
    return 1 / (1 + squared / (STEADY_PX * side / 512) ** 2)


def _step(
    sightings: Sightings,
    residual: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray,
    points: np.ndarray,
    poses: Poses,
    camera: Camera,
    side: float,
    damping: float,
) -> _Change:
    frames, count = len(poses), len(points)
    turned = np.einsum("mij,mj->mi", poses.rotation[sightings.frame], points[sightings.patch])
    placed = turned + poses.shift[sightings.frame]
    pixel = camera.jacobian(placed)
    by_pose = pose_jacobian(turned, pixel)  # [M, 2, 6]
    by_focal = camera.project(placed) - camera.centre  # [M, 2], of the logarithm
    by_point = pixel @ poses.rotation[sightings.frame]  # [M, 2, 3]
    columns = 6 * frames + 1
    normal, pull = np.zeros((columns, columns)), np.zeros(columns)
    blocks = _sums(np.einsum("mki,mkj,m->mij", by_pose, by_pose, weight), sightings.frame, frames)
    for f in range(frames):
        normal[6 * f : 6 * f + 6, 6 * f : 6 * f + 6] = blocks[f]
    edge = _sums(
        np.einsum("mki,mk,m->mi", by_pose, by_focal, weight), sightings.frame, frames
    ).ravel()
    normal[-1, :-1] = normal[:-1, -1] = edge
    normal[-1, -1] = (by_focal**2 * weight[:, None]).sum() + 1 / FOCAL_PRIOR_LOG_STD**2
    pull[:-1] = _sums(
        np.einsum("mki,mk,m->mi", by_pose, residual, weight), sightings.frame, frames
    ).ravel()
    pull[-1] = (by_focal * residual * weight[:, None]).sum()
    pull[-1] -= np.log(camera.focal / side / FOCAL_PRIOR) / FOCAL_PRIOR_LOG_STD**2
    hold = RELIEF_POINTS / count / RELIEF_STD**2
    small = _sums(np.einsum("mki,mkj,m->mij", by_point, by_point, weight), sightings.patch, count)
    small += (hold + damping * np.trace(small, axis1=1, axis2=2)[:, None, None] / 3) * np.eye(3)
    small_pull = (
        _sums(np.einsum("mki,mk,m->mi", by_point, residual, weight), sightings.patch, count)
        - hold * offset
    )
    cross = np.zeros((columns, count, 3))
    mixed = np.einsum("mki,mkj,m->mij", by_pose, by_point, weight)
    rows = 6 * sightings.frame[:, None] + np.arange(6)
    np.add.at(cross, (rows, sightings.patch[:, None]), mixed)
    cross[-1] = _sums(np.einsum("mk,mkj,m->mj", by_focal, by_point, weight), sightings.patch, count)
    inverse = np.linalg.inv(small)
    solved = np.einsum("cpi,pij->cpj", cross, inverse, optimize=True).reshape(columns, -1)
    flat = cross.reshape(columns, -1)
    reduced = normal - solved @ flat.T
    reduced[np.diag_indices(columns)] += damping * np.diag(normal) + 1e-9
    step = np.linalg.solve(reduced, pull - solved @ small_pull.ravel())
    moved = np.einsum("pij,pj->pi", inverse, small_pull - (step @ flat).reshape(count, 3))
    return _Change(moved, step[:-1].reshape(frames, 6), float(step[-1]))


def _sums(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Sums [count, ...] of values [M, ...] with the same index."""
    flat = values.reshape(len(values), -1)
    out = np.stack([np.bincount(index, column, count) for column in flat.T], 1)
    return out.reshape(count, *values.shape[1:])
