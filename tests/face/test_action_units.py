"""Action units of faces with known expression, and of the built-in sample."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from needs import load_or_skip

from being.data.cameras import euler_to_rotation
from being.data.dataset import Dataset
from being.errors import InputRejected
from being.face.action_units import (
    AU45_CLOSED,
    AU_NAMES,
    BROW_INNER,
    BROW_OUTER,
    LIP_GAPS,
    UPPER_LID,
    action_units,
    head_frame,
    write_action_units,
)
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import BLENDSHAPES, FaceLandmarker, Landmarks

FRAMES = 200
PX_PER_CM = 11.0
LID_DROP = 0.62  # cm that the upper lids fall in a blink: a little less than the eye is open


def faces(
    brow: np.ndarray | float = 0.0,
    lid: np.ndarray | float = 0.0,
    gap: np.ndarray | float = 0.0,
    turn: float = 0.3,
    frames: int = FRAMES,
    noise: float = 0.0,
) -> Landmarks:
    """Landmarks of the canonical face that turns.

    brow, lid, gap: cm by which brows are raised, upper lids lowered and lips parted, one number or
    [F]. turn: radians. noise: px.
    """
    mesh = load_or_skip(canonical_mesh)[0].astype(np.float64)
    head = np.tile(np.concatenate([mesh, np.tile(mesh[4], (10, 1))]), (frames, 1, 1))
    head[:, [*BROW_INNER, *BROW_OUTER], 1] += np.broadcast_to(brow, frames)[:, None]
    head[:, list(UPPER_LID), 1] -= np.broadcast_to(lid, frames)[:, None]
    head[:, [below for _, below in LIP_GAPS], 1] -= np.broadcast_to(gap, frames)[:, None]
    time = np.arange(frames) / 25
    angles = turn * np.stack(
        [0.3 * np.sin(3 * time), np.sin(1.3 * time), 0.4 * np.cos(2 * time)], 1
    )
    posed = head @ np.swapaxes(euler_to_rotation(angles), -1, -2)
    points = posed * [PX_PER_CM, -PX_PER_CM, -PX_PER_CM] + [256, 256, 0]
    points += noise * np.random.default_rng(0).standard_normal(points.shape)
    return Landmarks(
        points.astype(np.float32),
        np.zeros((frames, BLENDSHAPES), np.float32),
        np.ones(frames, np.float32),
    )


def pulse(at: int, half: int = 4, frames: int = FRAMES) -> np.ndarray:
    """1 at `at`, falling to 0 within `half` frames."""
    return np.clip(1 - np.abs(np.arange(frames) - at) / half, 0, 1)


def unit(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, AU_NAMES.index(name)]


def onsets(closed: np.ndarray) -> list[int]:
    return (np.flatnonzero(closed[1:] & ~closed[:-1]) + 1).tolist()


def test_the_head_frame_has_no_pose() -> None:
    head, rotation = head_frame(faces(turn=0.5).points)
    mesh = canonical_mesh()[0]
    assert np.abs(head[:, :468] - mesh).max() < 1e-3
    assert np.abs(np.linalg.det(rotation) - 1).max() < 1e-9


def test_raised_brows_are_seen_in_their_frames_however_the_head_turns() -> None:
    raised = 0.5 * pulse(100, 12)
    for turn in (0.0, 0.35):
        values = action_units(faces(brow=raised, turn=turn))
        for name in ("AU01", "AU02"):
            course = unit(values, name)
            assert abs(int(course.argmax()) - 100) <= 1 and np.corrcoef(course, raised)[0, 1] > 0.97
            assert course[:80].max() < 0.15 * course.max()
        assert unit(values, "AU45").max() < 0.1 and unit(values, "AU25").max() < 0.1


def test_closed_lids_are_a_blink_of_two_without_delay_and_no_brow() -> None:
    lid = LID_DROP * np.maximum(pulse(60, 3), pulse(140, 3))
    values = action_units(faces(lid=lid, noise=0.15))
    closed = unit(values, "AU45") > AU45_CLOSED / 2
    assert onsets(closed) == onsets(lid > LID_DROP / 2)
    assert (
        unit(values, "AU45").max() > 0.9 * AU45_CLOSED and unit(values, "AU45")[80:120].max() < 0.2
    )
    assert unit(values, "AU05").max() < 0.5 and unit(values, "AU01").max() < 0.3


def test_half_a_blink_is_not_a_whole_one() -> None:
    values = unit(action_units(faces(lid=0.5 * LID_DROP * pulse(60))), "AU45")
    assert 0.4 * AU45_CLOSED < values.max() < 0.8 * AU45_CLOSED


def test_parted_lips_follow_the_gap() -> None:
    gap = 0.8 * np.clip(np.sin(np.arange(FRAMES) * 0.5), 0, 1)
    course = unit(action_units(faces(gap=gap)), "AU25")
    assert np.corrcoef(course, gap)[0, 1] > 0.98
    assert course.max() == pytest.approx(5 * 0.8 / 1.6, rel=0.1)


def test_nothing_is_smoothed_or_interpolated_across_a_cut() -> None:
    gap = np.where(np.arange(FRAMES) < 100, 0.0, 0.8)
    whole, cut = faces(gap=gap), [(0, 100), (100, FRAMES)]
    course = unit(action_units(whole, cut), "AU25")
    assert course[:100].max() < 0.02 and course[100:].min() > 2.4
    assert 0.02 < unit(action_units(whole), "AU25")[98:102].std() < 1.5
    lost = whole.confidence.copy()
    lost[90:100] = 0
    points = np.where(lost[:, None, None] > 0, whole.points, np.nan)
    bridged = unit(action_units(Landmarks(points, whole.blendshapes, lost), cut), "AU25")
    assert np.isfinite(bridged).all() and bridged[90:100].max() < 0.02
    nobody = np.where(np.arange(FRAMES) < 100, 0, 1).astype(np.float32)
    values = action_units(
        Landmarks(
            np.where(nobody[:, None, None] > 0, whole.points, np.nan), whole.blendshapes, nobody
        ),
        cut,
    )
    assert not values[:100].any() and np.isfinite(values).all()


def test_clips_too_short_to_smooth_and_without_a_face_are_accepted() -> None:
    assert action_units(faces(frames=3)).shape == (3, len(AU_NAMES))
    nothing = Landmarks(
        np.full((4, 478, 3), np.nan, np.float32),
        np.zeros((4, BLENDSHAPES), np.float32),
        np.zeros(4, np.float32),
    )
    assert not action_units(nothing).any()


def test_the_file_has_the_layout_that_the_family_reads(tmp_path: Path) -> None:
    write_action_units(tmp_path / "au.csv", faces(frames=60))
    header, first, *rest = (tmp_path / "au.csv").read_text().splitlines()
    assert header.startswith("frame, timestamp, confidence, success, AU01_r") and header.endswith(
        ", AU45_r"
    )
    assert {f" AU{n:02d}_r" for n in (1, 2, 4, 5, 6, 7, 12, 14, 15, 17, 20, 23, 25, 26, 45)} <= set(
        header.split(",")
    )
    assert first.startswith("1, 0.000, 1.000, 1,") and len(rest) == 59


def test_the_dataset_gives_the_units_by_name(scene: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(scene, tmp_path / "copy")
    frames = Dataset.open(copy).frames
    landmarks = faces(lid=LID_DROP * pulse(20, 3, frames), frames=frames)
    write_action_units(copy / "au.csv", landmarks)
    names, values = Dataset.open(copy).action_units()
    assert tuple(names) == AU_NAMES and values.dtype == np.float32
    assert np.abs(values - action_units(landmarks)).max() < 1e-4
    assert Dataset.open(copy).blink[:, 0] == pytest.approx(values[:, names.index("AU45")] / 2)
    lines = (copy / "au.csv").read_text().splitlines()
    for spoilt in (
        lines[:-3],
        [*lines[:5], lines[5].replace("0.", "x."), *lines[6:]],
        ["frame, AU45_r"],
        [],
    ):
        (copy / "au.csv").write_text("\n".join(spoilt))
        with pytest.raises(InputRejected, match="au.csv"):
            Dataset.open(copy).action_units()


@pytest.fixture(scope="module")
def sample() -> tuple[Landmarks, dict[str, np.ndarray]]:
    """Landmarks of the sample's first 14 s, and its true expression."""
    from itertools import islice

    from being.media import read_frames
    from being.sample import sample_clip, sample_truth

    truth = sample_truth()
    landmarks = load_or_skip(FaceLandmarker).track(list(islice(read_frames(sample_clip()), 350)))
    true = dict(
        zip(truth["unit_names"].tolist(), truth["unit_weights"][:350].astype(float).T, strict=True)
    )
    return landmarks, {**true, "lip_aperture": truth["lip_aperture"][:350]}


