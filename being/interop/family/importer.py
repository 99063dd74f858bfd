"""Imports a dataset directory of ER-NeRF, GaussianTalker or a similar system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from being import media
from being.audio import clip_features
from being.console import Progress, console
from being.conventions import FEATURE_WINDOW, FPS, SAMPLE_RATE
from being.data.consent import Consent
from being.data.manifest import SCHEMA
from being.errors import EnvironmentFault, InputRejected, UsageError
from being.face.action_units import write_action_units
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import MESH_POINTS, FaceLandmarker, Landmarks
from being.face.topology import RIGID
from being.files import write_json
from being.interop.family import layout
from being.interop.family.alignment import (
    MIN_FRAMES,
    Alignment,
    align,
    estimate_camera_shift,
    shift_cameras,
)
from being.interop.family.import_steps import (
    ImportJob,
    ImportReport,
    SquareImages,
    centre_square,
    write_frames,
    write_parsing,
    write_plates,
    write_points,
    write_teeth,
)
from being.interop.family.mesh_fitting import Cameras, fit_mesh_sequence, place_canonical_mesh
from being.interop.family.writers import (
    audio_of_frames,
    link,
    write_au_table,
    write_track,
    write_transforms,
)
from being.names import check_subject_name
from being.paths import check_not_input, check_writable, user_path
from being.preprocess.workspace import check_free, new_dataset

ENCODER = "hama"
MIN_FACE_SHARE = 0.5  # of the frames must show a face
MAX_OUTSIDE_SHARE = 0.02  # of the landmarks may be lost by the crop to a square
# Rows by which features and action units may be too short. The family's readers clamp the index.
SPARE_ROWS = 2
# The same for features, as a share of the frames.
SPARE_SHARE = 0.01
LENGTH_DIFFERENCE = 0.2  # s between the ends of audio and images, from which they do not fit
HOLDOUT_SHARE, HOLDOUT_TOLERANCE = 1 / 11, 0.01
# Files of other systems that are copied unchanged.
COPIED_FILES = ("bs.npy", "bundle_adjustment.pt", layout.PROJECTION)


def import_family(
    path: Path,
    out: Path,
    *,
    name: str | None = None,
    consent: str | None = None,
    force: bool = False,
    landmarker: FaceLandmarker | None = None,
) -> ImportReport:
    """Write a dataset to `out` from the family directory `path`; returns what was found and built.

    Cameras are kept as they are. name: of the subject (default: the directory's). consent: whose
    face it is and how they agreed. Raises InputRejected naming the file that is wrong; then no file
    is left behind.
    """
    path, out = user_path(path), user_path(out).absolute()
    name = path.resolve().name if name is None else name
    check_subject_name(name)
    record = Consent(consent).record()
    _check_out(out, path, force)

    # The hidden folder becomes `out` when it is complete. Its lock is held from the beginning.
    with new_dataset(out, force) as part:
        # Read and check everything before anything is written.
        folder = layout.read_folder(path)
        alignment = align(folder)
        square = centre_square(folder)
        samples = _read_audio(folder)
        landmarks, alignment = _detect_landmarks(
            folder, alignment, square, landmarker or FaceLandmarker()
        )
        report = ImportReport(
            out,
            folder.system,
            len(alignment.image_numbers),
            found=[
                f"{len(folder.images)} images of {folder.width} x {folder.height} px in "
                f"{folder.image_folder}",
                f"cameras in {alignment.source}, focal length {alignment.focal:g} px",
                *alignment.notes,
            ],
        )

        # Write the dataset.
        job = ImportJob(folder, part, square, alignment, landmarks, report)
        for step in (
            write_frames,
            write_points,
            write_parsing,
            write_plates,
            write_teeth,
            _write_cameras,
        ):
            step(job)
        _write_speech(job, samples)
        _write_action_units(job)
        _write_manifest(job, name, record)
    return report


# --- checks before writing


def _check_out(out: Path, path: Path, force: bool) -> None:
    """Raise unless a dataset can be written to `out`."""
    if (path / "dataset.json").is_file():
        raise InputRejected(
            f"{path} is already a dataset of being",
            "it has a dataset.json",
            f"Use it as it is: being train {path}",
        )
    if path.exists() and out.exists() and path.samefile(out):
        raise UsageError(
            f"{path} cannot be both the source and the dataset",
            fix="Choose another folder with --out",
        )
    check_not_input(out, [path])
    check_free(out, force)
    check_writable(out)


def _read_audio(folder: layout.FamilyFolder) -> np.ndarray:
    """The audio track, float32 mono. Raises InputRejected when it is empty."""
    samples = np.concatenate([media.read_audio(file) for file in folder.audio])
    if not len(samples) or not np.isfinite(samples).all():
        raise InputRejected(
            f"{folder.audio[0]} holds no audio", fix="Put the video's audio there as aud.wav"
        )
    return samples


def _detect_landmarks(
    folder: layout.FamilyFolder,
    alignment: Alignment,
    square: tuple[int, int, int],
    landmarker: FaceLandmarker,
) -> tuple[Landmarks, Alignment]:
    """Landmarks of the frames, and the alignment corrected by the motion of the face.

    Raises InputRejected when too few frames show a face or when the square cuts it.
    """
    images = SquareImages([folder.images[int(n)] for n in alignment.image_numbers], square)
    with Progress("landmarks", len(images), "frames") as progress:
        landmarks = landmarker.track(images, progress.advance)

    # Most frames must show a face inside the square.
    image_path = folder.path / folder.image_folder
    found = int(landmarks.found.sum())
    if found < max(MIN_FACE_SHARE * len(images), MIN_FRAMES):
        raise InputRejected(
            f"{image_path} shows a face in {found} of {len(images)} images",
            "most of them must",
            "Give the images that were tracked",
        )
    points = landmarks.points[landmarks.found, :, :2]
    outside = float(np.mean((points < 0) | (points > square[2] - 1)))
    if square[2] < max(folder.width, folder.height) and outside > MAX_OUTSIDE_SHARE:
        raise InputRejected(
            f"{image_path}: images of {folder.width} x {folder.height} px cannot be "
            "cropped to a square",
            "the face leaves the square round their centre",
            "Crop the video to a square round the head and track it again: being preprocess VIDEO",
        )

    # The motion of the face shows whether the cameras are shifted against the images.
    cameras = Cameras(alignment.euler, alignment.trans, alignment.focal, square[2], square[2])
    shape = place_canonical_mesh(landmarks.points, cameras, canonical_mesh()[0])
    shift = estimate_camera_shift(
        landmarks.points[:, RIGID, :2],
        alignment.euler,
        alignment.trans,
        alignment.focal,
        shape[RIGID],
    )
    if shift:
        before = alignment.image_numbers
        alignment = shift_cameras(alignment, shift)
        landmarks = landmarks[np.isin(before, alignment.image_numbers)]
    return landmarks, alignment


# --- cameras


def _write_cameras(job: ImportJob) -> None:
    """Write track_params.pt with the directory's cameras, mesh.npz, and the split files."""
    alignment, side = job.alignment, job.square[2]

    # The mesh of each frame, under these cameras.
    canonical, triangles = canonical_mesh()
    cameras = Cameras(alignment.euler, alignment.trans, alignment.focal, side, side)
    mesh = fit_mesh_sequence(job.landmarks.points, cameras, canonical)
    np.savez(job.target / "mesh.npz", vertices=mesh, triangles=triangles.astype(np.int32))

    # The tracker's own mean vertices and face model coefficients, where it has them.
    vertices, identity, expression = mesh.mean(0), None, None
    tracker = job.source.tracker
    if tracker is not None and tracker.vertices is not None:
        vertices = tracker.vertices
        job.report.found.append(f"{len(vertices)} vertices, kept as their mean")
    else:
        job.report.rebuilt.append(
            "vertices of the mean face, from the landmarks under these cameras"
        )
    if tracker is not None:
        identity = tracker.identity
        if tracker.expression is not None:
            expression = tracker.expression[alignment.tracker_rows.clip(0)]
    write_track(
        job.target,
        alignment.euler,
        alignment.trans,
        alignment.focal,
        vertices,
        identity,
        expression,
    )
    job.report.rebuilt.append(f"face mesh of {MESH_POINTS} vertices a frame")

    # The split files leave out frames without a face or a camera.
    border, missing = job.frames * 10 // 11, set(job.missing)
    splits = {"train": range(border), "val": range(border, job.frames)}
    write_transforms(
        job.target,
        {split: [i for i in numbers if i not in missing] for split, numbers in splits.items()},
        alignment.euler,
        alignment.trans,
        alignment.focal,
        side,
        side,
    )
    _note_holdout(job)


def _note_holdout(job: ImportJob) -> None:
    """Note in the report when the directory holds out another share of the frames than we do."""
    transforms = job.source.transforms
    if transforms is None:
        return
    held = transforms.splits.get("val", []) + transforms.splits.get("test", [])
    share = len(held) / max(1, len(transforms.image_ids))
    if held and abs(share - HOLDOUT_SHARE) > HOLDOUT_TOLERANCE:
        job.report.found.append(
            f"the directory's validation split is {len(set(held))} frames: train with --holdout "
            f"{share:.3g} to hold out as many"
        )


# --- audio and speech features


def _write_speech(job: ImportJob, samples: np.ndarray) -> None:
    """Write aud.wav of the frames, the directory's speech features, and our own."""
    if difference := _length_difference(job, samples):
        console.warn(difference)
        job.report.found.append(difference)
    audio = audio_of_frames(samples, int(job.alignment.audio_rows[0]), job.frames)
    media.write_wav(job.target / "aud.wav", audio)
    job.report.found.append(f"audio from {' and '.join(file.name for file in job.source.audio)}")
    for features in job.source.features:
        _copy_features(job, features)

    # Our own features. Without the encoder the dataset can be trained on the directory's.
    try:
        encoded = clip_features.encode_frames(audio, job.frames, ENCODER)
    except EnvironmentFault as fault:
        if not job.features:
            raise
        job.report.missing.append(
            f"speech features '{ENCODER}' ({fault.what}): train with -o data.encoder="
            f"{next(iter(job.features))}"
        )
        return
    np.save(job.target / f"aud_{ENCODER}.npy", encoded)
    entry: dict[str, object] = {"file": f"aud_{ENCODER}.npy", "width": encoded.shape[2]}
    job.features = {ENCODER: entry, **job.features}
    job.report.rebuilt.append(f"speech features '{ENCODER}', {encoded.shape[2]} wide")


def _length_difference(job: ImportJob, samples: np.ndarray) -> str:
    """How the audio is longer or shorter than the images, and what follows; empty where it fits.

    samples: float32 [T] at 16 kHz.
    """
    seconds, count = len(samples) / SAMPLE_RATE, len(job.source.images)
    over = seconds - count / FPS
    if abs(over) < LENGTH_DIFFERENCE:
        return ""
    files = " and ".join(file.name for file in job.source.audio)
    end = f"the audio after {count / FPS:.2f} s is left out"
    if over < 0:
        end = f"the frames after {seconds:.2f} s get silence"
    return (
        f"{files} lasts {seconds:.2f} s, the {count} images at {FPS} frames/s {count / FPS:.2f} s: "
        f"{end}. Check that both begin together and that the images are {FPS} a second: else lips "
        "and audio do not fit"
    )


def _copy_features(job: ImportJob, features: layout.Features) -> None:
    """Write the rows of one array of speech features that belong to the frames.

    Raises InputRejected when rows are missing or not finite.
    """
    array = layout.load_array(features.file)
    rows = job.alignment.audio_rows
    short = int(rows[-1]) + 1 - len(array)
    if short > max(SPARE_ROWS, SPARE_SHARE * job.frames):
        raise InputRejected(
            f"{features.file} has {len(array)} rows",
            f"frame {job.frames - 1} needs row {rows[-1]}",
            "Extract the speech features of the whole audio again, or remove the file",
        )
    values = np.asarray(array[rows.clip(0, len(array) - 1)])
    if not np.isfinite(values).all():
        raise InputRejected(
            f"{features.file} holds values that are not finite",
            "expected speech features",
            "Extract the speech features again, or remove the file",
        )
    file = f"aud_{features.name}.npy"
    np.save(job.target / file, values)

    # Only windows of our own length can be trained on.
    if array.shape[1] == FEATURE_WINDOW:
        job.features[features.name] = {"file": file, "width": array.shape[2]}
    else:
        job.report.missing.append(
            f"{features.file.name} has windows of {array.shape[1]}, not {FEATURE_WINDOW}: kept, "
            "not trained on"
        )
    job.report.found.append(f"speech features '{features.name}', {array.shape[2]} wide")


# --- action units and manifest


def _write_action_units(job: ImportJob) -> None:
    """Write au.csv: the rows of the directory's file, or action units from the landmarks."""
    file, rows = job.source.action_units, job.alignment.action_unit_rows
    if file is None:
        write_action_units(job.target / "au.csv", job.landmarks)
        job.report.rebuilt.append("blink (au.csv)")
        return

    # Check the file.
    columns = layout.read_action_units(file)
    count = len(columns["AU45_r"])
    if int(rows[-1]) + 1 - count > SPARE_ROWS:
        raise InputRejected(
            f"{file} has {count} rows",
            f"expected one for each of {int(rows[-1]) + 1} frames",
            "Run OpenFace on the whole video, "
            "or remove the file: the import then computes a new one",
        )
    broken = [
        name
        for name, column in columns.items()
        if name.startswith("AU") and not np.isfinite(column).all()
    ]
    if broken:
        raise InputRejected(
            f"{file}: {broken[0]} holds values that are not numbers",
            "expected 0 to 5",
            "Write the file again, or remove it: the import then computes a new one",
        )

    rows = rows.clip(0, count - 1)
    write_au_table(job.target / "au.csv", {name: column[rows] for name, column in columns.items()})
    units = sum(name.startswith("AU") for name in columns)
    job.report.found.append(f"action units in au.csv, {units} columns")


def _write_manifest(job: ImportJob, name: str, consent: dict[str, Any]) -> None:
    """Write dataset.json, and link the files that are copied unchanged."""
    for file in COPIED_FILES:
        if (job.source.path / file).is_file():
            link(job.source.path / file, job.target / file)
    report = job.report
    if job.missing:
        report.missing.append(f"a face or a camera in {len(job.missing)} frames: not trained on")
    write_json(
        job.target / "dataset.json",
        {
            "schema": SCHEMA,
            "name": name,
            "fps": FPS,
            "width": job.square[2],
            "height": job.square[2],
            "frames": job.frames,
            "segments": [[0, job.frames]],
            "missing": job.missing,
            "features": job.features,
            "source": {
                "family": report.system,
                "folder": job.source.path.name,
                "cameras": job.alignment.source,
                "first_picture": int(job.alignment.image_numbers[0]),
                "found": report.found,
                "rebuilt": report.rebuilt,
                "missing": report.missing,
            },
            "steps": {},
            "consent": consent,
        },
    )
