"""Face landmarks against a drawn head whose mesh points are known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_face import talking_head
from needs import load_or_skip

from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import (
    BLENDSHAPES,
    CHUNK_FRAMES,
    MESH_POINTS,
    FaceLandmarker,
    Landmarks,
    lip_aperture,
)
from being.face.topology import (
    BLENDSHAPE_INPUTS,
    BLENDSHAPE_NAMES,
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    IBUG_68,
    RIGID,
)

SIDE = 288


@pytest.fixture(scope="module")
def landmarker() -> FaceLandmarker:
    return load_or_skip(FaceLandmarker)


@pytest.fixture(scope="module")
def drawn(landmarker: FaceLandmarker) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 [50, 288, 288, 3], true angles and true points of two seconds."""
    images, euler, points = talking_head(50, SIDE)
    return np.stack(images), euler, points


@pytest.fixture(scope="module")
def tracked(
    landmarker: FaceLandmarker, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Landmarks:
    return landmarker.track(drawn[0])


def test_points_lie_on_the_drawn_mesh(
    tracked: Landmarks, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    assert tracked.found.all() and tracked.confidence.min() > 0.5
    distance = np.linalg.norm(tracked.points[:, :MESH_POINTS, :2] - drawn[2], axis=-1)
    eyes = np.linalg.norm(
        drawn[2][:, EYE_OUTER_RIGHT] - drawn[2][:, EYE_OUTER_LEFT], axis=-1
    ).mean()
    assert np.median(distance) < 0.04 * eyes, np.median(distance)


def test_lip_aperture_follows_the_drawn_lips(
    tracked: Landmarks, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    seen, true = lip_aperture(tracked.points), lip_aperture(drawn[2])
    assert seen.dtype == np.float32 and seen.shape == (50,)
    assert np.corrcoef(seen, true)[0, 1] > 0.9


def test_a_mirrored_image_gives_mirrored_points(
    landmarker: FaceLandmarker, tracked: Landmarks, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    """Holds only when pixel centres lie at whole numbers in both directions."""
    sums = []
    for i in (0, 20, 40):
        mirrored = landmarker.detect(np.ascontiguousarray(drawn[0][i, :, ::-1]))
        upright = landmarker.detect(drawn[0][i])
        sums.append(
            upright.points[0, :MESH_POINTS, 0].mean() + mirrored.points[0, :MESH_POINTS, 0].mean()
        )
    assert np.mean(sums) == pytest.approx(SIDE - 1, abs=0.6)


def test_a_single_image_gives_the_points_of_tracking(
    landmarker: FaceLandmarker, tracked: Landmarks, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    alone = landmarker.detect(drawn[0][30])
    assert len(alone) == 1 and alone.found[0]
    assert np.abs(alone.points[0, :, :2] - tracked.points[30, :, :2]).mean() < 1.0
    assert np.abs(alone.blendshapes - tracked.blendshapes[30]).mean() < 0.05


def test_blendshapes_are_named_and_open_with_the_jaw(
    tracked: Landmarks, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    assert len(BLENDSHAPE_NAMES) == BLENDSHAPES == tracked.blendshapes.shape[1]
    assert len(BLENDSHAPE_INPUTS) == 146
    assert tracked.blendshapes.min() >= 0 and tracked.blendshapes.max() <= 1
    jaw = tracked.blendshapes[:, BLENDSHAPE_NAMES.index("jawOpen")]
    assert np.corrcoef(jaw, lip_aperture(drawn[2]))[0, 1] > 0.7


def test_a_lost_face_is_marked_and_found_again(
    landmarker: FaceLandmarker, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    frames = drawn[0][:12].copy()
    frames[4:7] = 128
    lost = landmarker.track(frames)
    assert np.flatnonzero(~lost.found).tolist() == [4, 5, 6]
    assert np.isnan(lost.points[4:7]).all() and np.isfinite(lost.points[7:]).all()
    assert np.isnan(lip_aperture(lost.points)[4:7]).all()


def test_the_number_of_workers_changes_nothing(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    frames = np.concatenate([drawn[0]] * 3)[: CHUNK_FRAMES + 6]
    counted: list[int] = []
    one = FaceLandmarker(workers=1).track(frames)
    two = FaceLandmarker(workers=2).track(frames, counted.append)
    assert np.array_equal(one.points, two.points)
    assert np.array_equal(one.blendshapes, two.blendshapes)
    assert sum(counted) == len(frames)


def test_a_small_face_in_a_wide_image_is_found(
    landmarker: FaceLandmarker, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    wide = np.full((SIDE, 4 * SIDE, 3), 150, np.uint8)
    wide[:, 3 * SIDE :] = drawn[0][0]
    boxes = landmarker.detect_faces(wide)
    assert len(boxes) == 1 and boxes[0].centre[0] > 3 * SIDE
    assert landmarker.detect(wide).found[0]


def test_canonical_mesh_is_in_centimetres_and_symmetric(landmarker: FaceLandmarker) -> None:
    vertices, triangles = canonical_mesh()
    assert vertices.shape == (MESH_POINTS, 3)
    assert triangles.shape == (898, 3) and triangles.max() == MESH_POINTS - 1
    assert 8 < np.linalg.norm(vertices[EYE_OUTER_RIGHT] - vertices[EYE_OUTER_LEFT]) < 10
    # The person's right is left in the image.
    assert vertices[EYE_OUTER_RIGHT, 0] < 0 < vertices[EYE_OUTER_LEFT, 0]
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.95
    assert len(set(RIGID.tolist())) == 33 and len(IBUG_68) == 68
