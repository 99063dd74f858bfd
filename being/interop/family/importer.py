"""A directory of the family to a dataset of ours: what is there is kept, what the pictures show is
rebuilt.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from being import media
from being.console import Progress
from being.conventions import FPS
from being.data.consent import Consent
from being.data.dataset import SCHEMA
from being.errors import BeingError, EnvironmentFault, InputRejected, UsageError
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import MESH_POINTS, FaceLandmarker, Landmarks
from being.face.topology import RIGID
from being.files import write_json
from being.interop.family import layout
from being.interop.family.alignment import LEAST_FRAMES, Alignment, align, moved, shift_of
from being.interop.family.facemesh import Cameras, lay_under, mesh_under
from being.interop.family.pictures import (
    Imported,
    Job,
    Pictures,
    centre_square,
    write_frames,
    write_parsing,
    write_plates,
    write_points,
    write_teeth,
)
from being.interop.family.writing import (
    SAMPLES_PER_FRAME,
    link,
    sound_of_frames,
    write_track,
    write_transforms,
    write_units,
)
from being.paths import check_place, make_folders, remove_empty, replace_folder
from being.preprocess.workspace import check_free

ENCODER = "hama"
FACES_IN_MIN = 0.5  # share of the frames that must show a face
OUTSIDE_MAX = 0.02  # share of the landmarks that a square cut may lose
WINDOW = 16  # steps of a speech feature window
SPARE_ROWS = 2  # rows that features and action units may be short: readers of the family clamp
FASTER = 0.05  # share by which sound and pictures may differ in length
KEPT = (
    "bs.npy",
    "bundle_adjustment.pt",
    layout.PROJECTION,
)  # files of others that are carried along as they are


def import_family(
    path: Path,
    out: Path,
    *,
    name: str | None = None,
    consent: str | None = None,
    force: bool = False,
    landmarker: FaceLandmarker | None = None,
) -> Imported:
    """A dataset at `out` made from the family directory `path`, and what was found, rebuilt and is
    missing.

    Cameras are kept as they are. name: of the subject (default: the directory's). consent: whose
    face it is and how they agreed. Raises InputRejected naming the file that will not do; nothing
    is left behind then.
    """
    path, out = Path(path), Path(out).absolute()
    name = path.resolve().name if name is None else name
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise UsageError(
            f"'{name}' cannot be the name of a subject", fix="Give one without slashes: --name NAME"
        )
    _check_out(out, path, force)
    folder = layout.read_folder(path)
    alignment = align(folder)
    square = centre_square(folder)
    samples = _read_sound(folder)
    landmarks, alignment = _look(folder, alignment, square, landmarker or FaceLandmarker())
    part, parents = out.with_name(f".{out.name}.part"), make_folders(out.parent)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        report = Imported(
            out,
            folder.system,
            len(alignment.numbers),
            found=[
                f"{len(folder.pictures)} pictures of {folder.width} x {folder.height} px in {folder.place}",
                f"cameras in {alignment.source}, focal length {alignment.focal:g} px",
                *alignment.notes,
            ],
        )
        job = Job(folder, part, square, alignment, landmarks, report)
        for step in (write_frames, write_points, write_parsing, write_plates, write_teeth, _track):
            step(job)
        _speech(job, samples)
        _units(job)
        _manifest(job, name, consent)
        replace_folder(part, out)
    except OSError as error:
        raise BeingError(
            f"cannot write {out}", str(error), "Make room on the disk or choose another place"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        remove_empty(parents)
    return report


# --- before anything is written
# -------------------------------------------------------------------------------------


def _check_out(out: Path, path: Path, force: bool) -> None:
    if (path / "dataset.json").is_file():
        raise InputRejected(
            f"{path} is a dataset of ours already",
            "it has a dataset.json",
            f"Use it as it is: being train {path}",
        )
    if path.exists() and out.exists() and path.samefile(out):
        raise UsageError(
            f"{path} cannot become a dataset in its own place",
            fix="Choose another place with --out",
        )
    check_free(out, force)
    check_place(out.with_name(f".{out.name}.part"))


def _read_sound(folder: layout.Folder) -> np.ndarray:
    samples = np.concatenate([media.read_audio(file) for file in folder.sound])
    if not len(samples) or not np.isfinite(samples).all():
        raise InputRejected(
            f"{folder.sound[0]} holds no sound", fix="Put the video's sound there as aud.wav"
        )
    return samples


def _look(
    folder: layout.Folder,
    alignment: Alignment,
    square: tuple[int, int, int],
    landmarker: FaceLandmarker,
) -> tuple[Landmarks, Alignment]:
    """Landmarks of the frames, and the alignment put right where the face's motion says so."""
    pictures = Pictures([folder.pictures[int(n)] for n in alignment.numbers], square)
    with Progress("landmarks", len(pictures), "frames") as progress:
        landmarks = landmarker.track(pictures, progress.advance)
    found = int(landmarks.found.sum())
    if found < max(FACES_IN_MIN * len(pictures), LEAST_FRAMES):
        raise InputRejected(
            f"{folder.path / folder.place} shows a face in {found} of {len(pictures)} pictures",
            "most of them must",
            "Give the pictures that were tracked",
        )
    at = landmarks.points[landmarks.found, :, :2]
    outside = float(np.mean((at < 0) | (at > square[2] - 1)))
    if square[2] < max(folder.width, folder.height) and outside > OUTSIDE_MAX:
        raise InputRejected(
            f"{folder.path / folder.place}: pictures of {folder.width} x {folder.height} px cannot be "
            "cut to a square",
            "the face leaves the square round their centre",
            "Crop the video to a square round the head and track it again: being preprocess VIDEO",
        )
    cameras = Cameras(alignment.euler, alignment.trans, alignment.focal, square[2], square[2])
    shape = lay_under(landmarks.points, cameras, canonical_mesh()[0])
    shift = shift_of(
        landmarks.points[:, RIGID, :2],
        alignment.euler,
        alignment.trans,
        alignment.focal,
        shape[RIGID],
    )
    if shift:
        before = alignment.numbers
        alignment = moved(alignment, shift)
        landmarks = landmarks[np.isin(before, alignment.numbers)]
    return landmarks, alignment


def _track(job: Job) -> None:
    """track_params.pt with their cameras, mesh.npz under them, and the split files."""
    a, side = job.alignment, job.square[2]
    canonical, triangles = canonical_mesh()
    vertices = mesh_under(
        job.landmarks.points, Cameras(a.euler, a.trans, a.focal, side, side), canonical
    )
    np.savez(job.part / "mesh.npz", vertices=vertices, triangles=triangles.astype(np.int32))
    poses = job.folder.track
    theirs = poses.vertices if poses is not None else None
    inside = a.rows.clip(0)
    expression = (
        poses.expression[inside] if poses is not None and poses.expression is not None else None
    )
    write_track(
        job.part,
        a.euler,
        a.trans,
        a.focal,
        vertices.mean(0) if theirs is None else theirs,
        poses.identity if poses is not None else None,
        expression,
    )
    if theirs is None:
        job.report.rebuilt.append(
            "vertices of the mean face, from the landmarks under these cameras"
        )
    else:
        job.report.found.append(f"{len(theirs)} vertices, kept as their mean")
    job.report.rebuilt.append(f"face mesh of {MESH_POINTS} vertices a frame")
    border, missing = job.frames * 10 // 11, set(job.missing)
    parts = {"train": range(border), "val": range(border, job.frames)}
    write_transforms(
        job.part,
        {part: [i for i in numbers if i not in missing] for part, numbers in parts.items()},
        a.euler,
        a.trans,
        a.focal,
        side,
        side,
    )
    if job.folder.transforms is not None:
        held = job.folder.transforms.parts.get("val", []) + job.folder.transforms.parts.get(
            "test", []
        )
        share = len(held) / max(1, len(job.folder.transforms.ids))
        if held and abs(share - 1 / 11) > 0.01:
            job.report.found.append(
                f"their validation part is {len(set(held))} frames: train with --holdout "
                f"{share:.3g} to hold out as many"
            )


def _speech(job: Job, samples: np.ndarray) -> None:
    """aud.wav of the frames, our speech features of it, and theirs under their own names."""
    a, count = job.alignment, job.frames
    pictures = len(job.folder.pictures) * SAMPLES_PER_FRAME
    if abs(len(samples) / pictures - 1) > FASTER:
        job.report.found.append(
            f"the sound lasts {len(samples) / SAMPLES_PER_FRAME / FPS:.1f} s, the pictures at "
            f"{FPS} frames/s {pictures / SAMPLES_PER_FRAME / FPS:.1f} s"
        )
    sound = sound_of_frames(samples, int(a.audio[0]), count)
    media.write_wav(job.part / "aud.wav", sound)
    job.report.found.append(f"sound from {' and '.join(file.name for file in job.folder.sound)}")
    for features in job.folder.features:
        array = layout.load_array(features.file)
        short = int(a.audio[-1]) + 1 - len(array)
        if short > max(SPARE_ROWS, 0.01 * count):
            raise InputRejected(
                f"{features.file} has {len(array)} rows",
                f"frame {count - 1} needs row {a.audio[-1]}",
                "Extract the speech features of the whole sound again, or remove the file",
            )
        rows = np.asarray(array[a.audio.clip(0, len(array) - 1)])
        if not np.isfinite(rows).all():
            raise InputRejected(
                f"{features.file} holds values that are not finite",
                "expected speech features",
                "Extract the speech features again, or remove the file",
            )
        np.save(job.part / f"aud_{features.name}.npy", rows)
        if array.shape[1] == WINDOW:
            job.features[features.name] = {
                "file": f"aud_{features.name}.npy",
                "width": array.shape[2],
            }
        else:
            job.report.missing.append(
                f"{features.file.name} has windows of {array.shape[1]}, not {WINDOW}: kept, not "
                "trained on"
            )
        job.report.found.append(f"speech features '{features.name}', {array.shape[2]} wide")
    try:
        from being.audio.feature_windows import encode as encode_sound

        ours = encode_sound(sound, count, ENCODER)
    except EnvironmentFault as fault:
        if not job.features:
            raise
        job.report.missing.append(
            f"speech features '{ENCODER}' ({fault.what}): train with -o data.encoder="
            f"{next(iter(job.features))}"
        )
        return
    np.save(job.part / f"aud_{ENCODER}.npy", ours)
    job.features = {ENCODER: {"file": f"aud_{ENCODER}.npy", "width": ours.shape[2]}, **job.features}
    job.report.rebuilt.append(f"speech features '{ENCODER}', {ours.shape[2]} wide")


def _units(job: Job) -> None:
    """au.csv: theirs, or made from the blendshapes."""
    from being.face.action_units import write_au

    file, a = job.folder.units, job.alignment
    if file is None:
        write_au(job.part / "au.csv", job.landmarks)
        job.report.rebuilt.append("blink (au.csv)")
        return
    columns = layout.read_units(file)
    rows = len(columns["AU45_r"])
    if int(a.units[-1]) + 1 - rows > SPARE_ROWS:
        raise InputRejected(
            f"{file} has {rows} rows",
            f"expected one for each of {int(a.units[-1]) + 1} frames",
            "Run OpenFace on the whole video, or remove the file to have it made anew",
        )
    odd = [
        name
        for name, column in columns.items()
        if name.startswith("AU") and not np.isfinite(column).all()
    ]
    if odd:
        raise InputRejected(
            f"{file}: {odd[0]} holds values that are not numbers",
            "expected 0 to 5",
            "Write the file again, or remove it to have it made anew",
        )
    write_units(
        job.part / "au.csv",
        {name: column[a.units.clip(0, rows - 1)] for name, column in columns.items()},
    )
    job.report.found.append(
        f"action units in au.csv, {sum(name.startswith('AU') for name in columns)} columns"
    )


def _manifest(job: Job, name: str, consent: str | None) -> None:
    for kept in KEPT:
        if (job.folder.path / kept).is_file():
            link(job.folder.path / kept, job.part / kept)
    report = job.report
    if job.missing:
        report.missing.append(f"a face or a camera in {len(job.missing)} frames: not trained on")
    write_json(
        job.part / "dataset.json",
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
                "folder": job.folder.path.name,
                "cameras": job.alignment.source,
                "first_picture": int(job.alignment.numbers[0]),
                "found": report.found,
                "rebuilt": report.rebuilt,
                "missing": report.missing,
            },
            "steps": {},
            "consent": Consent(consent).record(),
        },
    )
