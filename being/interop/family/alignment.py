"""Assigns a camera, an audio row and action units to each image of an imported directory.

Images are counted by the number in their name, tracker rows by their order, transforms by img_id,
audio by aud_id. A tracker leaves out frames without .lms, which shifts all its later rows. Where
the counts disagree, two facts decide: the matrices of the transforms, which repeat the tracker's
cameras, and the motion of the face.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from being.data.cameras import camera_to_world_json, euler_to_rotation, rotation_to_euler
from being.errors import InputRejected
from being.interop.family.camera_files import (
    TRACK_AGAIN,
    TRANSFORMS_AGAIN,
    TrackerPoses,
    Transforms,
)
from being.interop.family.layout import FamilyFolder

MIN_FRAMES = 22  # that training needs
MAX_SHIFT = 5  # frames to either side that are tried
# Largest difference of a matrix entry; cameras of neighbouring frames differ by 0.01 and more.
SAME_CAMERA_TOLERANCE = 2e-3
MIN_AGREEMENT = 0.95  # share of the frames whose cameras must agree
# Largest ratio of the motion error at a shift to the error at no shift for the shift to be applied.
SHIFT_ERROR_RATIO = 0.7
MIN_MOTION = 0.15  # px a frame: a head that moves less does not show a shift


@dataclass
class Alignment:
    """The frames of the dataset to write, what belongs to each, and notes for the report."""

    # int64 [F], number of each frame's image
    image_numbers: np.ndarray
    # float32 [F, 3]; interpolated where `has_camera` is False
    euler: np.ndarray
    # float32 [F, 3]; interpolated where `has_camera` is False
    trans: np.ndarray
    # px
    focal: float
    # bool [F]
    has_camera: np.ndarray
    # int64 [F], row of the speech features, also the frame of the audio at 25 fps
    audio_rows: np.ndarray
    # int64 [F], row of au.csv
    action_unit_rows: np.ndarray
    # int64 [F], row of the tracker's file, -1 where there is none
    tracker_rows: np.ndarray
    # name of the file the cameras come from
    source: str
    notes: list[str] = field(default_factory=list)


def align(folder: FamilyFolder) -> Alignment:
    """What belongs to each image of the directory. Raises InputRejected when no rule fits."""
    notes: list[str] = []
    transforms, poses = folder.transforms, folder.adjusted or folder.tracker

    # Frame 0 is image 0 or image 1.
    numbers = np.array(list(folder.images), np.int64)
    first = int(numbers[0])
    base = 1 if first == 1 else 0
    if base:
        notes.append("images count from 1: frame 0 is image 1")
    numbers = _longest_run(numbers, notes)

    # Offsets of img_id and aud_id against the image numbers.
    offset = _image_id_offset(folder, transforms, first) if transforms is not None else 0
    if offset:
        notes.append(
            f"img_id of the transforms is {-offset:+d} against the image numbers: corrected"
        )
    audio_offset = -base
    if transforms is not None:
        audio_offset += _audio_lag(transforms, notes)

    # Cameras.
    rows = np.full(len(numbers), -1, np.int64)
    if poses is not None:
        rows = _tracker_rows(folder, poses, numbers, base, offset, notes)
    euler, trans, has_camera, source = _cameras(
        folder, poses, transforms, numbers, rows, offset, notes
    )
    focal = _focal_length(poses, transforms, notes)
    kept = _frames_with_cameras(folder, has_camera, notes)
    return Alignment(
        image_numbers=numbers[kept],
        euler=euler[kept],
        trans=trans[kept],
        focal=focal,
        has_camera=has_camera[kept],
        audio_rows=numbers[kept] + audio_offset,
        action_unit_rows=numbers[kept] - base,
        tracker_rows=rows[kept],
        source=source,
        notes=notes,
    )


def estimate_camera_shift(
    points: np.ndarray, euler: np.ndarray, trans: np.ndarray, focal: float, anchor: np.ndarray
) -> int:
    """The rows by which the cameras lag the images, 0 unless the face's motion clearly shows it.

    points: float [F, P, 2] px, NaN where there is no face; euler, trans [F, 3] of the same frames;
    anchor: float [P, 3], the points in head space. Camera row i + shift fits image i. The
    frame-to-frame motion of the projected anchor is compared with that of the points.
    """
    assert points.shape[1:] == (len(anchor), 2), (points.shape, anchor.shape)
    camera = np.einsum("fij,pj->fpi", euler_to_rotation(euler), anchor) + trans[:, None]
    projected = focal * camera[..., :2] / -camera[..., 2:] * np.array([1.0, -1.0])
    observed_motion = np.diff(points.mean(1), axis=0)
    camera_motion = np.diff(projected.mean(1), axis=0)

    # A still head or a short clip does not show a shift.
    if not np.nanmedian(np.linalg.norm(observed_motion, axis=1)) > MIN_MOTION:
        return 0
    if len(observed_motion) < 4 * MAX_SHIFT:
        return 0

    def motion_error(shift: int) -> float:
        observed = observed_motion[MAX_SHIFT:-MAX_SHIFT]
        shifted = camera_motion[MAX_SHIFT + shift : len(camera_motion) - MAX_SHIFT + shift]
        return float(np.nanmean(np.linalg.norm(observed - shifted, axis=1)))

    errors = {shift: motion_error(shift) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)}
    best = min(errors, key=lambda shift: errors[shift])
    return best if errors[best] < SHIFT_ERROR_RATIO * errors[0] else 0


def camera_to_pose(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tracker euler and trans, float64 [N, 3] each, of camera-to-world matrices [N, 4, 4].

    The translation of the matrices is in tenths of the tracker's unit.
    """
    rotation = np.swapaxes(matrices[:, :3, :3], 1, 2)
    return rotation_to_euler(rotation), -10 * np.einsum("nij,nj->ni", rotation, matrices[:, :3, 3])


