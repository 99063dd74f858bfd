"""The measured response of a face, on faces whose response is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from being.data.mouth import MouthCode
from being.face.mouth_code import LENGTHS, MOUTH_CHANNELS, MouthUnits
from being.train.face_response import CLOSED_PROBES, Reading, response_of

FRAMES = np.arange(300)
OPENING, UPPER, WIDTH = (
    MOUTH_CHANNELS.index(name) for name in ("lip_opening", "upper_lip", "lip_width")
)


@pytest.fixture
def code() -> MouthCode:
    """A clip of a mouth that opens and closes, all channels in step with the opening."""
    rng = np.random.default_rng(0)
    opening = 0.5 + 0.5 * np.sin(np.arange(len(FRAMES)) / 3)
    noise = 0.02 * rng.normal(size=(len(FRAMES), len(MOUTH_CHANNELS)))
    measures = opening[:, None] + noise
    found = np.ones(len(FRAMES), bool)
    units = MouthUnits.of(measures, found)
    return MouthCode(units.code(measures), found, units)


def face(change: Callable[[np.ndarray], np.ndarray]) -> Reading:
    """A face that shows `change` of its codes."""
    return lambda poses, codes: change(codes[:, :LENGTHS].astype(np.float64))


def test_a_face_that_moves_too_little_is_told_more(code: MouthCode) -> None:
    shares = np.full(LENGTHS, 0.9)
    shares[WIDTH] = shares[WIDTH + 1] = 0.7
    response = response_of(face(lambda codes: codes * shares), code, FRAMES)
    assert response is not None
    assert response.opening == pytest.approx(0.9, abs=0.02)
    assert response.width == pytest.approx(0.7, abs=0.02)
    assert response.share[OPENING] == pytest.approx(0.9, abs=0.02)
    assert response.share[MOUTH_CHANNELS.index("teeth")] == 1
    # This face closes where it is told to: nothing is pressed.
    assert response.closes == CLOSED_PROBES
    assert response.closed[OPENING] == pytest.approx(0, abs=0.15)
    assert response.closing[OPENING] == pytest.approx(0.9) and response.closing[WIDTH] == 0


def test_lips_that_stay_apart_are_pressed(code: MouthCode) -> None:
    def reluctant(codes: np.ndarray) -> np.ndarray:
        shown = codes.copy()
        shown[:, OPENING] += 0.4
        return shown

    response = response_of(face(reluctant), code, FRAMES)
    assert response is not None
    assert response.closes == CLOSED_PROBES
    assert -0.6 < response.closed[OPENING] < -0.2  # the gentlest press that closes them


def test_the_upper_lip_helps_where_that_closes_the_mouth(code: MouthCode) -> None:
    def needs_the_upper_lip(codes: np.ndarray) -> np.ndarray:
        shown = codes.copy()
        shown[:, OPENING] = np.where(codes[:, UPPER] > codes[:, OPENING] + 0.3, 0.0, 0.5)
        return shown

    response = response_of(face(needs_the_upper_lip), code, FRAMES)
    assert response is not None and response.closes == CLOSED_PROBES
    assert response.closed[UPPER] > response.closed[OPENING] + 0.3


def test_the_whole_mouth_closes_where_the_lips_alone_do_not(code: MouthCode) -> None:
    closed_width = code.values[code.values[:, OPENING] < 0.1, WIDTH].mean()

    def knows_one_width(codes: np.ndarray) -> np.ndarray:
        shown = codes.copy()
        shown[:, OPENING] = np.where(np.abs(codes[:, WIDTH] - closed_width) < 0.1, 0.0, 0.5)
        return shown

    response = response_of(face(knows_one_width), code, FRAMES)
    assert response is not None and response.closes == CLOSED_PROBES
    assert response.closing[WIDTH] == 1


def test_no_face_no_response(code: MouthCode) -> None:
    calls = []

    def blank(poses: np.ndarray, codes: np.ndarray) -> np.ndarray:
        calls.append(len(poses))
        return np.full((len(poses), LENGTHS), np.nan)

    assert response_of(blank, code, FRAMES) is None
    assert sum(calls) < 20  # a few frames tell
