"""The figures of head pose: known poses are found, and jitter differs from real motion."""

import numpy as np
import pytest
from needs import load_or_skip

from being.face.canonical_mesh import canonical_mesh
from being.preprocess.tracking.geometry import Camera, Poses, vector_to_rotation
from scripts.measure.pnp_poses import pnp_poses  # noqa: E402
from scripts.measure.track import figures  # noqa: E402


def test_pnp_finds_the_poses_of_exact_landmarks_and_bridges_gaps() -> None:
    shape = load_or_skip(canonical_mesh)[0].astype(np.float64) / 10
    time = np.arange(12) / 25
    true = Poses(
        vector_to_rotation(
            np.stack([0.1 * np.sin(5 * time), 0.3 * np.cos(3 * time), 0.05 * time], 1)
        ),
        np.stack([0.1 * time, 0 * time, -9 + 0.2 * time], 1),
    )
    camera = Camera(1300.0, np.array([255.5, 255.5]))
    points = camera.project(true.to_camera(shape))
    points[5] = np.nan
    found = pnp_poses(points, shape, camera)
    seen = np.arange(12) != 5
    assert np.abs(found.rotation - true.rotation)[seen].max() < 1e-4
    assert np.abs(found.translation - true.translation)[seen].max() < 1e-2
    assert np.abs(found.rotation[5] - true.rotation[5]).max() < 0.01


def test_jitter_is_what_the_skin_does_not_do_and_cuts_do_not_count() -> None:
    rng = np.random.default_rng(0)
    motion = rng.normal(0, 1, (60, 1, 2)).cumsum(0) + np.zeros((60, 33, 2))
    motion[30:] += 200.0  # a cut
    skin = np.diff(motion, axis=0)
    shaken = motion + rng.normal(0, 0.3, (60, 1, 2))
    result = figures(motion, shaken, skin, [(0, 30), (30, 60)], 1.0)
    assert result["follows"] == pytest.approx(1.0, abs=1e-6)
    assert result["jitter"]["ours"] < 1e-6
    assert result["jitter"]["pnp"] == pytest.approx(0.3 * np.sqrt(6), rel=0.2)  # of white noise
    assert result["bend"]["ours"] < 3
