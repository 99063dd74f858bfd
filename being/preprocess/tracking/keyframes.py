"""Head poses from patches of a few keyframes found again in every frame: solved together, then
frame by frame.

1. Keyframes are chosen so that every pose of the clip is near one; patches are taken from each.
2. Sampled frames are matched with keyframes and adjusted together (`bundle.py`): focal length,
  places of the patches, and which of them go with the skull. Twice: the second time the first
  solution says where to look.
3. Every frame is matched with the keyframes nearest to it, and its pose follows from the places
  found in 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from being.preprocess.tracking.bundle_adjustment import OUTLIER_PX, Scene, Sightings, adjust
from being.preprocess.tracking.geometry import (
    Camera,
    Poses,
    angles_between,
    mean_rotation,
    pose_jacobian,
)
from being.preprocess.tracking.skin_patches import (
    Patches,
    choose_patches,
    find_patches,
    patch_warp,
    pyramid,
    steadiness,
)

KEYFRAMES_MAX = 14
KEYFRAME_ANGLE = np.radians(6.0)  # farthest that a frame should be from its nearest keyframe
KEYFRAMES_MIN = 4
SAMPLED_FRAMES = 60  # frames that are adjusted together, with the keyframes
SAMPLED_LINKS, SAMPLED_ANGLE = (
    6,
    np.radians(25.0),
)  # keyframes with which a sampled frame is matched
LINKS = 3  # keyframes with which every frame is matched
ADJUSTMENTS = 2
FRONTAL = 1.5  # ears and hair stand up: their patches are taken to face the front by so much
SIGHTINGS_MIN = 12  # under so many a frame keeps the pose that its landmarks give
WEAK = 0.01  # of the median information: what is given to such a pose
POSE_STEPS = 6
CHUNK = 16  # frames of one task


@dataclass(frozen=True)
class Mesh:
    """The head as far as it is known beforehand: canonical mesh continued over the skull, in head
    units.
    """

    vertices: np.ndarray  # float64 [V, 3]
    triangles: np.ndarray  # int [T, 3]
    face: int  # so many of the vertices are landmarks


@dataclass(frozen=True)
class Anchors:
    """The patches of all keyframes, one after the other."""

    patches: list[Patches]
    first: np.ndarray  # int [K + 1]: number of each keyframe's first patch
    normals: np.ndarray  # float64 [P, 3]
    corners: np.ndarray  # int [P, 3], of the mesh
    shares: np.ndarray  # float64 [P, 3]

    def rows(self, k: int) -> slice:
        return slice(int(self.first[k]), int(self.first[k + 1]))


@dataclass(frozen=True)
class Followed:
    """What following the skin gives for F frames."""

    scene: Scene
    anchors: Anchors
    poses: Poses
    information: np.ndarray  # float64 [F, 6, 6], of each pose


def follow_skin(
    picture: Callable[[int], np.ndarray],
    points: np.ndarray,
    mesh: Mesh,
    poses: Poses,
    camera: Camera,
    side: float,
    progress: Callable[[int], None] | None = None,
) -> Followed | None:
    """Focal length, places of patches and the poses of F frames; none if their skin cannot be
    followed.

    picture: of frame i, uint8 [H, W, 3] RGB; asked for from several threads. points: float64 [F,
    face, 2] px, the landmarks of these frames. poses, camera: from landmarks, a start. side: of the
    picture, px.
    """
    keys = _choose_keyframes(poses)
    sampled = np.unique(
        np.r_[np.linspace(0, len(points) - 1, SAMPLED_FRAMES).round().astype(int), keys]
    )
    start = poses[sampled]
    seen = np.concatenate(
        [points[keys], camera.project(poses[keys].place(mesh.vertices[mesh.face :]))], 1
    )
    anchors = _take_patches([picture(k) for k in keys], seen, mesh)
    prior = np.einsum("pcd,pc->pd", mesh.vertices[anchors.corners], anchors.shares)
    expected = np.concatenate([p.trust for p in anchors.patches])
    key_rows = np.searchsorted(sampled, keys)
    around = np.concatenate(
        [points[sampled], camera.project(start.place(mesh.vertices[mesh.face :]))], 1
    )
    scene, solved = Scene(camera, prior, expected), start
    for turn in range(ADJUSTMENTS):
        key_poses = solved[key_rows]
        guesses = around if turn == 0 else None

        def match(
            i: int,
            scene: Scene = scene,
            solved: Poses = solved,
            key_poses: Poses = key_poses,
            guesses: np.ndarray | None = guesses,
        ) -> tuple[np.ndarray, np.ndarray]:
            return _match(
                picture(sampled[i]),
                anchors,
                scene,
                key_poses,
                solved[i : i + 1],
                SAMPLED_LINKS,
                None if guesses is None else guesses[i],
            )

        found = _map(match, len(sampled), None)
        sightings = Sightings(
            np.repeat(np.arange(len(sampled)), [len(f[0]) for f in found]),
            np.concatenate([f[0] for f in found]),
            np.concatenate([f[1] for f in found]),
        )
        if len(sightings) < SIGHTINGS_MIN * len(sampled):
            return None
        scene, solved = adjust(sightings, prior, expected, solved, scene.camera, side)
    key_poses, begin = (
        solved[key_rows],
        _corrected(points, poses, sampled, solved, mesh, scene.camera),
    )

    def place(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        patch, pixel = _match(picture(i), anchors, scene, key_poses, begin[i : i + 1], LINKS, None)
        return _resect(scene, patch, pixel, begin[i : i + 1], side)

    placed = _map(place, len(points), progress)
    rotation, shift, information = (np.stack(column) for column in zip(*placed, strict=True))
    poor = ~information.any(axis=(1, 2))
    if poor.mean() > 0.5:
        return None
    information[poor] = WEAK * np.median(information[~poor], axis=0)
    return Followed(scene, anchors, Poses(rotation, shift), information)


def _choose_keyframes(poses: Poses) -> np.ndarray:
    """Frames [K]: the one nearest to the mean pose, then always the one farthest from those chosen."""
    keys = [int(angles_between(poses.rotation, mean_rotation(poses.rotation)[None])[:, 0].argmin())]
    distance = np.full(len(poses), np.inf)
    while len(keys) < min(KEYFRAMES_MAX, len(poses)):
        distance = np.minimum(
            distance, angles_between(poses.rotation, poses.rotation[keys[-1:]])[:, 0]
        )
        far = int(distance.argmax())
        if distance[far] < KEYFRAME_ANGLE and len(keys) >= KEYFRAMES_MIN:
            break
        keys.append(far)
    return np.array(keys)


def _take_patches(pictures: list[np.ndarray], points: np.ndarray, mesh: Mesh) -> Anchors:
    steady = steadiness(mesh.vertices, mesh.face)
    patches = [
        choose_patches(picture, seen, mesh.triangles, steady, mesh.face)
        for picture, seen in zip(pictures, points, strict=True)
    ]
    normals = _normals(mesh)
    facing = np.concatenate([p.on(normals) for p in patches])
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    return Anchors(
        patches,
        np.r_[0, np.cumsum([len(p) for p in patches])],
        facing,
        np.concatenate([p.corners for p in patches]),
        np.concatenate([p.shares for p in patches]),
    )


def _normals(mesh: Mesh) -> np.ndarray:
    """Outward unit normals [V, 3]."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    flat = np.cross(b - a, c - a)
    normals = np.zeros_like(mesh.vertices)
    for i in range(3):
        np.add.at(normals, mesh.triangles[:, i], flat)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[mesh.face :, 2] += FRONTAL
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _match(
    picture: np.ndarray,
    anchors: Anchors,
    scene: Scene,
    key_poses: Poses,
    pose: Poses,
    links: int,
    guesses: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [n] and pixels [n, 2] of the patches found in a frame, from the keyframes nearest to
    its pose.

    guesses: the mesh in this frame [V, 2] px, or none: then the pose and the scene say where
    patches should be.
    """
    levels, side = pyramid(picture), max(picture.shape)
    away = angles_between(pose.rotation, key_poses.rotation)[0]
    numbers: list[np.ndarray] = []
    pixels: list[np.ndarray] = []
    for k in np.argsort(away)[:links]:
        if numbers and away[k] > SAMPLED_ANGLE:
            continue
        rows = anchors.rows(k)
        warp, seen = patch_warp(
            scene.points[rows], anchors.normals[rows], scene.camera, key_poses[k : k + 1], pose
        )
        if guesses is None:
            guess = scene.camera.project(pose.place(scene.points[rows]))[0]
        else:
            guess = anchors.patches[k].on(guesses)
        use = np.flatnonzero(seen & (scene.trust[rows] > 0) & ((guess > 0) & (guess < side)).all(1))
        if len(use):
            pixel, found = find_patches(levels, anchors.patches[k], use, guess[use], warp[use])
            numbers.append(rows.start + use[found])
            pixels.append(pixel[found])
    return (
        (np.concatenate(numbers), np.concatenate(pixels))
        if numbers
        else (np.zeros(0, int), np.zeros((0, 2)))
    )


def _corrected(
    points: np.ndarray, poses: Poses, sampled: np.ndarray, solved: Poses, mesh: Mesh, camera: Camera
) -> Poses:
    """Poses [F] turned and moved as the sampled ones nearest to them were, so that the face stays
    on its landmarks.
    """
    before = poses[sampled]
    nearest = angles_between(poses.rotation, before.rotation).argmin(1)
    turn = solved.rotation[nearest] @ np.swapaxes(before.rotation[nearest], 1, 2)
    scale = solved.shift[nearest, 2:] / before.shift[nearest, 2:]
    moved = Poses(turn @ poses.rotation, poses.shift * scale)

    def miss(poses: Poses, points: np.ndarray) -> np.ndarray:
        return (points - camera.project(poses.place(mesh.vertices[: mesh.face]))).mean(1)

    aside = miss(moved, points) - miss(solved, points[sampled])[nearest]
    depth = -moved.shift[:, 2:] / camera.focal
    return Poses(
        moved.rotation, moved.shift + np.c_[aside * [1.0, -1.0] * depth, np.zeros(len(aside))]
    )


def _resect(
    scene: Scene, patch: np.ndarray, pixel: np.ndarray, pose: Poses, side: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation [3, 3], shift [3] and information [6, 6] of one frame from the places of its
    patches.
    """
    nothing = pose.rotation[0], pose.shift[0], np.zeros((6, 6))
    if len(patch) < SIGHTINGS_MIN:
        return nothing
    points, trust, scale = scene.points[patch], scene.trust[patch], OUTLIER_PX * side / 512
    for step in range(POSE_STEPS):
        turned = points @ pose.rotation[0].T
        placed = turned + pose.shift[0]
        residual = pixel - scene.camera.project(placed)
        wide = scale * max(1.0, 4.0 / 2**step)  # the start may be off: tighten by steps
        kept = 1 / (1 + (residual**2).sum(1) / wide**2) ** 2
        jacobian = pose_jacobian(turned, scene.camera.jacobian(placed))
        weighted = jacobian * (trust * kept)[:, None, None]
        information = np.einsum("mki,mkj->ij", weighted, jacobian) + 1e-9 * np.eye(6)
        move = np.linalg.solve(information, np.einsum("mki,mk->i", weighted, residual))
        pose = pose.moved(move[None])
    if (kept > 0.25).sum() < SIGHTINGS_MIN:
        return nothing
    return pose.rotation[0], pose.shift[0], information


def _map(work: Callable[[int], object], count: int, progress: Callable[[int], None] | None) -> list:
    """`work` of 0 .. count - 1 in order, on all cores."""

    def chunk(start: int) -> list:
        return [work(i) for i in range(start, min(start + CHUNK, count))]

    out: list = []
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        for done in pool.map(chunk, range(0, count, CHUNK)):
            out += done
            if progress:
                progress(len(done))
    return out
