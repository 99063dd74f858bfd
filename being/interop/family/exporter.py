"""Exports a dataset as a directory that GaussianTalker, TalkingGaussian or InsTaG can train on.

The three systems need no change to read it. tests/interop/family/test_exporter.py checks each file
that their readers open and each index they use. Their trainers fix the width of the speech features
at 29 (DeepSpeech). Our features are reduced to 29 channels by a linear map, which is written beside
them. They can also be kept whole; then the report names the line of the system's code to change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being import media
from being.conventions import FPS, SAMPLE_RATE
from being.data.dataset import Dataset
from being.data.manifest import PREPROCESS_AGAIN
from being.errors import BeingError, InputRejected, UsageError
from being.face.action_units import AU_NAMES, action_units
from being.face.landmarks import Landmarks
from being.files import new_folder
from being.interop.family import layout
from being.interop.family.alignment import MIN_FRAMES
from being.interop.family.export_steps import (
    SYSTEMS,
    ExportJob,
    ExportReport,
    write_depth_and_normals,
    write_images,
    write_masks,
)
from being.interop.family.head_parts import subdivide_mesh
from being.interop.family.writers import (
    audio_of_frames,
    link,
    write_au_table,
    write_track,
    write_transforms,
)
from being.locks import locked
from being.paths import check_not_input, check_writable, user_path
from being.reading.arrays import load_arrays
from being.reading.tensors import load_pickled

ENCODER = "hama"
# Width of the speech features that all three systems expect of DeepSpeech.
FEATURE_WIDTH = 29
# Action units that TalkingGaussian and InsTaG read.
REQUIRED_UNITS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU25", "AU45")
# GaussianTalker makes one Gaussian of each vertex; its own tracker gives 34,650.
MIN_VERTICES = 20_000
# InsTaG's own validation split: the last 12 s.
INSTAG_VALIDATION_SECONDS = 12
NOTE_FILE = "READ_ME.txt"


def export_family(
    path: Path, system: str, out: Path, *, full_width: bool = False, force: bool = False
) -> ExportReport:
    """Write the dataset at `path` to `out` for `system`; returns what was written.

    system: "gaussiantalker", "talkinggaussian" or "instag". full_width: keep all channels of our
    speech features; the report then names the line of the system's code to change. Raises
    InputRejected naming what the dataset lacks; then no file is left behind. Raises BeingError
    where `out` cannot be written, or another process writes it or the dataset.
    """
    if system not in SYSTEMS:
        raise UsageError(f"there is no export for '{system}'", fix=f"One of: {', '.join(SYSTEMS)}")
    dataset, out = Dataset.open(path), user_path(out).absolute()
    check_not_input(out, [dataset.path])
    _check_out(out, force)
    landmarks = _read_landmarks(dataset)

    # Write to a temporary folder, which becomes `out` when it is complete.
    with (
        locked(out, "writes this export"),
        locked(dataset.path, "reads this dataset", "Wait for it to end", shared=True),
    ):
        _check_out(out, force)  # another process may have finished just before the lock was free
        try:
            with new_folder(out) as part:
                job = ExportJob(
                    dataset, SYSTEMS[system], part, ExportReport(out, system), landmarks, full_width
                )
                _write_files(job)
        except OSError as error:
            raise BeingError(
                f"cannot write {out}", str(error), "Free disk space or choose another folder"
            ) from error
    return job.report


def _write_files(job: ExportJob) -> None:
    """Write all files of the export. Raises InputRejected for a dataset with too few faces."""
    usable = len(job.usable_frames)
    if usable < MIN_FRAMES:
        raise InputRejected(
            f"{job.dataset.path} has {usable} frames with a face and landmarks",
            f"{job.system.title} needs some seconds",
            "Record a longer clip",
        )
    for step in (
        write_images,
        write_masks,
        _write_cameras,
        _write_audio,
        _write_speech_features,
        _write_action_units,
    ):
        step(job)
    if job.system.reads_depth:
        write_depth_and_normals(job)
    _write_note(job)


def _check_out(out: Path, force: bool) -> None:
    """Raise BeingError unless `out` is free, or is an earlier export that `force` may replace."""
    occupied = out.exists() and any(out.iterdir() if out.is_dir() else [out])
    if occupied and not (force and (out / NOTE_FILE).is_file()):
        raise BeingError(
            f"{out} exists already",
            "only an earlier export is replaced, with --force",
            "Choose another folder with --out",
        )
    check_writable(out)


def _read_landmarks(dataset: Dataset) -> Landmarks:
    """Landmarks, blendshapes and confidence of the dataset's frames."""
    data = load_arrays(
        dataset.path / "landmarks.npz", ("blendshapes", "confidence"), PREPROCESS_AGAIN
    )
    if "blendshapes" not in data or "confidence" not in data:
        raise InputRejected(
            f"{dataset.path / 'landmarks.npz'} holds {', '.join(data)}",
            "expected blendshapes and confidence beside the points",
            PREPROCESS_AGAIN,
        )
    return Landmarks(dataset.landmarks, data["blendshapes"], data["confidence"])


