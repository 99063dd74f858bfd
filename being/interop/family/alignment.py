"""Which camera, sound window and label belong to which picture of a family directory.

Pictures go by the number in their name, tracker rows by their place (trackers leave out frames
without .lms, which shifts all later rows), transforms by img_id, sound by aud_id. Where these
disagree, the matrices of the transforms (they repeat the tracker's cameras) and the motion of the
face tell what belongs together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from being.data.cameras import camera_to_world_json, euler_to_rotation, rotation_to_euler
from being.errors import InputRejected
from being.interop.family.layout import Folder, Poses, Transforms

LEAST_FRAMES = 22  # as training needs
SHIFTS = 5  # frames to either side that are tried
SAME_CAMERA = (
    2e-3  # largest difference of a matrix entry; neighbouring frames differ by 0.01 and more
)
AGREE = 0.95  # share of the frames whose cameras must agree
CLEARLY = 0.7  # motion unexplained at the better shift, over that at the nominal one
LEAST_MOTION = 0.15  # px a frame: stiller heads tell nothing


@dataclass
class Alignment:
    """Frames of the dataset to be, and what belongs to each; notes for people."""

    numbers: np.ndarray  # int64 [F], number of each frame's picture
    euler: np.ndarray  # float32 [F, 3]; held or interpolated where `posed` is False
    trans: np.ndarray  # float32 [F, 3]
    focal: float  # px
    posed: np.ndarray  # bool [F]
    audio: np.ndarray  # int64 [F], row of the sound features; frame of the sound at 25 fps
    units: np.ndarray  # int64 [F], row of au.csv
    rows: np.ndarray  # int64 [F], row of the tracker's file, -1 where there is none
    source: str  # the file the cameras come from
    notes: list[str] = field(default_factory=list)


def align(folder: Folder) -> Alignment:
    """What belongs to what. Raises InputRejected when no rule fits."""
    notes: list[str] = []
    numbers = np.array(list(folder.pictures), np.int64)
    first = int(numbers[0])
    base = 1 if first == 1 else 0
    if base:
        notes.append("pictures count from 1: frame 0 is picture 1")
    numbers = _longest_run(numbers, notes)
    transforms, poses = folder.transforms, folder.adjusted or folder.track
    offset = _id_offset(folder, transforms, first) if transforms is not None else 0
    if offset:
        notes.append(
            f"img_id of the transforms is {-offset:+d} against the picture numbers: put right"
        )
    sound = -base
    if transforms is not None:
        lag = int(np.median(transforms.audio - transforms.ids))
        if (transforms.audio - transforms.ids != lag).mean() > 1 - AGREE:
            raise InputRejected(
                f"{transforms.files[0]}: aud_id does not follow img_id",
                "expected the two to differ by one number throughout",
                "Write the transforms again",
            )
        if lag:
            notes.append(f"aud_id is {lag:+d} frames against img_id: kept")
        sound += lag
    rows = np.full(len(numbers), -1, np.int64)
    if poses is not None:
        rows = _tracker_rows(folder, poses, numbers, base, offset, notes)
    euler, trans, posed, source = _cameras(folder, poses, transforms, numbers, rows, offset, notes)
    focal = (
        transforms.focal if transforms is not None else poses.focal if poses is not None else 0.0
    )
    if poses is not None and transforms is not None and abs(poses.focal / focal - 1) > 1e-4:
        notes.append(
            f"focal length {focal:g} px from the transforms, {poses.file.name} says {poses.focal:g}"
        )
    found = np.flatnonzero(posed)
    if len(found) < LEAST_FRAMES:
        raise InputRejected(
            f"{folder.path} has cameras for {len(found)} of {len(numbers)} pictures",
            f"at least {LEAST_FRAMES} are needed",
            "Track the whole clip",
        )
    kept = slice(int(found[0]), int(found[-1]) + 1)
    if kept.stop - kept.start < len(numbers):
        notes.append(
            f"{len(numbers) - (kept.stop - kept.start)} pictures before the first or after the last camera "
            "are left out"
        )
    gaps = int((~posed[kept]).sum())
    if gaps:
        notes.append(f"{gaps} frames have no camera: interpolated, not trained on")
    return Alignment(
        numbers[kept],
        euler[kept],
        trans[kept],
        focal,
        posed[kept],
        numbers[kept] + sound,
        numbers[kept] - base,
        rows[kept],
        source,
        notes,
    )


def shift_of(
    points: np.ndarray, euler: np.ndarray, trans: np.ndarray, focal: float, anchor: np.ndarray
) -> int:
    """By how many rows the cameras lag the pictures (0 unless the face's motion clearly says so).

    points: float [F, P, 2] px, NaN where there is no face; euler, trans [F, 3] of the same frames;
    anchor: float [P, 3], the points in head space. Row i + shift is what fits picture i: the motion
    from frame to frame of the projected anchor is compared with that of the points.
    """
    assert points.shape[1:] == (len(anchor), 2), (points.shape, anchor.shape)
    camera = np.einsum("fij,pj->fpi", euler_to_rotation(euler), anchor) + trans[:, None]
    projected = focal * camera[..., :2] / -camera[..., 2:] * np.array([1.0, -1.0])
    seen, model = np.diff(points.mean(1), axis=0), np.diff(projected.mean(1), axis=0)
    if not np.nanmedian(np.linalg.norm(seen, axis=1)) > LEAST_MOTION:
        return 0

    def unexplained(shift: int) -> float:
        ours, theirs = seen[SHIFTS:-SHIFTS], model[SHIFTS + shift : len(model) - SHIFTS + shift]
        return float(np.nanmean(np.linalg.norm(ours - theirs, axis=1)))

    if len(seen) < 4 * SHIFTS:
        return 0
    left = {shift: unexplained(shift) for shift in range(-SHIFTS, SHIFTS + 1)}
    best = min(left, key=lambda shift: left[shift])
    return best if left[best] < CLEARLY * left[0] else 0


def camera_to_pose(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tracker angles and shifts float64 [N, 3] of camera-to-world matrices [N, 4, 4] whose shift is
    in tenths.
    """
    rotation = np.swapaxes(matrices[:, :3, :3], 1, 2)
    return rotation_to_euler(rotation), -10 * np.einsum("nij,nj->ni", rotation, matrices[:, :3, 3])


def moved(alignment: Alignment, shift: int) -> Alignment:
    """The same with every camera taken from `shift` rows further on; the frames that lose theirs
    are cut off.
    """
    count = len(alignment.numbers)
    stay = np.arange(max(0, -shift), min(count, count - shift))
    rows = stay + shift
    return Alignment(
        alignment.numbers[stay],
        alignment.euler[rows],
        alignment.trans[rows],
        alignment.focal,
        alignment.posed[rows],
        alignment.audio[stay],
        alignment.units[stay],
        alignment.rows[rows],
        alignment.source,
        [
            *alignment.notes,
            f"cameras are {shift:+d} frames against the pictures, as "
            "the face's motion shows: put right",
        ],
    )


# --- rules
# ----------------------------------------------------------------------------------------------------------


def _longest_run(numbers: np.ndarray, notes: list[str]) -> np.ndarray:
    """The longest stretch of pictures without a gap in their numbers."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    longest = max(runs, key=len)
    if len(runs) > 1:
        notes.append(
            f"pictures are missing, the first after {runs[0][-1]}: the longest run is used, "
            f"{longest[0]} to {longest[-1]} of {numbers[0]} to {numbers[-1]}"
        )
    return longest


def _id_offset(folder: Folder, transforms: Transforms, first: int) -> int:
    """What to add to an img_id to get a picture's number."""
    numbers, ids = np.array(list(folder.pictures)), transforms.ids
    candidates = [offset for offset in (0, first - int(ids.min())) if abs(offset) <= SHIFTS]
    have = [float(np.isin(ids + offset, numbers).mean()) for offset in candidates]
    if max(have) >= AGREE:
        return candidates[int(np.argmax(have))]
    absent = ids[~np.isin(ids, numbers)]
    raise InputRejected(
        f"{transforms.files[0]} and its siblings name {len(absent)} frames without a picture",
        f"the first is img_id {absent[0]}, {folder.place} holds {numbers[0]} to {numbers[-1]}",
        "Put the pictures back, or write the transforms again",
    )


def _tracker_rows(
    folder: Folder, poses: Poses, numbers: np.ndarray, base: int, offset: int, notes: list[str]
) -> np.ndarray:
    """Row of the tracker's file for each picture, -1 where there is none."""
    count, everything = len(poses.euler), np.array(list(folder.pictures), np.int64)
    with_landmarks = np.array([n for n in folder.landmarks if n in folder.pictures], np.int64)
    by_number = np.where((numbers - base >= 0) & (numbers - base < count), numbers - base, -1)
    rules = {
        "number": by_number,
        "order": np.where(numbers - everything[0] < count, numbers - everything[0], -1),
    }
    if len(with_landmarks) == count != len(everything):
        place = {int(n): k for k, n in enumerate(with_landmarks)}
        rules = {"landmarks": np.array([place.get(int(n), -1) for n in numbers], np.int64), **rules}
    if folder.transforms is None:
        name, rows = next(iter(rules.items()))
        if name == "number" and abs(count - (int(everything[-1]) + 1 - base)) > max(
            SHIFTS, 0.05 * count
        ):
            raise InputRejected(
                f"{poses.file} has {count} frames",
                f"{folder.place} has {len(everything)} pictures, "
                f"{everything[0]} to {everything[-1]}",
                "Put the pictures back that were tracked, or "
                "add the transforms_train.json that says which is which",
            )
    else:
        name, rows = _rows_by_matrix(folder.transforms, poses, numbers, rules, offset)
    if name == "landmarks":
        notes.append(
            f"{poses.file.name} leaves out the {len(everything) - count} frames without .lms: rows put right"
        )
    elif name.startswith("shift"):
        notes.append(
            f"rows of {poses.file.name} are {name[6:]} against the pictures: put right by the transforms"
        )
    return rows


def _rows_by_matrix(
    transforms: Transforms,
    poses: Poses,
    numbers: np.ndarray,
    rules: dict[str, np.ndarray],
    offset: int,
) -> tuple[str, np.ndarray]:
    """The rule whose cameras agree with the transforms' matrices; by number where none does."""
    count, by_number = len(poses.euler), rules["number"]
    shifted = {
        f"shift {s:+d}": np.where(
            (by_number >= 0) & (by_number + s >= 0) & (by_number + s < count), by_number + s, -1
        )
        for s in range(-SHIFTS, SHIFTS + 1)
        if s
    }
    matrices = _tracker_matrices(poses)
    here = {int(n): i for i, n in enumerate(numbers)}
    listed = np.array([here.get(int(n), -1) for n in transforms.ids + offset])
    best = ("number", by_number, 0.0)
    for name, rows in {**rules, **shifted}.items():
        of_entry = np.where(listed >= 0, rows[listed], -1)
        chosen = of_entry >= 0
        if not chosen.any():
            continue
        error = np.abs(matrices[of_entry[chosen]] - transforms.matrices[chosen]).max((1, 2))
        share = float((error < SAME_CAMERA).sum() / len(listed))
        if share > best[2] + 1e-9:
            best = (name, rows, share)
    return best[0], best[1]


def _tracker_matrices(poses: Poses) -> np.ndarray:
    """transform_matrix of every row [N, 4, 4]; SyncTalk's adjusted shift is in tenths already."""
    return camera_to_world_json(poses.euler, poses.trans * _unit(poses))


def _unit(poses: Poses) -> float:
    return 10.0 if np.median(poses.trans[:, 2]) > -2.0 else 1.0


def _cameras(
    folder: Folder,
    poses: Poses | None,
    transforms: Transforms | None,
    numbers: np.ndarray,
    rows: np.ndarray,
    offset: int,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Angles, shifts, which are real, and the file they come from: the transforms where the tracker
    differs.
    """
    if poses is not None:
        posed, source = rows >= 0, poses.file.name
        euler, trans = poses.euler[rows], poses.trans[rows] * np.float32(_unit(poses))
        matrices = camera_to_world_json(euler, trans)
    if transforms is not None:
        place = {int(n): k for k, n in enumerate(transforms.ids + offset)}
        entry = np.array([place.get(int(n), -1) for n in numbers])
        listed = entry >= 0
        agrees = poses is not None and bool(
            (np.abs(matrices - transforms.matrices[entry]).max((1, 2)) < SAME_CAMERA)[
                listed & posed
            ].mean()
            >= AGREE
            if (listed & posed).any()
            else False
        )
        if not agrees:
            if poses is not None:
                notes.append(
                    f"the transforms' cameras are not those of {poses.file.name}: the transforms' are used, "
                    "as every system but GaussianTalker does"
                )
            angles, shifts = camera_to_pose(transforms.matrices)
            euler, trans = angles[entry].astype(np.float32), shifts[entry].astype(np.float32)
            posed, source = listed, transforms.files[0].name
    if not (trans[posed][:, 2] < 0).all():
        raise InputRejected(
            f"{source} of {folder.path} puts the head behind the camera",
            "expected a camera that looks along -z",
            "Run the head tracking again",
        )
    return *_bridged(euler, trans, posed), posed, source


def _bridged(
    euler: np.ndarray, trans: np.ndarray, posed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames without a camera get one between their neighbours'; the others stay as they are to the
    bit.
    """
    if posed.all() or not posed.any():
        return euler, trans
    at, known = np.flatnonzero(~posed), np.flatnonzero(posed)
    euler, trans = euler.copy(), trans.copy()
    for k in range(3):
        euler[at, k] = np.interp(at, known, np.unwrap(euler[known, k]))
        trans[at, k] = np.interp(at, known, trans[known, k])
    return euler, trans
