"""Head tracking of clips with known poses: a deforming face mesh, and rendered heads with skin."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from needs import load_or_skip
from painted_head import painted_clip

from being.data.cameras import TRACKER_TO_RENDER, euler_to_rotation, rotation_to_euler
from being.errors import InputRejected
from being.face.canonical_mesh import canonical_mesh
from being.face.topology import CHIN, RIGID
from being.preprocess.tracking.head_pose import HeadTrack, project_vertices, track_head

SIDE, FOCAL, FRAMES = 512, 1100.0, 260
LOWER_LIP_EDGE = 17


@dataclass
class Truth:
    """A clip whose poses are known."""

    euler: np.ndarray  # [F, 3]
    trans: np.ndarray  # [F, 3]
    vertices: np.ndarray  # [F, 468, 3]
    clean: np.ndarray  # [F, 468, 2] px


def camera_pixels(vertices: np.ndarray, euler: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """Pixels [F, V, 2] without the tracker's code: u = f X / -Z + cx, v = -f Y / -Z + cy."""
    placed = np.einsum("fij,fvj->fvi", euler_to_rotation(euler), vertices) + trans[:, None]
    x, y = placed[..., 0] / -placed[..., 2], placed[..., 1] / -placed[..., 2]
    return np.stack([FOCAL * x, -FOCAL * y], -1) + (SIDE - 1) / 2


@pytest.fixture(scope="module")
def mesh() -> tuple[np.ndarray, np.ndarray]:
    return load_or_skip(canonical_mesh)


@pytest.fixture(scope="module")
def truth(mesh: tuple[np.ndarray, np.ndarray]) -> Truth:
    """Head turns of 20 degrees, nods of 9, a talking jaw and moving brows.

    The face is not the canonical one.
    """
    face = mesh[0].astype(np.float64) / 10
    face = face * [1.06, 0.97, 1.08] + 0.02 * np.sin(3 * face[:, [1, 2, 0]])
    time = np.arange(FRAMES) / 25
    wave = np.sin
    euler = np.radians(
        np.stack(
            [
                9 * wave(2.1 * time) + 3 * wave(7 * time + 1),
                20 * wave(1.3 * time),
                5 * wave(1.7 * time + 2),
            ],
            1,
        )
    )
    trans = np.stack(
        [0.3 * wave(0.9 * time), 0.15 * wave(1.9 * time), -9 + 0.3 * wave(0.7 * time)], 1
    )
    jaw = np.clip(-face[:, 1] - 0.35, 0, None)[:, None] * [0, -0.35, -0.1]
    brow = np.clip(face[:, 1] - 0.3, 0, 0.3)[:, None] * [0, 0.4, 0]
    talk, lift = np.abs(wave(9 * time)), np.clip(wave(1.1 * time), 0, 1)
    vertices = face + talk[:, None, None] * jaw + lift[:, None, None] * brow
    return Truth(euler, trans, vertices, camera_pixels(vertices, euler, trans))


@pytest.fixture(scope="module")
def noisy(truth: Truth) -> np.ndarray:
    """Landmarks with noise of 0.7 px, a shift of each frame of 0.15 px, and some outliers."""
    rng = np.random.default_rng(0)
    points = (
        truth.clean + rng.normal(0, 0.7, truth.clean.shape) + rng.normal(0, 0.15, (FRAMES, 1, 2))
    )
    wild = rng.random(truth.clean.shape[:2]) < 0.01
    points[wild] += rng.normal(0, 15, (int(wild.sum()), 2))
    return points.astype(np.float32)


@pytest.fixture(scope="module")
def track(noisy: np.ndarray, mesh: tuple[np.ndarray, np.ndarray]) -> HeadTrack:
    return track_head(noisy, SIDE, SIDE, *mesh)