def test_blinks_of_the_sample_are_found_in_the_true_frames(
    sample: tuple[Landmarks, dict[str, np.ndarray]],
) -> None:
    landmarks, truth = sample
    course = unit(action_units(landmarks), "AU45") / AU45_CLOSED
    seen, true = onsets(course > 0.5), onsets(truth["eyeBlinkLeft"] > 0.5)
    assert len(seen) == len(true) and np.abs(np.subtract(seen, true)).max() <= 1, (seen, true)
    assert np.corrcoef(course, truth["eyeBlinkLeft"])[0, 1] > 0.95


def test_lips_and_jaw_of_the_sample_are_measured_without_lag(
    sample: tuple[Landmarks, dict[str, np.ndarray]],
) -> None:
    landmarks, truth = sample
    values = action_units(landmarks)
    for name, true, least in (
        ("AU25", "lip_aperture", 0.9),
        ("AU26", "jawOpen", 0.85),
        ("AU23", "mouthPressLeft", 0.8),
    ):
        course = unit(values, name)
        lags = [
            np.corrcoef(np.roll(course, -lag)[5:-5], truth[true][5:-5])[0, 1] for lag in (-1, 0, 1)
        ]
        assert int(np.argmax(lags)) == 1 and lags[1] > least, (name, lags)
