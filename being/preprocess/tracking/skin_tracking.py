"""Head tracking by skin patches: keyframes, bundle adjustment, then a pose for every frame.

1. Keyframes are chosen so that every pose of the clip is near one of them. Patches are taken from
   each keyframe.
2. Sampled frames are matched with keyframes, and all are solved together (`bundle_adjustment.py`)
   for the focal length, the positions of the patches, and which patches move with the skull. This
   is done twice; the second time the first solution predicts the patches' pixels.
3. Every frame is matched with its nearest keyframes. Its pose follows from the patches' positions
   of step 2.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from being.preprocess.tracking.bundle_adjustment import (
    OUTLIER_PX,
    Observations,
    Scene,
    bundle_adjust,
)
from being.preprocess.tracking.geometry import (
    Camera,
    Poses,
    mean_rotation,
    pose_jacobian,
    rotation_angles,
)
from being.preprocess.tracking.skin_patches import (
    Patches,
    choose_patches,
    find_patches,
    patch_warp,
    pyramid,
    vertex_rigidity,
)
from being.threads import allowed_cores

KEYFRAMES_MIN, KEYFRAMES_MAX = 4, 14
KEYFRAME_ANGLE = np.radians(
    6.0
)  # largest angle of a frame to its nearest keyframe that is aimed at
SAMPLED_FRAMES = 60  # frames that are adjusted together, with the keyframes
SAMPLED_LINKS = 6  # keyframes with which a sampled frame is matched
LINKS = 3  # keyframes with which every frame is matched
LINK_ANGLE = np.radians(25.0)  # keyframes farther away are used only if nothing was found before
ADJUSTMENTS = 2
# Ears and hair stand up from the skull: this is added to the z of their normals, so that their
# patches face the front more.
FRONTAL = 1.5
OBSERVATIONS_MIN = 12  # a frame with fewer found patches keeps the pose of its landmarks
WEAK = 0.01  # information of such a pose, as a share of the median information
POSE_STEPS = 6
CHUNK_FRAMES = 16  # frames of one task

Image = Callable[[int], np.ndarray]  # frame number -> uint8 [H, W, 3] RGB


@dataclass(frozen=True)
class HeadMesh:
    """The prior shape of the head: the canonical mesh with a skull, in head units."""

    vertices: np.ndarray  # float64 [V, 3]
    triangles: np.ndarray  # int [T, 3]
    face_vertices: int  # number of vertices that are landmarks; these come first


@dataclass(frozen=True)
class KeyframePatches:
    """The P patches of all K keyframes, one keyframe after the other."""

    patches: list[Patches]
    first: np.ndarray  # int [K + 1]: number of each keyframe's first patch
    normals: np.ndarray  # float64 [P, 3]
    corners: np.ndarray  # int [P, 3], vertices of the mesh
    shares: np.ndarray  # float64 [P, 3], barycentric coordinates

    def rows(self, k: int) -> slice:
        """The patches of keyframe `k`."""
        return slice(int(self.first[k]), int(self.first[k + 1]))


@dataclass(frozen=True)
class SkinTrack:
    """The result of skin tracking for F frames."""

    scene: Scene
    patches: KeyframePatches
    poses: Poses
    information: np.ndarray  # float64 [F, 6, 6], inverse covariance of each pose


def track_skin(
    image: Image,
    points: np.ndarray,
    mesh: HeadMesh,
    poses: Poses,
    camera: Camera,
    side: float,
    progress: Callable[[int], None] | None = None,
) -> SkinTrack | None:
    """Focal length, positions of patches and the poses of F frames.

    None if too few patches are found.

    image: called from several threads. points: float64 [F, face_vertices, 2] px, the landmarks.
    poses, camera: from landmarks, a start. side: of the image, px. progress(n) is called when n
    more frames are done.
    """
    # Sampled frames, with the keyframes among them.
    keys = _choose_keyframes(poses)
    spread = np.linspace(0, len(points) - 1, SAMPLED_FRAMES).round().astype(int)
    sampled = np.unique(np.r_[spread, keys])
    key_rows = np.searchsorted(sampled, keys)
    mesh_pixels = _mesh_pixels(points[sampled], poses[sampled], mesh, camera)

    patches = _take_patches([image(k) for k in keys], mesh_pixels[key_rows], mesh)
    solution = _adjust_samples(
        image, sampled, key_rows, mesh_pixels, patches, mesh, poses, camera, side
    )
    if solution is None:
        return None
    scene, solved = solution

    # Every frame by itself, from the scene and the keyframes' poses.
    key_poses = solved[key_rows]
    start = _corrected_poses(points, poses, sampled, solved, mesh, scene.camera)

    def pose_of_frame(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pose = start[i : i + 1]
        patch, pixel = _match(image(i), patches, scene, key_poses, pose, LINKS, None)
        return _resect(scene, patch, pixel, pose, side)

    found = _map(pose_of_frame, len(points), progress)
    rotation, translation, information = (np.stack(column) for column in zip(*found, strict=True))

    # Frames with too few patches keep their start, with little weight.
    poor = ~information.any(axis=(1, 2))
    if poor.mean() > 0.5:
        return None
    information[poor] = WEAK * np.median(information[~poor], axis=0)
    return SkinTrack(scene, patches, Poses(rotation, translation), information)


def _adjust_samples(
    image: Image,
    sampled: np.ndarray,
    key_rows: np.ndarray,
    mesh_pixels: np.ndarray,
    patches: KeyframePatches,
    mesh: HeadMesh,
    poses: Poses,
    camera: Camera,
    side: float,
) -> tuple[Scene, Poses] | None:
    """The scene, and the poses of the sampled frames; None if too few patches are found.

    sampled: int [n], frame numbers. key_rows: int [K], which of them are keyframes. mesh_pixels:
    [n, V, 2] px, the mesh in them. poses, camera: from landmarks, a start.
    """
    # Prior: patches lie on the canonical mesh.
    prior = np.einsum("pcd,pc->pd", mesh.vertices[patches.corners], patches.shares)
    expected = np.concatenate([p.trust for p in patches.patches])
    scene, solved = Scene(camera, prior, expected), poses[sampled]

    for turn in range(ADJUSTMENTS):
        key_poses = solved[key_rows]
        # The landmarks predict the patches' pixels at first, the solution afterwards.
        guesses = mesh_pixels if turn == 0 else None

        def match(
            i: int,
            scene: Scene = scene,
            solved: Poses = solved,
            key_poses: Poses = key_poses,
            guesses: np.ndarray | None = guesses,
        ) -> tuple[np.ndarray, np.ndarray]:
            guess = None if guesses is None else guesses[i]
            pose = solved[i : i + 1]
            frame = image(sampled[i])
            return _match(frame, patches, scene, key_poses, pose, SAMPLED_LINKS, guess)

        found = _map(match, len(sampled), None)
        observations = Observations(
            np.repeat(np.arange(len(sampled)), [len(f[0]) for f in found]),
            np.concatenate([f[0] for f in found]),
            np.concatenate([f[1] for f in found]),
        )
        if len(observations) < OBSERVATIONS_MIN * len(sampled):
            return None
        scene, solved = bundle_adjust(observations, prior, expected, solved, scene.camera, side)
    return scene, solved


def _mesh_pixels(points: np.ndarray, poses: Poses, mesh: HeadMesh, camera: Camera) -> np.ndarray:
    """Pixels [F, V, 2] of the mesh: landmarks of the face, the projected skull.

    points: [F, face_vertices, 2] px.
    """
    skull = camera.project(poses.to_camera(mesh.vertices[mesh.face_vertices :]))
    return np.concatenate([points, skull], 1)


def _choose_keyframes(poses: Poses) -> np.ndarray:
    """Keyframes int [K]: the frame nearest to the mean pose, then always the farthest one left."""
    from_mean = rotation_angles(poses.rotation, mean_rotation(poses.rotation)[None])[:, 0]
    keys = [int(from_mean.argmin())]
    distance = np.full(len(poses), np.inf)
    while len(keys) < min(KEYFRAMES_MAX, len(poses)):
        to_last = rotation_angles(poses.rotation, poses.rotation[keys[-1:]])[:, 0]
        distance = np.minimum(distance, to_last)
        far = int(distance.argmax())
        if distance[far] < KEYFRAME_ANGLE and len(keys) >= KEYFRAMES_MIN:
            break
        keys.append(far)
    return np.array(keys)


def _take_patches(
    images: list[np.ndarray], mesh_pixels: np.ndarray, mesh: HeadMesh
) -> KeyframePatches:
    """The patches of K keyframes uint8 [H, W, 3] RGB; mesh_pixels: [K, V, 2] px."""
    rigidity = vertex_rigidity(mesh.vertices, mesh.face_vertices)
    patches = [
        choose_patches(image, pixels, mesh.triangles, rigidity, mesh.face_vertices)
        for image, pixels in zip(images, mesh_pixels, strict=True)
    ]
    vertex_normals = _normals(mesh)
    normals = np.concatenate([p.interpolate(vertex_normals) for p in patches])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return KeyframePatches(
        patches,
        np.r_[0, np.cumsum([len(p) for p in patches])],
        normals,
        np.concatenate([p.corners for p in patches]),
        np.concatenate([p.shares for p in patches]),
    )


def _normals(mesh: HeadMesh) -> np.ndarray:
    """Outward unit normals [V, 3] of the mesh's vertices."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    of_triangle = np.cross(b - a, c - a)
    normals = np.zeros_like(mesh.vertices)
    for i in range(3):
        np.add.at(normals, mesh.triangles[:, i], of_triangle)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[mesh.face_vertices :, 2] += FRONTAL
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _match(
    image: np.ndarray,
    patches: KeyframePatches,
    scene: Scene,
    key_poses: Poses,
    pose: Poses,
    links: int,
    mesh_pixels: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [n] and pixels [n, 2] of the patches that are found in a frame.

    They are those of the `links` keyframes nearest to its pose. mesh_pixels: the mesh in this frame
    [V, 2] px; without it the pose and the scene predict the patches' pixels.
    """
    levels, side = pyramid(image), max(image.shape)
    away = rotation_angles(pose.rotation, key_poses.rotation)[0]
    numbers: list[np.ndarray] = []
    pixels: list[np.ndarray] = []
    for k in np.argsort(away)[:links]:
        if numbers and away[k] > LINK_ANGLE:
            continue

        # Predicted pixels and warps.
        rows = patches.rows(k)
        warp, visible = patch_warp(
            scene.points[rows], patches.normals[rows], scene.camera, key_poses[k : k + 1], pose
        )
        if mesh_pixels is None:
            guess = scene.camera.project(pose.to_camera(scene.points[rows]))[0]
        else:
            guess = patches.patches[k].interpolate(mesh_pixels)

        # Search for the patches that are visible, trusted and inside the image.
        inside = ((guess > 0) & (guess < side)).all(1)
        use = np.flatnonzero(visible & (scene.trust[rows] > 0) & inside)
        if len(use):
            pixel, found = find_patches(levels, patches.patches[k], use, guess[use], warp[use])
            numbers.append(rows.start + use[found])
            pixels.append(pixel[found])
    if not numbers:
        return np.zeros(0, int), np.zeros((0, 2))
    return np.concatenate(numbers), np.concatenate(pixels)


def _corrected_poses(
    points: np.ndarray,
    poses: Poses,
    sampled: np.ndarray,
    solved: Poses,
    mesh: HeadMesh,
    camera: Camera,
) -> Poses:
    """Poses of all F frames, corrected as the nearest sampled frame was.

    points: [F, face_vertices, 2] px. poses: from landmarks. sampled: int [n], frame numbers.
    solved: their adjusted poses. The face stays on its landmarks in the image.
    """
    # Rotation and scale of the correction.
    before = poses[sampled]
    nearest = rotation_angles(poses.rotation, before.rotation).argmin(1)
    turn = solved.rotation[nearest] @ np.swapaxes(before.rotation[nearest], 1, 2)
    scale = solved.translation[nearest, 2:] / before.translation[nearest, 2:]
    moved = Poses(turn @ poses.rotation, poses.translation * scale)

    def mean_offset(poses: Poses, points: np.ndarray) -> np.ndarray:
        face = mesh.vertices[: mesh.face_vertices]
        return (points - camera.project(poses.to_camera(face))).mean(1)

    # Shift parallel to the image, so that the landmarks' mean offset is that of the sampled frame.
    offset = mean_offset(moved, points) - mean_offset(solved, points[sampled])[nearest]
    depth = -moved.translation[:, 2:] / camera.focal
    shift = np.c_[offset * [1.0, -1.0] * depth, np.zeros(len(offset))]
    return Poses(moved.rotation, moved.translation + shift)


def _resect(
    scene: Scene, patch: np.ndarray, pixel: np.ndarray, pose: Poses, side: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation [3, 3], translation [3] and information [6, 6] of one frame from its patches.

    patch: int [n]. pixel: [n, 2]. pose: start. With too few patches, the start and information
    zero.
    """
    no_result = pose.rotation[0], pose.translation[0], np.zeros((6, 6))
    if len(patch) < OBSERVATIONS_MIN:
        return no_result
    points, trust = scene.points[patch], scene.trust[patch]
    scale = OUTLIER_PX * side / 512
    for step in range(POSE_STEPS):
        rotated = points @ pose.rotation[0].T
        in_camera = rotated + pose.translation[0]
        residual = pixel - scene.camera.project(in_camera)

        # Cauchy weights squared. The start may be wrong, so they become strict step by step.
        wide = scale * max(1.0, 4.0 / 2**step)
        inlier = 1 / (1 + (residual**2).sum(1) / wide**2) ** 2

        jacobian = pose_jacobian(rotated, scene.camera.jacobian(in_camera))
        weighted = jacobian * (trust * inlier)[:, None, None]
        information = np.einsum("mki,mkj->ij", weighted, jacobian) + 1e-9 * np.eye(6)
        move = np.linalg.solve(information, np.einsum("mki,mk->i", weighted, residual))
        pose = pose.updated(move[None])
    if (inlier > 0.25).sum() < OBSERVATIONS_MIN:
        return no_result
    return pose.rotation[0], pose.translation[0], information


def _map(work: Callable[[int], object], count: int, progress: Callable[[int], None] | None) -> list:
    """`work` of 0 .. count - 1 in order, on all cores."""

    def chunk(start: int) -> list:
        return [work(i) for i in range(start, min(start + CHUNK_FRAMES, count))]

    results: list = []
    with ThreadPoolExecutor(min(8, allowed_cores())) as pool:
        for done in pool.map(chunk, range(0, count, CHUNK_FRAMES)):
            results += done
            if progress:
                progress(len(done))
    return results
