"""Blinks matched within two frames, and action units that are equal for equal faces."""

from __future__ import annotations

import numpy as np
import pytest

from being.eval.upper_face import find_blinks, match_blinks, upper_face_figures
from being.face.action_units import LOWER_LID, UPPER_LID
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import Landmarks
from being.face.topology import BLENDSHAPE_NAMES


def closure(*frames: int, count: int = 100, depth: float = 1.0) -> np.ndarray:
    """Lids that shut at `frames` and are open otherwise, [F]."""
    series = np.zeros(count)
    for k in frames:
        series[k - 2 : k + 3] = depth * np.array([0.3, 0.7, 1, 0.7, 0.3])
    return series


def test_the_deepest_frame_of_each_blink():
    assert find_blinks(closure(10, 40, 90)) == [10, 40, 90]
    assert find_blinks(closure(10, depth=0.4)) == [] and find_blinks(np.full(9, np.nan)) == []
    twice = closure(10)
    twice[12:16] = [0.3, 0.6, 0.6, 0]
    assert find_blinks(twice) == [10], "lids that part for a moment are in one blink"


def test_a_blink_counts_within_two_frames_and_once():
    assert match_blinks(closure(10, 40, 70), closure(12, 37, 70)) == ([True, False, True], 1)
    assert match_blinks(closure(10, 40), closure(10)) == ([True, False], 0)
    assert match_blinks(closure(), closure(10)) == ([], 1)
    close = closure(10) + closure(16)
    assert match_blinks(close, closure(13)) == ([False, False], 1)


def face(shut: np.ndarray) -> Landmarks:
    """The canonical face with lids closed as far as `shut` [F] says, px at 512."""
    mesh = canonical_mesh()[0]
    points = np.zeros((len(shut), 478, 3), np.float32)
    points[:, :468] = mesh * [20, -20, -20] + [256, 256, 0]
    for upper, lower in zip(UPPER_LID, LOWER_LID, strict=True):
        gap = points[:, upper, :2] - points[:, lower, :2]
        points[:, upper, :2] -= gap * np.clip(0.9 * shut, 0, 1)[:, None]
    return Landmarks(points, np.zeros((len(shut), 52), np.float32), np.ones(len(shut), np.float32))


def test_equal_faces_have_no_error_and_all_their_blinks():
    shut = closure(20, 60, 130, count=200)
    figures, series = upper_face_figures(face(shut), face(shut))
    assert figures["action_unit_error"] == 0 and figures["blinks"]["share"] == 1
    assert figures["blinks"] == {"true": 3, "reproduced": 3, "extra": 0, "share": 1.0}
    assert (
        series["closure.true"] == pytest.approx(shut, abs=0.35)
        and series["closure.true"].max() > 0.9
    )


def test_a_face_that_never_blinks_reproduces_none():
    shut = closure(20, 60, 130, count=200)
    figures, _ = upper_face_figures(face(shut), face(0 * shut))
    assert figures["blinks"]["share"] == 0 and figures["units"]["AU45"]["error"] > 0.03
    assert figures["upper_face_error"] > 0
    late, _ = upper_face_figures(face(shut), face(np.roll(shut, 5)))
    assert late["blinks"]["reproduced"] == 0 and late["blinks"]["extra"] == 3


def test_a_face_without_a_counterpart_has_no_figures():
    shut = closure(20)
    lost = Landmarks(
        np.full((100, 478, 3), np.nan, np.float32),
        np.zeros((100, 52), np.float32),
        np.zeros(100, np.float32),
    )
    assert upper_face_figures(face(shut), lost) == (
        {"action_unit_error": None, "blinks": None, "gaze": None},
        {},
    )


def looking(right: np.ndarray, shut: np.ndarray) -> Landmarks:
    """The canonical face whose left eye looks outwards as far as `right` [F] says."""
    landmarks = face(shut)
    landmarks.blendshapes[:, BLENDSHAPE_NAMES.index("eyeLookOutLeft")] = right
    return landmarks


def test_a_gaze_of_half_the_motion_and_none_behind_closed_lids():
    shut = closure(20, 60, 130, count=200)
    right = 0.5 + 0.5 * np.sin(np.arange(200) / 9)
    seen = np.where(shut > 0, 0.9, 0.5 * right)  # nobody sees it while the lids are closed
    figures, series = upper_face_figures(looking(right, shut), looking(seen, shut))
    sideways = figures["gaze"]["gaze_right"]
    assert sideways["correlation"] == pytest.approx(1, abs=0.02)
    assert sideways["motion"] == pytest.approx(0.5, abs=0.03)
    assert figures["gaze"]["gaze_up"] == {"correlation": None, "motion": None}
    assert np.isnan(series["gaze_right.true"][[20, 60, 130]]).all()
