"""Action units against faces of known expression, the built-in sample's truth, and OpenFace's
tables.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from needs import had

from being.data.cameras import euler_to_rotation
from being.data.dataset import Dataset
from being.errors import InputRejected
from being.face.action_units import (
    BLINK_CLOSED,
    BROW_INNER,
    BROW_OUTER,
    LIP_GAPS,
    NAMES,
    UPPER_LID,
    action_units,
    head_frame,
    write_au,
)
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import BLENDSHAPES, FaceLandmarker, Landmarks
from being.face.openface import read_openface, write_openface

FRAMES = 200
PX_PER_CM = 11.0
LID_DROP = (
    0.62  # cm by which the drawn upper lids fall in a blink: a little less than the eye is open
)


def faces(
    brow: np.ndarray | float = 0.0,
    lid: np.ndarray | float = 0.0,
    gap: np.ndarray | float = 0.0,
    turn: float = 0.3,
    frames: int = FRAMES,
    noise: float = 0.0,
) -> Landmarks:
    """Landmarks of the canonical face that turns, with brows raised, upper lids fallen and lips
    parted (cm, [F]).
    """
    mesh = had(canonical_mesh)[0].astype(np.float64)
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
    return values[:, NAMES.index(name)]


def onsets(closed: np.ndarray) -> list[int]:
    return (np.flatnonzero(closed[1:] & ~closed[:-1]) + 1).tolist()


def test_the_head_frame_knows_no_pose() -> None:
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
    closed = unit(values, "AU45") > BLINK_CLOSED / 2
    assert onsets(closed) == onsets(lid > LID_DROP / 2)
    assert (
        unit(values, "AU45").max() > 0.9 * BLINK_CLOSED and unit(values, "AU45")[80:120].max() < 0.2
    )
    assert unit(values, "AU05").max() < 0.5 and unit(values, "AU01").max() < 0.3


def test_half_a_blink_is_not_a_whole_one() -> None:
    values = unit(action_units(faces(lid=0.5 * LID_DROP * pulse(60))), "AU45")
    assert 0.4 * BLINK_CLOSED < values.max() < 0.8 * BLINK_CLOSED


def test_parted_lips_follow_the_gap() -> None:
    gap = 0.8 * np.clip(np.sin(np.arange(FRAMES) * 0.5), 0, 1)
    course = unit(action_units(faces(gap=gap)), "AU25")
    assert np.corrcoef(course, gap)[0, 1] > 0.98
    assert course.max() == pytest.approx(5 * 0.8 / 1.6, rel=0.1)


def test_nothing_is_smoothed_or_bridged_across_a_break() -> None:
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


def test_clips_too_short_to_smooth_and_without_any_face_are_taken() -> None:
    assert action_units(faces(frames=3)).shape == (3, len(NAMES))
    nothing = Landmarks(
        np.full((4, 478, 3), np.nan, np.float32),
        np.zeros((4, BLENDSHAPES), np.float32),
        np.zeros(4, np.float32),
    )
    assert not action_units(nothing).any()


def test_the_file_is_what_the_family_reads(tmp_path: Path) -> None:
    write_au(tmp_path / "au.csv", faces(frames=60))
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
    write_au(copy / "au.csv", landmarks)
    names, values = Dataset.open(copy).action_units()
    assert tuple(names) == NAMES and values.dtype == np.float32
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
    """Landmarks of the sample's first 14 s and what its face units truly were."""
    from itertools import islice

    from being.media import read_frames
    from being.sample import sample_clip, sample_truth

    truth = sample_truth()
    landmarks = had(FaceLandmarker).track(list(islice(read_frames(sample_clip()), 350)))
    true = dict(
        zip(truth["unit_names"].tolist(), truth["unit_weights"][:350].astype(float).T, strict=True)
    )
    return landmarks, {**true, "lip_aperture": truth["lip_aperture"][:350]}


def test_the_sample_blinks_when_it_truly_does(
    sample: tuple[Landmarks, dict[str, np.ndarray]],
) -> None:
    landmarks, truth = sample
    course = unit(action_units(landmarks), "AU45") / BLINK_CLOSED
    seen, true = onsets(course > 0.5), onsets(truth["eyeBlinkLeft"] > 0.5)
    assert len(seen) == len(true) and np.abs(np.subtract(seen, true)).max() <= 1, (seen, true)
    assert np.corrcoef(course, truth["eyeBlinkLeft"])[0, 1] > 0.95