def shift_cameras(alignment: Alignment, shift: int) -> Alignment:
    """The alignment with every camera taken from `shift` rows later.

    Frames at an end that have no camera then are removed.
    """
    count = len(alignment.image_numbers)
    frames = np.arange(max(0, -shift), min(count, count - shift))
    rows = frames + shift
    note = (
        f"cameras are {shift:+d} frames against the images, "
        "as the motion of the face shows: corrected"
    )
    return Alignment(
        image_numbers=alignment.image_numbers[frames],
        euler=alignment.euler[rows],
        trans=alignment.trans[rows],
        focal=alignment.focal,
        has_camera=alignment.has_camera[rows],
        audio_rows=alignment.audio_rows[frames],
        action_unit_rows=alignment.action_unit_rows[frames],
        tracker_rows=alignment.tracker_rows[rows],
        source=alignment.source,
        notes=[*alignment.notes, note],
    )


# --- image numbers, img_id, aud_id


def _longest_run(numbers: np.ndarray, notes: list[str]) -> np.ndarray:
    """The longest run of images without a gap in their numbers."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    longest = max(runs, key=len)
    if len(runs) > 1:
        notes.append(
            f"images are missing, the first after {runs[0][-1]}: the longest run is used, "
            f"{longest[0]} to {longest[-1]} of {numbers[0]} to {numbers[-1]}"
        )
    return longest


def _image_id_offset(folder: FamilyFolder, transforms: Transforms, first: int) -> int:
    """The number to add to an img_id to get the number of an image."""
    numbers, ids = np.array(list(folder.images)), transforms.image_ids
    candidates = [offset for offset in (0, first - int(ids.min())) if abs(offset) <= MAX_SHIFT]
    shares = [float(np.isin(ids + offset, numbers).mean()) for offset in candidates]
    if max(shares) >= MIN_AGREEMENT:
        return candidates[int(np.argmax(shares))]
    absent = ids[~np.isin(ids, numbers)]
    raise InputRejected(
        f"{transforms.files[0]} and the other split files name {len(absent)} frames "
        "without an image",
        f"the first is img_id {absent[0]}, {folder.image_folder} holds "
        f"{numbers[0]} to {numbers[-1]}",
        "Restore the images, or write the transforms again",
    )


def _audio_lag(transforms: Transforms, notes: list[str]) -> int:
    """aud_id minus img_id. Raises InputRejected when the difference is not constant."""
    difference = transforms.audio_ids - transforms.image_ids
    lag = int(np.median(difference))
    if (difference != lag).mean() > 1 - MIN_AGREEMENT:
        raise InputRejected(
            f"{transforms.files[0]}: aud_id does not follow img_id",
            "expected one constant difference between the two",
            TRANSFORMS_AGAIN,
        )
    if lag:
        notes.append(f"aud_id is {lag:+d} frames against img_id: kept")
    return lag


# --- rows of the tracker's file


def _tracker_rows(
    folder: FamilyFolder,
    poses: TrackerPoses,
    numbers: np.ndarray,
    base: int,
    offset: int,
    notes: list[str],
) -> np.ndarray:
    """Row of the tracker's file for each image, -1 where there is none."""
    count, all_numbers = len(poses.euler), np.array(list(folder.images), np.int64)

    # Three rules: by number, by order of the images, by order of the images with .lms.
    by_number = np.where((numbers - base >= 0) & (numbers - base < count), numbers - base, -1)
    rules = {
        "number": by_number,
        "order": np.where(numbers - all_numbers[0] < count, numbers - all_numbers[0], -1),
    }
    with_landmarks = np.array([n for n in folder.landmarks if n in folder.images], np.int64)
    if len(with_landmarks) == count != len(all_numbers):
        row_of = {int(n): k for k, n in enumerate(with_landmarks)}
        by_landmarks = np.array([row_of.get(int(n), -1) for n in numbers], np.int64)
        rules = {"landmarks": by_landmarks, **rules}

    # The matrices of the transforms choose the rule. Without transforms the first rule is used.
    if folder.transforms is not None:
        name, rows = _rows_by_matrix(folder.transforms, poses, numbers, rules, offset)
    else:
        name, rows = next(iter(rules.items()))
        difference = abs(count - (int(all_numbers[-1]) + 1 - base))
        if name == "number" and difference > max(MAX_SHIFT, 0.05 * count):
            raise InputRejected(
                f"{poses.file} has {count} frames",
                f"{folder.image_folder} has {len(all_numbers)} images, "
                f"{all_numbers[0]} to {all_numbers[-1]}",
                "Restore the images that were tracked, or "
                "add the transforms_train.json that says which is which",
            )
    if name == "landmarks":
        notes.append(
            f"{poses.file.name} leaves out the {len(all_numbers) - count} frames without .lms: "
            "rows corrected"
        )
    elif name.startswith("shift"):
        notes.append(
            f"rows of {poses.file.name} are {name[6:]} against the images: "
            "corrected by the transforms"
        )
    return rows


