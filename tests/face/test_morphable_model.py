"""The mean head of the Basel Face Model: alignment to a tracked face, and invalid files."""

import numpy as np
import pytest

from being.errors import UsageError
from being.face.canonical_mesh import canonical_mesh
from being.face.morphable_model import UNITS_PER_MICROMETRE, align_to_face, fit_similarity, read_bfm
from being.interop.family.head_parts import subdivide_mesh

scipy_io = pytest.importorskip("scipy.io")


@pytest.fixture(scope="module")
def face():
    """The canonical face, 468 vertices, in head units."""
    vertices, triangles = canonical_mesh()
    return vertices.astype(np.float64), triangles


def test_a_rotated_and_scaled_head_is_aligned(face, tmp_path):
    """The head is the face's own surface, finer, with a neck that the tracked mesh lacks."""
    vertices, triangles = face
    fine = subdivide_mesh(vertices, triangles, 6_000)
    random = np.random.default_rng(0)
    neck = random.uniform([-0.6, -2.0, -1.5], [0.6, -1.2, -0.8], (900, 3))
    angle = np.radians(4)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    moved = 1.08 * np.concatenate([fine, neck]) @ turn.T + [0.3, -0.5, 2.0]
    scipy_io.savemat(
        tmp_path / "model.mat", {"shapeMU": (moved / UNITS_PER_MICROMETRE).reshape(-1, 1)}
    )
    aligned = align_to_face(read_bfm(tmp_path / "model.mat"), vertices)
    assert np.abs(aligned[: len(fine)] - fine).max() < 0.02  # head units of 10 cm


def test_similarity_of_known_points():
    random = np.random.default_rng(1)
    points = random.normal(size=(20, 3))
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    found = fit_similarity(points, 0.7 * points @ rotation.T + [1, 2, 3])
    assert np.allclose(found[0], rotation)
    assert np.allclose(found[1], [1, 2, 3])
    assert np.isclose(found[2], 0.7)


def test_files_that_are_no_face_model(tmp_path):
    (tmp_path / "text.mat").write_text("no")
    scipy_io.savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    scipy_io.savemat(tmp_path / "small.mat", {"shapeMU": np.zeros((12, 1))})
    scipy_io.savemat(tmp_path / "nan.mat", {"shapeMU": np.full((60_000, 1), np.nan)})
    for name in ("missing", "text", "other", "small", "nan"):
        with pytest.raises(UsageError, match=name):
            read_bfm(tmp_path / f"{name}.mat")
