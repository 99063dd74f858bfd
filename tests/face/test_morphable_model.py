"""A face model from outside is laid on the tracked face, and a file that is none is refused."""

import numpy as np
import pytest

from being.errors import UsageError
from being.face.canonical_mesh import canonical_mesh
from being.face.morphable_model import SCALE, laid_on, read_bfm, similarity
from being.interop.family.parts import subdivided

scipy_io = pytest.importorskip("scipy.io")


@pytest.fixture(scope="module")
def face():
    """The canonical face, 468 vertices, in head units."""
    vertices, triangles = canonical_mesh()
    return vertices.astype(np.float64), triangles


def test_a_turned_and_scaled_head_comes_back(face, tmp_path):
    """The head is the face's own surface, finer, with a neck and ears that the tracked mesh lacks."""
    vertices, triangles = face
    fine = subdivided(vertices, triangles, 6_000)
    random = np.random.default_rng(0)
    neck = random.uniform([-0.6, -2.0, -1.5], [0.6, -1.2, -0.8], (900, 3))
    angle = np.radians(4)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    moved = 1.08 * np.concatenate([fine, neck]) @ turn.T + [0.3, -0.5, 2.0]
    scipy_io.savemat(tmp_path / "model.mat", {"shapeMU": (moved / SCALE).reshape(-1, 1)})
    placed = laid_on(read_bfm(tmp_path / "model.mat"), vertices)
    assert np.abs(placed[: len(fine)] - fine).max() < 0.02  # head units of 10 cm


def test_similarity_of_known_points():
    random = np.random.default_rng(1)
    points = random.normal(size=(20, 3))
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    found = similarity(points, 0.7 * points @ rotation.T + [1, 2, 3])
    assert (
        np.allclose(found[0], rotation)
        and np.allclose(found[1], [1, 2, 3])
        and np.isclose(found[2], 0.7)
    )


def test_files_that_are_no_face_model(tmp_path):
    (tmp_path / "text.mat").write_text("no")
    scipy_io.savemat(tmp_path / "other.mat", {"x": np.zeros(3)})
    scipy_io.savemat(tmp_path / "small.mat", {"shapeMU": np.zeros((12, 1))})
    scipy_io.savemat(tmp_path / "nan.mat", {"shapeMU": np.full((60_000, 1), np.nan)})
    for name in ("missing", "text", "other", "small", "nan"):
        with pytest.raises(UsageError, match=name):
            read_bfm(tmp_path / f"{name}.mat")