# --- cameras


def _write_cameras(job: ExportJob) -> None:
    """Write track_params.pt with enough vertices for GaussianTalker, and the split files."""
    dataset = job.dataset
    track = load_pickled(dataset.path / "track_params.pt")
    mesh, triangles = dataset.mesh

    # GaussianTalker starts from the vertices as they are, so a coarse mesh is subdivided.
    vertices = track["vertices"].float().numpy().mean(0) if "vertices" in track else mesh.mean(0)
    if len(vertices) <= len(mesh[0]):
        vertices = subdivide_mesh(mesh.mean(0).astype(np.float64), triangles, MIN_VERTICES)
    euler, trans = (track[name].float().numpy() for name in ("euler", "trans"))
    identity, expression = (
        track[name].float().numpy() if name in track else None for name in ("id", "exp")
    )
    write_track(job.target, euler, trans, dataset.focal, vertices, identity, expression)

    # The last 1/11 is held out; for InsTaG its own validation part, where the clip is long enough.
    held = INSTAG_VALIDATION_SECONDS * FPS + 1 if job.system.reads_depth else 0
    border = dataset.frames - held if dataset.frames > 2 * held > 0 else dataset.frames * 10 // 11
    usable = job.usable_frames
    splits = {
        "train": [i for i in usable if i < border],
        "val": [i for i in usable if i >= border],
    }
    write_transforms(job.target, splits, euler, trans, dataset.focal, dataset.width, dataset.height)

    job.report.written.append(
        f"track_params.pt: {len(vertices)} vertices, focal length {dataset.focal:g} px; "
        f"transforms: {len(splits['train'])} train, {len(splits['val'])} val frames"
    )
    absent = dataset.frames - len(usable)
    if absent:
        job.report.notes.append(f"{absent} frames without a face are in no split")
    if len(dataset.segments) > 1:
        job.report.notes.append(
            "the clip has cuts, which these systems do not know: feature windows cross them"
        )


# --- audio, speech features, action units


def _write_audio(job: ExportJob) -> None:
    """Write aud.wav, and GaussianTalker's halves: the first 10/11 and the last 1/11."""
    samples = job.dataset.audio()
    border = job.dataset.frames * 10 // 11
    for name, first, count in (
        ("aud.wav", 0, job.dataset.frames),
        ("aud_train.wav", 0, border),
        ("aud_novel.wav", border, job.dataset.frames - border),
    ):
        media.write_wav(job.target / name, audio_of_frames(samples, first, count), SAMPLE_RATE)
    job.report.written.append("aud.wav, aud_train.wav, aud_novel.wav")


