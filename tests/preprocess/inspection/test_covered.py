"""Something over the mouth or the eyes: named, with its times, and nothing found where none is."""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import pytest
from needs import load_or_skip
from sampled_faces import synthetic_face_samples

from being import media
from being.audio.phonemes import analyse_speech
from being.face.landmarks import FaceLandmarker
from being.face.topology import EYE_LEFT, EYE_OUTER_LEFT, EYE_OUTER_RIGHT, EYE_RIGHT, OUTER_LIPS
from being.preprocess.inspection.covered import Covered, check_covered, find_covered
from being.preprocess.inspection.face_patch import PATCH, PLACES, face_patch
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.learnability import check_learnability
from being.preprocess.inspection.measurements import SampledFrame
from being.preprocess.inspection.sync import COVERED_FIX, SYNC_CHECK
from being.sample import sample_clip

FRAMES = 24
GREY, BLACK = (30, 30, 30), (16, 16, 20)
Faces = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Frames of the built-in sample, over 19 s, with their landmarks."""
    landmarker = load_or_skip(lambda: FaceLandmarker(workers=1))
    frames = islice(media.read_frames(sample_clip()), 0, 20 * FRAMES, 20)
    return [(frame, landmarker.detect(frame).points[0]) for frame in frames]


def sampled(faces: Faces) -> list[SampledFrame]:
    return [
        SampledFrame(
            i, points, np.zeros(52), 1, None, 1.0, np.zeros(3), None, face_patch(frame, points)
        )
        for i, (frame, points) in enumerate(faces)
    ]


def skin_of(faces: Faces) -> tuple[int, int, int]:
    """The colour of the first face's cheeks, of which a hand is."""
    patch = face_patch(*faces[0])
    assert patch is not None
    red, green, blue = np.median(patch[30:42, 10:20].reshape(-1, 3), 0).astype(int).tolist()
    return red, green, blue


def painted(
    faces: Faces, part: np.ndarray, colour: tuple[int, int, int], which: range, grow: float = 0.5
) -> Faces:
    """The faces with a box over the landmarks `part` in the frames `which`, larger by `grow`."""
    result = []
    for i, (frame, points) in enumerate(faces):
        frame = frame.copy()
        if i in which:
            low, high = points[part, :2].min(0), points[part, :2].max(0)
            margin = grow * (high - low).max() / 2
            corners = (low - margin).astype(int).tolist(), (high + margin).astype(int).tolist()
            cv2.rectangle(frame, *corners, colour, -1)
        result.append((frame, points))
    return result


def test_eyes_and_nose_lie_in_place_at_any_size(faces: Faces) -> None:
    frame, points = faces[0]
    small = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    one, other = face_patch(frame, points), face_patch(small, (points + 0.5) / 2 - 0.5)
    assert one is not None and other is not None and one.shape == (PATCH, PATCH, 3)
    assert np.abs(one.astype(int) - other).mean() < 6
    assert face_patch(frame, np.full_like(points, np.nan)) is None
    eyes = points[[EYE_OUTER_RIGHT, EYE_OUTER_LEFT], :2]
    marked = frame.copy()
    for x, y in eyes.round().astype(int):
        cv2.circle(marked, (int(x), int(y)), 8, (0, 255, 0), -1)
    patch = face_patch(marked, points)
    for x, y in PLACES[:2].astype(int):
        assert patch is not None and patch[y, x, 1] > 150 > patch[y, x, 0]


def test_nothing_is_found_where_mouth_and_eyes_are_seen(faces: Faces) -> None:
    covered = find_covered(sampled(faces))
    assert not covered.mouth and not covered.eyes
    assert check_covered(covered, ()).level == "ok"
    assert find_covered([]) == Covered()


def test_a_microphone_before_the_mouth_is_named_and_not_cut(faces: Faces) -> None:
    covered = find_covered(sampled(painted(faces, OUTER_LIPS, GREY, range(FRAMES))))
    assert covered.mouth_share == 1 and not covered.to_cut
    finding = check_covered(covered, ())
    assert finding.level == "warning" and "mouth in 100%" in finding.what
    assert finding.fix == COVERED_FIX


def test_a_hidden_mouth_counts_in_the_forecast_and_is_not_judged() -> None:
    audio = np.zeros(3 * 16_000, np.float32)
    hidden = Finding(SYNC_CHECK, "warning", "it cannot be measured", (), COVERED_FIX)
    samples = synthetic_face_samples(np.arange(75) / 25, np.zeros(75))
    found = {
        finding.check: finding
        for finding in check_learnability(
            load_or_skip(lambda: analyse_speech(audio)), samples, 75, [(0, 75)], hidden
        )
    }
    assert "mouth" not in found
    assert "hides the mouth" in found["forecast"].what and COVERED_FIX in found["forecast"].fix


@pytest.mark.parametrize("thing", ["hand", "microphone"])
def test_what_passes_before_the_mouth_is_cut(faces: Faces, thing: str) -> None:
    colour = skin_of(faces) if thing == "hand" else GREY
    covered = find_covered(sampled(painted(faces, OUTER_LIPS, colour, range(5, 10), 0.8)))
    assert covered.mouth == covered.to_cut == frozenset(range(5, 10)) and not covered.eyes
    finding = check_covered(covered, ((4.0, 8.0),))
    assert "the mouth for 4.0 s" in finding.what and "cut away" in finding.fix


def test_a_hand_that_passes_before_an_eye_is_cut(faces: Faces) -> None:
    covered = find_covered(sampled(painted(faces, EYE_RIGHT, skin_of(faces), range(5, 10), 1.6)))
    assert covered.eyes == covered.to_cut == frozenset(range(5, 10)) and not covered.mouth


def test_dark_glasses_are_named(faces: Faces) -> None:
    glasses = painted(faces, EYE_RIGHT, BLACK, range(FRAMES), 1.0)
    covered = find_covered(sampled(painted(glasses, EYE_LEFT, BLACK, range(FRAMES), 1.0)))
    assert covered.eyes_share == 1 and not covered.mouth and not covered.to_cut
    finding = check_covered(covered, ())
    assert "dark glasses" in finding.what and "without dark glasses" in finding.fix
