"""The mouth code of faces with known mouths."""

from __future__ import annotations

import json

import numpy as np
import pytest

from being.face.mouth_code import LENGTHS, MOUTH_CHANNELS, MouthUnits, mouth_lengths
from tests.support.needs import load_or_skip

SIDE = 512


def landmarks(jaws: np.ndarray, turn: float = 0.0, distance: float = -7.0) -> np.ndarray:
    """Landmarks float64 [F, 478, 3] px of the canonical face, its mouth open by `jaws` [F]."""
    from being.data.cameras import euler_to_rotation
    from being.face.canonical_mesh import canonical_mesh

    vertices = load_or_skip(canonical_mesh)[0].astype(np.float64) / 10
    lower = np.clip(-vertices[:, 1] - 0.42, 0, 0.1)[:, None] * 10
    rotation = euler_to_rotation(np.array([0.0, turn, 0.0]))
    points = np.zeros((len(jaws), 478, 3))
    for k, jaw in enumerate(jaws):
        placed = (vertices + jaw * lower * [0, -0.12, -0.02]) @ rotation.T
        scale = SIDE * 0.25 * -7.0 / distance
        points[k, :468] = placed * [scale, -scale, -scale] + SIDE / 2
    return points


def test_an_opening_mouth_changes_what_opens() -> None:
    jaws = np.linspace(0, 1, 9)
    lengths = mouth_lengths(landmarks(jaws))
    assert lengths.shape == (9, LENGTHS)
    for name in ("lip_opening", "opening_area", "lower_lip", "jaw_open"):
        column = lengths[:, MOUTH_CHANNELS.index(name)]
        assert (np.diff(column) > 0).all(), name
    width = lengths[:, MOUTH_CHANNELS.index("lip_width")]
    assert np.ptp(width) < np.ptp(lengths[:, 0]) / 2  # the corners move a little with the jaw


@pytest.mark.parametrize(("turn", "distance"), [(0.4, -7.0), (-0.3, -9.0), (0.0, -5.0)])
def test_the_code_does_not_depend_on_pose_and_distance(turn: float, distance: float) -> None:
    jaws = np.array([0.0, 0.3, 0.8])
    straight = mouth_lengths(landmarks(jaws))
    turned = mouth_lengths(landmarks(jaws, turn, distance))
    np.testing.assert_allclose(turned, straight, atol=0.12)


def test_units_are_the_persons_own_range() -> None:
    rng = np.random.default_rng(0)
    openings = np.concatenate([np.zeros(60), rng.random(200)])
    measures = openings[:, None] * np.linspace(0.5, 3, len(MOUTH_CHANNELS)) + 2
    found = np.ones(len(measures), bool)
    found[7] = False
    measures[7] = np.nan
    units = MouthUnits.of(measures, found)
    code = units.code(measures[found])
    assert abs(np.median(code[openings[found] == 0])) < 0.05
    np.testing.assert_allclose(np.ptp(np.percentile(code, (2, 98), axis=0), axis=0), 1, atol=1e-3)


def test_a_channel_that_hardly_moves_is_not_amplified() -> None:
    measures = np.ones((100, len(MOUTH_CHANNELS))) + 1e-4 * np.arange(100)[:, None]
    code = MouthUnits.of(measures, np.ones(100, bool)).code(measures)
    assert np.abs(code).max() < 0.2


def test_units_go_through_json_and_refuse_others() -> None:
    measures = np.random.default_rng(1).random((50, len(MOUTH_CHANNELS)))
    units = MouthUnits.of(measures, np.ones(50, bool))
    again = MouthUnits.from_dict(json.loads(json.dumps(units.to_dict())))
    np.testing.assert_array_equal(again.span, units.span)
    for broken in (
        {},
        {**units.to_dict(), "names": ["a"]},
        {**units.to_dict(), "span": [0.0] * len(MOUTH_CHANNELS)},
        {**units.to_dict(), "neutral": ["x"] * len(MOUTH_CHANNELS)},
        {**units.to_dict(), "most": [1.0]},
    ):
        with pytest.raises(ValueError):
            MouthUnits.from_dict(broken)