def _write_speech_features(job: ExportJob) -> None:
    """Write speech features to the file that the system reads.

    They are the dataset's features of an earlier export or of DeepSpeech, else our own.
    """
    dataset, known = job.dataset, job.dataset.manifest["features"]
    feature_file = job.system.feature_file

    # Features of other encoders keep their names.
    for name in known:
        if name not in (ENCODER, layout.PROJECTED):
            np.save(job.target / f"aud_{name}.npy", dataset.features(name))

    # Features that came from an export go back with their projection.
    if layout.PROJECTED in known and (dataset.path / layout.PROJECTION).is_file():
        link(dataset.path / layout.PROJECTION, job.target / layout.PROJECTION)
        np.save(job.target / feature_file, dataset.features(layout.PROJECTED))
        job.report.written.append(f"{feature_file}: as in the export that was imported")
        return

    # DeepSpeech's.
    if "ds" in known and known["ds"]["width"] == FEATURE_WIDTH:
        if feature_file != "aud_ds.npy":
            np.save(job.target / feature_file, dataset.features("ds"))
        job.report.written.append(f"{feature_file}: DeepSpeech's, as they were imported")
        return

    # Our own features.
    if ENCODER not in known:
        raise InputRejected(
            f"{dataset.path} has neither '{ENCODER}' nor DeepSpeech features",
            f"it has {', '.join(known)}",
            f"Extract DeepSpeech features of aud.wav into {feature_file} with their script",
        )
    values = dataset.features(ENCODER)
    width = values.shape[2]
    if job.full_width:
        line = job.system.width_line.replace(str(FEATURE_WIDTH), str(width))
        job.report.code_change = f"{line} (instead of {FEATURE_WIDTH})"
        job.report.written.append(f"{feature_file}: '{ENCODER}' features, {width} wide")
    else:
        matrix, share = feature_projection(values)
        np.savez(job.target / layout.PROJECTION, matrix=matrix, encoder=ENCODER)
        values = values @ matrix
        job.report.written.append(
            f"{feature_file}: '{ENCODER}' features reduced to {FEATURE_WIDTH} channels "
            f"({share:.0%} of their variance) by the matrix in {layout.PROJECTION}"
        )
    np.save(job.target / feature_file, values.astype(np.float32))


def feature_projection(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Matrix float32 [C, 29] onto the main directions of features [F, 16, C], and the share kept.

    The share is of the features' variance. No mean is subtracted: so the zeros outside a clip stay
    zero, and the map folds into a convolution. The root mean square of the result is 1. Features
    narrower than 29 are padded with zeros.
    """
    middle = features.shape[1] // 2
    steps = features[:, middle - 1 : middle + 1].reshape(-1, features.shape[2]).astype(np.float64)
    values, vectors = np.linalg.eigh(steps.T @ steps / len(steps))
    order = np.argsort(-values)[:FEATURE_WIDTH]
    kept, chosen = values[order].sum(), vectors[:, order]

    # The sign of an eigenvector is arbitrary: its largest entry is made positive, so the matrix is
    # the same on every machine.
    sign = np.sign(chosen[np.abs(chosen).argmax(0), np.arange(len(order))])
    scale = sign * np.sqrt(FEATURE_WIDTH / max(kept, 1e-12))
    matrix = np.zeros((len(vectors), FEATURE_WIDTH), np.float32)
    matrix[:, : len(order)] = chosen * scale
    return matrix, float(kept / max(values.sum(), 1e-12))


def _write_action_units(job: ExportJob) -> None:
    """Write au.csv: the dataset's columns, completed to those that the systems read.

    Each column is there twice, named with OpenFace's blank and without.
    """
    columns = layout.read_action_units(job.dataset.path / "au.csv")
    columns = {name: column[: job.dataset.frames] for name, column in columns.items()}
    absent = [unit for unit in REQUIRED_UNITS if f"{unit}_r" not in columns]
    if absent:
        estimated = action_units(job.landmarks)
        columns |= {f"{unit}_r": estimated[:, AU_NAMES.index(unit)] for unit in absent}
        job.report.notes.append(f"{', '.join(absent)} are estimated from our landmarks")
    write_au_table(job.target / "au.csv", columns, (" ", ""))
    job.report.written.append("au.csv")


def _write_note(job: ExportJob) -> None:
    """Write the report as a text file: some readers take every .json for a file of cameras."""
    report = job.report
    lines = [
        f"Written for {job.system.title} from the dataset '{job.dataset.name}' by being.",
        "",
        *report.written,
    ]
    if report.notes:
        lines += ["", "Notes:", *report.notes]
    if report.code_change:
        lines += ["", "One line of the system's code to change:", report.code_change]
    (job.target / NOTE_FILE).write_text("\n".join(lines) + "\n")