def rotation_errors(track: HeadTrack, truth: Truth) -> np.ndarray:
    """Degrees [F] after one rotation of head space for the whole clip."""
    estimated, true = euler_to_rotation(track.euler), euler_to_rotation(truth.euler)
    left, _, right = np.linalg.svd((np.swapaxes(estimated, 1, 2) @ true).sum(0))
    aligned = estimated @ (left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right)
    cosine = (np.trace(np.swapaxes(aligned, 1, 2) @ true, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_rotation_is_right_within_half_a_degree(track: HeadTrack, truth: Truth) -> None:
    errors = rotation_errors(track, truth)
    assert np.median(errors) <= 0.5 and np.percentile(errors, 99) <= 1.5, (
        np.median(errors),
        errors.max(),
    )


def test_units_are_head_units_and_translation_is_right(
    track: HeadTrack, truth: Truth, mesh: tuple[np.ndarray, np.ndarray]
) -> None:
    assert np.ptp(track.identity, axis=0) == pytest.approx(np.ptp(mesh[0], axis=0) / 10, rel=0.15)
    ratio = track.trans[:, 2] / truth.trans[:, 2]
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.02
    pixels = [track.focal * track.trans[:, axis] / -track.trans[:, 2] for axis in (0, 1)]
    true = [FOCAL * truth.trans[:, axis] / -truth.trans[:, 2] for axis in (0, 1)]
    for seen, known in zip(pixels, true, strict=True):
        assert np.corrcoef(seen, known)[0, 1] > 0.98


def frame_rotations(euler: np.ndarray) -> np.ndarray:
    """Rotation vectors [F - 1, 3] from frame to frame, in camera axes.

    They do not depend on the choice of head axes.
    """
    rotation = euler_to_rotation(euler)
    return np.stack(
        [
            cv2.Rodrigues(after @ before.T)[0][:, 0]
            for before, after in zip(rotation[:-1], rotation[1:], strict=True)
        ]
    )


def test_poses_do_not_lag(track: HeadTrack, truth: Truth) -> None:
    speed, true = frame_rotations(track.euler), frame_rotations(truth.euler)
    for axis in range(3):
        match = [
            np.corrcoef(speed[5 + lag : -6 + lag, axis], true[5:-6, axis])[0, 1]
            for lag in range(-3, 4)
        ]
        assert int(np.argmax(match)) == 3, (axis, match)


def test_jaw_and_brows_do_not_leak_into_the_pose(track: HeadTrack, truth: Truth) -> None:
    """The jaw moves at 9 rad/s, the head never does: the pitch error must not follow it."""
    opening = truth.vertices[:, CHIN, 1] - truth.vertices[:, CHIN, 1].mean()
    error = track.euler[:, 0] - truth.euler[:, 0]
    slope = np.degrees(np.polyfit(opening, error - error.mean(), 1)[0])
    assert abs(slope * np.ptp(opening)) < 0.3, slope
    assert track.rigidity[CHIN] < 0.5 * track.rigidity[RIGID].mean()


def test_expression_carries_the_jaw(track: HeadTrack, truth: Truth) -> None:
    for vertex in (CHIN, LOWER_LIP_EDGE):
        match = np.corrcoef(track.vertices[:, vertex, 1], truth.vertices[:, vertex, 1])[0, 1]
        assert match > 0.95, (vertex, match)
    assert np.median(track.residual) < 1.5


def test_rigid_points_are_twice_as_steady_as_with_single_frames(
    track: HeadTrack, noisy: np.ndarray, mesh: tuple[np.ndarray, np.ndarray], truth: Truth
) -> None:
    """Second differences minus the true ones, because the true motion has some of its own."""
    matrix = np.array(
        [[track.focal, 0, (SIDE - 1) / 2], [0, track.focal, (SIDE - 1) / 2], [0, 0, 1]]
    )
    canonical = mesh[0][RIGID].astype(np.float64)
    single = []
    for frame in np.ascontiguousarray(noisy[:, RIGID], np.float64):
        _, turn, translation = cv2.solvePnP(
            canonical, frame, matrix, None, flags=cv2.SOLVEPNP_SQPNP
        )
        _, turn, translation = cv2.solvePnP(
            canonical, frame, matrix, None, turn, translation, True, cv2.SOLVEPNP_ITERATIVE
        )
        single.append(cv2.projectPoints(canonical, turn, translation, matrix, None)[0][:, 0])
    bend = np.diff(
        camera_pixels(
            np.broadcast_to(truth.vertices.mean(0), truth.vertices.shape), truth.euler, truth.trans
        )[:, RIGID],
        2,
        axis=0,
    )
    tracked = np.diff(project_vertices(track, track.identity[RIGID], SIDE, SIDE), 2, axis=0) - bend
    by_frame = np.diff(np.stack(single), 2, axis=0) - bend
    assert tracked.std() <= 0.5 * by_frame.std(), (tracked.std(), by_frame.std())


def test_missing_frames_are_interpolated(
    noisy: np.ndarray, truth: Truth, mesh: tuple[np.ndarray, np.ndarray]
) -> None:
    gaps = noisy.copy()
    gaps[100:104] = np.nan
    gaps[0] = np.nan
    track = track_head(gaps, SIDE, SIDE, *mesh)
    assert np.isfinite(track.euler).all() and np.isfinite(track.vertices).all()
    assert np.isnan(track.residual[[0, 100, 103]]).all() and np.isfinite(track.residual[99])
    assert rotation_errors(track, truth)[[0, *range(100, 104)]].max() < 2.0


@dataclass
class Errors:
    """Errors of a track after one rotation, shift and scale of head space for the whole clip."""

    rotation: np.ndarray  # [F], degrees
    translation: np.ndarray  # [F], of the distance
    lag: int  # frames


def errors_of(track: HeadTrack, rotation: np.ndarray, trans: np.ndarray) -> Errors:
    """rotation: true [F, 3, 3]. trans: true [F, 3], of any origin in the head and any unit."""
    estimated = euler_to_rotation(track.euler)
    left, _, right = np.linalg.svd((np.swapaxes(estimated, 1, 2) @ rotation).sum(0))
    aligned = estimated @ (left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right)
    turn = np.linalg.norm(
        [cv2.Rodrigues(a.T @ b)[0][:, 0] for a, b in zip(aligned, rotation, strict=True)], axis=1
    )
    columns = np.concatenate([track.trans.reshape(-1, 1), estimated.reshape(-1, 3)], 1).astype(
        float
    )
    scale_and_origin = np.linalg.lstsq(columns, trans.ravel(), rcond=None)[0]
    away = np.linalg.norm((columns @ scale_and_origin).reshape(-1, 3) - trans, axis=1)
    speed, true = frame_rotations(track.euler), frame_rotations(rotation_to_euler(rotation))
    match = [
        sum(
            np.corrcoef(speed[5 + lag : -6 + lag, axis], true[5:-6, axis])[0, 1]
            for axis in range(3)
        )
        for lag in range(-3, 4)
    ]
    return Errors(np.degrees(turn), away / np.linalg.norm(trans, axis=1), int(np.argmax(match)) - 3)


def assert_accurate(errors: Errors) -> None:
    """Assert the accuracy that head tracking must have."""
    assert np.median(errors.rotation) <= 0.5, np.median(errors.rotation)
    assert np.percentile(errors.rotation, 99) <= 1.5, np.percentile(errors.rotation, 99)
    assert errors.translation.max() <= 0.01, errors.translation.max()
    assert errors.lag == 0


@pytest.mark.parametrize(
    ("lens", "stretch", "turns"),
    [
        pytest.param(1.5, [1.06, 0.97, 1.08], [7, 18, 5], marks=pytest.mark.slow),
        (2.5, [0.95, 1.03, 0.93], [8, 14, 5]),
        pytest.param(4.0, [1.03, 1.02, 1.1], [6, 20, 4], marks=pytest.mark.slow),
    ],
)
def test_poses_are_right_although_landmarks_reduce_the_rotation(
    mesh: tuple[np.ndarray, np.ndarray], lens: float, stretch: list[float], turns: list[float]
) -> None:
    """Heads other than the canonical one; landmarks show 65 % of the nods, 90 % of the turns."""
    clip = painted_clip(mesh, 50, lens, round(lens), stretch, turns)
    points = clip.points.copy()
    points[[10, 20, 21]] = np.nan  # frames without a face
    track = track_head(points, SIDE, SIDE, *mesh, frames=clip.frames, segments=[(0, 28), (28, 50)])
    rotation = euler_to_rotation(clip.euler)
    assert_accurate(errors_of(track, rotation, clip.trans))
    assert track.focal == pytest.approx(clip.focal, rel=0.1)
    by_landmarks = errors_of(track_head(clip.points, SIDE, SIDE, *mesh), rotation, clip.trans)
    assert np.median(by_landmarks.rotation) > 1.0, "the landmarks of this test must mislead"


def test_images_without_texture_keep_the_poses_of_the_landmarks(
    noisy: np.ndarray, truth: Truth, mesh: tuple[np.ndarray, np.ndarray]
) -> None:
    flat = np.full((SIDE, SIDE, 3), 128, np.uint8)
    track = track_head(noisy, SIDE, SIDE, *mesh, frames=[flat] * FRAMES)
    assert np.median(rotation_errors(track, truth)) < 1.0


def test_a_clip_without_faces_is_rejected(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputRejected):
        track_head(np.full((20, 478, 3), np.nan, np.float32), SIDE, SIDE, *mesh)


def test_renderer_axes_are_those_of_the_family() -> None:
    assert np.array_equal(TRACKER_TO_RENDER, np.diag([1.0, -1.0, -1.0]))


@pytest.mark.slow
def test_poses_of_the_sample_are_right(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    """The sample is a rendering with hair, shadow and speech; landmarks are from the network."""
    from being.face.landmarks import FaceLandmarker
    from being.media import read_frames
    from being.sample import sample_clip, sample_truth

    frames = list(read_frames(sample_clip()))
    points = FaceLandmarker().track(frames).points
    height, width = frames[0].shape[:2]
    known = sample_truth()["head_to_camera"].astype(np.float64)
    assert_accurate(
        errors_of(
            track_head(points, width, height, *mesh, frames=frames),
            TRACKER_TO_RENDER @ known[:, :3, :3],
            known[:, :3, 3] @ TRACKER_TO_RENDER,
        )
    )