def test_the_sample_s_lips_and_jaw_are_followed_without_lag(
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


def openface(
    path: Path, rows: int = 100, rate: float = 25.0, blanks: bool = True, **columns: np.ndarray
) -> Path:
    """A table as OpenFace writes it; keyword columns replace or add some. Returns path."""
    blink = 2 * pulse(round(rows * 0.4), 3, rows)
    table = {
        "frame": np.arange(1, rows + 1),
        "face_id": np.zeros(rows, int),
        "timestamp": np.arange(rows) / rate,
        "confidence": np.full(rows, 0.98),
        "success": np.ones(rows, int),
        "AU25_r": np.zeros(rows),
        "AU45_r": blink,
        "AU45_c": np.ones(rows, int),
        **columns,
    }
    kept = {name: value for name, value in table.items() if value is not None}
    lines = [("," + " " * blanks).join(kept)]
    lines += [", ".join(f"{value[i]:g}" for value in kept.values()) for i in range(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("blanks", [True, False])
def test_openface_is_taken_as_it_is(blanks: bool, tmp_path: Path) -> None:
    names, values, confidence = read_openface(
        openface(tmp_path / "au.csv", blanks=blanks), 100, 4.0
    )
    assert (
        names == ["AU25_r", "AU45_r", "AU45_c"] and values.shape == (100, 3) and values[40, 1] == 2
    )
    assert confidence == pytest.approx(0.98)
    write_openface(tmp_path / "out.csv", (names, values, confidence))
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith(", AU25_r, AU45_r, AU45_c")


def test_openface_of_a_30_frames_source_is_laid_onto_the_frames_by_time(tmp_path: Path) -> None:
    table = read_openface(openface(tmp_path / "au.csv", rows=120, rate=30.0), 100, 4.0)
    assert table[1][:, 1].argmax() == 40 and len(table[1]) == 100  # row 48 at 30/s: 1.6 s
    cut = read_openface(
        openface(tmp_path / "au.csv", rows=120, rate=30.0), 50, 4.0, times=1.0 + np.arange(50) / 25
    )
    assert cut[1][:, 1].argmax() == 15


def test_frames_that_openface_lost_are_bridged(tmp_path: Path) -> None:
    success, blink = np.ones(100, int), np.full(100, 0.5)
    success[10:15], blink[10:15] = 0, 0
    _, values, confidence = read_openface(
        openface(tmp_path / "au.csv", success=success, AU45_r=blink), 100, 4.0
    )
    assert values[:, 1] == pytest.approx(0.5) and not confidence[10:15].any() and confidence[9] > 0


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("30 rows/s", dict(rows=100, rate=30.0)),  # made from a 25 frames/s clip but stamped as 30
        ("does not belong", dict(rows=60)),
        ("no column AU45_r", dict(AU45_r=None)),
        ("several faces", dict(face_id=np.repeat([0, 1], 50))),
        ("several faces", dict(frame=np.repeat(np.arange(50), 2))),
        ("skips frames", dict(frame=np.arange(100) * 2)),
        ("not finite", dict(AU45_r=np.full(100, np.nan))),
        ("runs from", dict(AU45_r=np.full(100, 7.0))),
        ("found the face", dict(success=np.zeros(100, int))),
        ("no timestamps", dict(rows=90, timestamp=None)),
    ],
)
def test_openface_tables_that_will_not_do_are_refused(
    said: str, change: dict, tmp_path: Path
) -> None:
    path = openface(tmp_path / "au.csv", **change)
    frames = 120 if said in ("30 rows/s", "does not belong", "no timestamps") else 100
    with pytest.raises(InputRejected, match=said):
        read_openface(path, frames, frames / 25)


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ("empty", b""),
        ("no column is named", b"a,b\n1,2\n"),
        ("no rows", b"frame, AU45_r\n"),
        ("row 2 has 1 of 2", b"frame, AU45_r\n1, 0.5\n2\n"),
        ("no number", b"frame, AU45_r\n1, much\n"),
        ("cannot be read", b"\xff\xfe\x00 not text"),
        ("no column is named", b"\x00\x01\x02\n"),
    ],
)
def test_files_that_are_no_tables_are_refused(said: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "au.csv").write_bytes(content)
    with pytest.raises(InputRejected, match=said):
        read_openface(tmp_path / "au.csv", 100, 4.0)
    with pytest.raises(InputRejected):
        read_openface(tmp_path, 100, 4.0)
    with pytest.raises(InputRejected):
        read_openface(tmp_path / "missing.csv", 100, 4.0)