def _rows_by_matrix(
    transforms: Transforms,
    poses: TrackerPoses,
    numbers: np.ndarray,
    rules: dict[str, np.ndarray],
    offset: int,
) -> tuple[str, np.ndarray]:
    """The rule whose cameras agree best with the transforms' matrices; "number" when none does."""
    count, by_number = len(poses.euler), rules["number"]
    shifted = {
        f"shift {s:+d}": np.where(
            (by_number >= 0) & (by_number + s >= 0) & (by_number + s < count), by_number + s, -1
        )
        for s in range(-MAX_SHIFT, MAX_SHIFT + 1)
        if s
    }
    matrices = _tracker_matrices(poses)

    # Index into `numbers` of each entry of the transforms, -1 for images outside of it.
    index_of = {int(n): i for i, n in enumerate(numbers)}
    listed = np.array([index_of.get(int(n), -1) for n in transforms.image_ids + offset])

    # Share of the entries whose matrix is that of the rule's row. An earlier rule wins a tie.
    best = ("number", by_number, 0.0)
    for name, rows in {**rules, **shifted}.items():
        entry_rows = np.where(listed >= 0, rows[listed], -1)
        chosen = entry_rows >= 0
        if not chosen.any():
            continue
        error = np.abs(matrices[entry_rows[chosen]] - transforms.matrices[chosen]).max((1, 2))
        share = float((error < SAME_CAMERA_TOLERANCE).sum() / len(listed))
        if share > best[2] + 1e-9:
            best = (name, rows, share)
    return best[0], best[1]


def _tracker_matrices(poses: TrackerPoses) -> np.ndarray:
    """transform_matrix of every row, float64 [N, 4, 4]."""
    return camera_to_world_json(poses.euler, poses.trans * _unit_scale(poses))


def _unit_scale(poses: TrackerPoses) -> float:
    """The factor that brings `trans` to tracker units: SyncTalk's adjusted one is in tenths."""
    return 10.0 if np.median(poses.trans[:, 2]) > -2.0 else 1.0


# --- cameras


def _cameras(
    folder: FamilyFolder,
    poses: TrackerPoses | None,
    transforms: Transforms | None,
    numbers: np.ndarray,
    rows: np.ndarray,
    offset: int,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """euler [F, 3], trans [F, 3], bool [F] where a camera is known, and the file they come from.

    The transforms are used where the tracker's file differs from them. Frames without a camera are
    interpolated.
    """
    if poses is not None:
        has_camera, source = rows >= 0, poses.file.name
        euler, trans = poses.euler[rows], poses.trans[rows] * np.float32(_unit_scale(poses))
        matrices = camera_to_world_json(euler, trans)
    if transforms is not None:
        entry_of = {int(n): k for k, n in enumerate(transforms.image_ids + offset)}
        entry = np.array([entry_of.get(int(n), -1) for n in numbers])
        listed = entry >= 0

        # Compare both sources on the frames that both have.
        agrees = False
        if poses is not None and (listed & has_camera).any():
            error = np.abs(matrices - transforms.matrices[entry]).max((1, 2))
            share = (error < SAME_CAMERA_TOLERANCE)[listed & has_camera].mean()
            agrees = bool(share >= MIN_AGREEMENT)
        if not agrees:
            if poses is not None:
                notes.append(
                    f"the transforms' cameras are not those of {poses.file.name}: the transforms' "
                    "are used, as every system but GaussianTalker does"
                )
            angles, shifts = camera_to_pose(transforms.matrices)
            euler, trans = angles[entry].astype(np.float32), shifts[entry].astype(np.float32)
            has_camera, source = listed, transforms.files[0].name
    if not (trans[has_camera][:, 2] < 0).all():
        raise InputRejected(
            f"{source} of {folder.path} puts the head behind the camera",
            "expected a camera that looks along -z",
            TRACK_AGAIN,
        )
    return *_interpolate_missing(euler, trans, has_camera), has_camera, source


def _interpolate_missing(
    euler: np.ndarray, trans: np.ndarray, has_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Poses with the missing ones interpolated between neighbours; known poses are unchanged."""
    if has_camera.all() or not has_camera.any():
        return euler, trans
    missing, known = np.flatnonzero(~has_camera), np.flatnonzero(has_camera)
    euler, trans = euler.copy(), trans.copy()
    for axis in range(3):
        euler[missing, axis] = np.interp(missing, known, np.unwrap(euler[known, axis]))
        trans[missing, axis] = np.interp(missing, known, trans[known, axis])
    return euler, trans


def _focal_length(
    poses: TrackerPoses | None, transforms: Transforms | None, notes: list[str]
) -> float:
    """The focal length in px: the transforms' where they exist, else the tracker's."""
    if transforms is None:
        return poses.focal if poses is not None else 0.0
    focal = transforms.focal
    if poses is not None and abs(poses.focal / focal - 1) > 1e-4:
        notes.append(
            f"focal length {focal:g} px from the transforms, {poses.file.name} has {poses.focal:g}"
        )
    return focal


def _frames_with_cameras(folder: FamilyFolder, has_camera: np.ndarray, notes: list[str]) -> slice:
    """The frames from the first to the last camera. Raises InputRejected when they are too few."""
    known = np.flatnonzero(has_camera)
    if len(known) < MIN_FRAMES:
        raise InputRejected(
            f"{folder.path} has cameras for {len(known)} of {len(has_camera)} images",
            f"at least {MIN_FRAMES} are needed",
            "Track the whole clip",
        )
    kept = slice(int(known[0]), int(known[-1]) + 1)
    dropped = len(has_camera) - (kept.stop - kept.start)
    if dropped:
        notes.append(f"{dropped} images before the first or after the last camera are left out")
    gaps = int((~has_camera[kept]).sum())
    if gaps:
        notes.append(f"{gaps} frames have no camera: interpolated, not trained on")
    return kept
