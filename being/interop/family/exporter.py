"""A dataset of ours as a directory that GaussianTalker, TalkingGaussian or InsTaG read and train on
unmodified.

What their readers open and how they index it is checked point by point in
tests/interop/family/test_exporter.py. Their trainers fix the width of the speech features at 29 (DeepSpeech):
ours are brought to it by a linear map that is written beside them, or kept whole, and then the line
of their code that has to change is named.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from being import media
from being.conventions import SAMPLE_RATE
from being.data.dataset import AGAIN, Dataset
from being.data.frames import FrameFolder, read_image, write_image
from being.data.parsing import decode_parsing
from being.errors import BeingError, InputRejected, UsageError
from being.face.action_units import NAMES, action_units
from being.face.landmarks import Landmarks
from being.files import load_arrays, load_pickled
from being.interop.family import layout
from being.interop.family.alignment import LEAST_FRAMES
from being.interop.family.facemesh import Cameras
from being.interop.family.parts import Skin, depth_of, rich_parsing, subdivided
from being.interop.family.writing import (
    each,
    link,
    sound_of_frames,
    write_track,
    write_transforms,
    write_units,
)
from being.paths import check_place, make_folders, remove_empty, replace_folder
from being.preprocess.segmentation.matting import BACKGROUND, HEAD
from being.preprocess.segmentation.teeth import teeth_masks

WIDTH = 29  # speech features that all three expect of DeepSpeech
UNITS = (
    "AU01",
    "AU04",
    "AU05",
    "AU06",
    "AU07",
    "AU25",
    "AU45",
)  # that TalkingGaussian and InsTaG read
LEAST_VERTICES = (
    20_000  # GaussianTalker starts from the vertices as they are; the tracker it knows gives 34,650
)
HELD_SECONDS = 12  # InsTaG's own validation part: the last 12 s
PRIOR_FRAMES = 500  # InsTaG's geometry is for the first frames only
NOTE = "READ_ME.txt"


@dataclass(frozen=True)
class System:
    """What one system wants of a directory."""

    title: str
    sound: str  # the file of its speech features
    line: str  # where it fixes their width
    rich: bool  # whether it tells hair, mouth and teeth apart
    priors: bool  # whether it reads depth and normals


SYSTEMS = {
    "gaussiantalker": System(
        "GaussianTalker",
        "aud_ds.npy",
        "scene/deformation.py, Deformation.__init__: self.audio_in_dim = 29",
        False,
        False,
    ),
    "talkinggaussian": System(
        "TalkingGaussian",
        "aud_ds.npy",
        "scene/motion_net.py, MotionNetwork.__init__ and "
        "MouthMotionNetwork.__init__, under 'deepspeech': self.audio_in_dim = 29",
        True,
        False,
    ),
    "instag": System(
        "InsTaG",
        "aud.npy",
        "scene/motion_net.py, under 'deepspeech': self.audio_in_dim = 29",
        True,
        True,
    ),
}


@dataclass
class Exported:
    """The directory made and what there is to say about it."""

    path: Path
    system: str
    written: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    change: str = ""  # the one line of their code to change; empty when none has to


@dataclass
class _Job:
    dataset: Dataset
    system: System
    part: Path
    report: Exported
    landmarks: Landmarks
    full_width: bool

    @property
    def frames(self) -> FrameFolder:
        return FrameFolder(self.dataset.path / "ori_imgs", self.dataset.frames)

    @property
    def listed(self) -> list[int]:
        """Frames that the split files may name: their readers open the landmarks of each."""
        return [
            i
            for i in range(self.dataset.frames)
            if (self.dataset.path / f"ori_imgs/{i}.lms").is_file()
            and i not in set(self.dataset.missing)
        ]

    def labels(self, i: int) -> np.ndarray:
        return decode_parsing(read_image(self.dataset.path / f"parsing/{i}.png"))


def export_family(
    path: Path, system: str, out: Path, *, full_width: bool = False, force: bool = False
) -> Exported:
    """A directory at `out` for `system` ("gaussiantalker", "talkinggaussian", "instag") of the
    dataset at `path`.

    full_width: keep all channels of our speech features; the line of their code to change is then
    named. Raises InputRejected naming what the dataset lacks; nothing is left behind then.
    """
    if system not in SYSTEMS:
        raise UsageError(f"there is no export for '{system}'", fix=f"One of: {', '.join(SYSTEMS)}")
    dataset, out = Dataset.open(path), Path(out).absolute()
    if (
        out.exists()
        and any(out.iterdir() if out.is_dir() else [out])
        and not (force and (out / NOTE).is_file())
    ):
        raise BeingError(
            f"{out} exists already",
            "only an earlier export is replaced, with --force",
            "Choose another place with --out",
        )
    check_place(out.with_name(f".{out.name}.part"))
    data = load_arrays(dataset.path / "landmarks.npz", AGAIN)
    if "blendshapes" not in data or "confidence" not in data:
        raise InputRejected(
            f"{dataset.path / 'landmarks.npz'} holds {', '.join(data)}",
            "expected blendshapes and confidence beside the points",
            AGAIN,
        )
    landmarks = Landmarks(dataset.landmarks, data["blendshapes"], data["confidence"])
    part, parents = out.with_name(f".{out.name}.part"), make_folders(out.parent)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        job = _Job(dataset, SYSTEMS[system], part, Exported(out, system), landmarks, full_width)
        if len(job.listed) < LEAST_FRAMES:
            raise InputRejected(
                f"{dataset.path} has {len(job.listed)} frames with a face and landmarks",
                f"{job.system.title} needs some seconds",
                "Record a longer clip",
            )
        for step in (_pictures, _masks, _cameras, _sound, _speech, _units):
            step(job)
        if job.system.priors:
            _priors(job)
        _note(job)
        replace_folder(part, out)
    except OSError as error:
        raise BeingError(
            f"cannot write {out}", str(error), "Make room on the disk or choose another place"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        remove_empty(parents)
    return job.report


def _pictures(job: _Job) -> None:
    """ori_imgs with .lms, torso_imgs, bc.jpg, and gt_imgs: the frame with its background replaced
    by bc.jpg.
    """
    source, background = job.dataset.path, read_image(job.dataset.path / "bc.jpg")
    for name in ("ori_imgs", "torso_imgs", "gt_imgs"):
        (job.part / name).mkdir()
    link(source / "bc.jpg", job.part / "bc.jpg")

    def write(i: int) -> None:
        for name in (f"ori_imgs/{i}.jpg", f"ori_imgs/{i}.lms", f"torso_imgs/{i}.png"):
            if (source / name).is_file():
                link(source / name, job.part / name)
        behind = job.labels(i) == BACKGROUND
        write_image(
            job.part / f"gt_imgs/{i}.jpg", np.where(behind[..., None], background, job.frames[i])
        )

    each(write, job.dataset.frames, "pictures")
    job.report.written.append(
        f"ori_imgs, gt_imgs, torso_imgs, bc.jpg: {job.dataset.frames} frames of "
        f"{job.dataset.width} x {job.dataset.height} px"
    )


def _masks(job: _Job) -> None:
    """parsing/%d.png in the system's palette, and teeth masks where it reads them."""
    source, part = job.dataset.path, job.part
    (part / "parsing").mkdir()
    if not job.system.rich:
        each(
            lambda i: link(source / f"parsing/{i}.png", part / f"parsing/{i}.png"),
            job.dataset.frames,
            "masks",
        )
        job.report.written.append("parsing")
        return
    (part / "teeth_mask").mkdir()
    skin = Skin.learn(job.frames, job.landmarks.points, job.labels)
    theirs = all((source / f"parsing_hair/{i}.png").is_file() for i in range(job.dataset.frames))
    known = all((source / f"teeth_mask/{i}.png").is_file() for i in range(job.dataset.frames))
    masks = (
        (read_image(source / f"teeth_mask/{i}.png") for i in range(job.dataset.frames))
        if known
        else teeth_masks(job.frames, job.landmarks.points, job.dataset.segments)
    )
    for i, mask in enumerate(masks):
        np.save(part / f"teeth_mask/{i}.npy", (mask > 127) & (job.labels(i) == HEAD))

    def write(i: int) -> None:
        labels, picture = job.labels(i), job.frames[i]
        mouth = _mouth(source / f"mouth_mask/{i}.png", labels.shape) & (labels == HEAD)
        if theirs:
            link(source / f"parsing_hair/{i}.png", part / f"parsing/{i}.png")
        else:
            write_image(
                part / f"parsing/{i}.png",
                rich_parsing(
                    picture,
                    labels,
                    job.landmarks.points[i],
                    mouth,
                    np.load(part / f"teeth_mask/{i}.npy"),
                    skin,
                ),
            )

    each(write, job.dataset.frames, "masks")
    job.report.written.append("parsing with hair and mouth, teeth_mask")
    if not theirs:
        job.report.notes.append(
            "hair is told from skin by colour: their face_parsing makes better masks of a person "
            "whose hair is coloured like skin"
        )


def _mouth(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    return read_image(file) > 127 if file.is_file() else np.zeros(shape[:2], bool)


def _cameras(job: _Job) -> None:
    """track_params.pt with vertices that GaussianTalker can start from, and the split files."""
    dataset = job.dataset
    track = load_pickled(dataset.path / "track_params.pt")
    mesh, triangles = dataset.mesh
    vertices = track["vertices"].float().numpy().mean(0) if "vertices" in track else mesh.mean(0)
    if len(vertices) <= len(mesh[0]):
        vertices = subdivided(mesh.mean(0).astype(np.float64), triangles, LEAST_VERTICES)
    euler, trans = (track[name].float().numpy() for name in ("euler", "trans"))
    numbers = {
        name: track[name].float().numpy() if name in track else None for name in ("id", "exp")
    }
    write_track(job.part, euler, trans, dataset.focal, vertices, numbers["id"], numbers["exp"])
    held = HELD_SECONDS * 25 + 1 if job.system.priors else 0
    border = dataset.frames - held if dataset.frames > 2 * held > 0 else dataset.frames * 10 // 11
    parts = {
        "train": [i for i in job.listed if i < border],
        "val": [i for i in job.listed if i >= border],
    }
    write_transforms(job.part, parts, euler, trans, dataset.focal, dataset.width, dataset.height)
    job.report.written.append(
        f"track_params.pt: {len(vertices)} vertices, focal length {dataset.focal:g} px; "
        f"transforms: {len(parts['train'])} train, {len(parts['val'])} val frames"
    )
    absent = dataset.frames - len(job.listed)
    if absent:
        job.report.notes.append(f"{absent} frames without a face are in no split")
    if len(dataset.segments) > 1:
        job.report.notes.append(
            "the clip has breaks, which these systems do not know: sound windows cross them"
        )


def _sound(job: _Job) -> None:
    """aud.wav, and GaussianTalker's halves: the first 10/11 and the last 1/11."""
    samples = media.read_audio(job.dataset.sound_file)
    samples = sound_of_frames(samples, 0, job.dataset.frames)
    border = job.dataset.frames * 10 // 11
    for name, first, count in (
        ("aud.wav", 0, job.dataset.frames),
        ("aud_train.wav", 0, border),
        ("aud_novel.wav", border, job.dataset.frames - border),
    ):
        media.write_wav(job.part / name, sound_of_frames(samples, first, count), SAMPLE_RATE)
    job.report.written.append("aud.wav, aud_train.wav, aud_novel.wav")


def _speech(job: _Job) -> None:
    """Speech features under the name the system reads: DeepSpeech's where the dataset has them,
    else ours.
    """
    dataset, known = job.dataset, job.dataset.manifest["features"]
    for name in known:
        values = dataset.features(name)
        if name not in ("hama", layout.PROJECTED):
            np.save(job.part / f"aud_{name}.npy", values)
    if layout.PROJECTED in known and (dataset.path / layout.PROJECTION).is_file():
        link(dataset.path / layout.PROJECTION, job.part / layout.PROJECTION)
        np.save(job.part / job.system.sound, dataset.features(layout.PROJECTED))
        job.report.written.append(f"{job.system.sound}: as in the export that was imported")
        return
    if "ds" in known and known["ds"]["width"] == WIDTH:
        if job.system.sound != "aud_ds.npy":
            np.save(job.part / job.system.sound, dataset.features("ds"))
        job.report.written.append(f"{job.system.sound}: DeepSpeech's, as they were imported")
        return
    if "hama" not in known:
        raise InputRejected(
            f"{dataset.path} has neither 'hama' nor DeepSpeech features",
            f"it has {', '.join(known)}",
            f"Extract DeepSpeech features of aud.wav into {job.system.sound} with their script",
        )
    values = dataset.features("hama")
    if job.full_width:
        job.report.change = (
            f"{job.system.line.replace(str(WIDTH), str(values.shape[2]))} (it says {WIDTH})"
        )
        job.report.written.append(f"{job.system.sound}: 'hama' features, {values.shape[2]} wide")
    else:
        matrix, share = projection(values)
        np.savez(job.part / layout.PROJECTION, matrix=matrix, encoder="hama")
        values = values @ matrix
        job.report.written.append(
            f"{job.system.sound}: 'hama' features brought to {WIDTH} channels "
            f"({share:.0%} of their variance) by the matrix in {layout.PROJECTION}"
        )
    np.save(job.part / job.system.sound, values.astype(np.float32))


def projection(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Matrix float32 [C, 29] onto the strongest directions of speech features [F, 16, C], and the
    share they keep.

    Nothing is subtracted: silence outside a clip (zeros) stays zero, and the map folds into a
    convolution. The result's root mean square is 1; narrower features are followed by zeros.
    """
    middle = features.shape[1] // 2
    steps = features[:, middle - 1 : middle + 1].reshape(-1, features.shape[2]).astype(np.float64)
    values, vectors = np.linalg.eigh(steps.T @ steps / len(steps))
    order = np.argsort(-values)[:WIDTH]
    kept, chosen = values[order].sum(), vectors[:, order]
    sign = np.sign(
        chosen[np.abs(chosen).argmax(0), np.arange(len(order))]
    )  # the same on every machine
    scale = sign * np.sqrt(WIDTH / max(kept, 1e-12))
    matrix = np.zeros((len(vectors), WIDTH), np.float32)
    matrix[:, : len(order)] = chosen * scale
    return matrix, float(kept / max(values.sum(), 1e-12))


def _units(job: _Job) -> None:
    """au.csv: the dataset's columns, completed to those that are read; names with OpenFace's blank
    and without.
    """
    columns = layout.read_units(job.dataset.path / "au.csv")
    columns = {name: column[: job.dataset.frames] for name, column in columns.items()}
    absent = [unit for unit in UNITS if f"{unit}_r" not in columns]
    if absent:
        ours = action_units(job.landmarks)
        columns |= {f"{unit}_r": ours[:, NAMES.index(unit)] for unit in absent}
        job.report.notes.append(f"{', '.join(absent)} are estimated from our landmarks")
    write_units(job.part / "au.csv", columns, (" ", ""))
    job.report.written.append("au.csv")


def _priors(job: _Job) -> None:
    """Sapiens' places: depth of the tracked face; normals of zero, which leave InsTaG's normal term
    without effect.
    """
    dataset, (vertices, triangles) = job.dataset, job.dataset.mesh
    track = load_pickled(dataset.path / "track_params.pt")
    cameras = Cameras(
        track["euler"].float().numpy(),
        track["trans"].float().numpy(),
        dataset.focal,
        dataset.width,
        dataset.height,
    )
    folders = [job.part / f"sapiens/{kind}/sapiens_0.3b" for kind in ("depth", "normal")]
    for folder in folders:
        folder.mkdir(parents=True)
    frames = job.listed[:PRIOR_FRAMES]

    def write(k: int) -> None:
        i = frames[k]
        camera = cameras.place(vertices[i].astype(np.float64), np.array([i]))
        depth = depth_of(camera[0], cameras.project(camera)[0], triangles, job.labels(i) == HEAD)
        np.save(folders[0] / f"{i}.npy", depth)
        if k:
            link(folders[1] / f"{frames[0]}.npy", folders[1] / f"{i}.npy")

    np.save(
        folders[1] / f"{frames[0]}.npy", np.zeros((dataset.height, dataset.width, 3), np.float32)
    )
    each(write, len(frames), "depth")
    job.report.written.append(f"sapiens/depth and sapiens/normal of the first {len(frames)} frames")
    job.report.notes.append(
        "depth is the tracked face's and normals are zero, which says nothing: run their "
        "sapiens scripts for better ones, or train with --long"
    )


def _note(job: _Job) -> None:
    """What lies here, for whoever opens the directory: a text, since some readers take every .json
    for cameras.
    """
    report = job.report
    lines = [
        f"Written for {job.system.title} from the dataset '{job.dataset.name}' by being.",
        "",
        *report.written,
    ]
    if report.notes:
        lines += ["", "Good to know:", *report.notes]
    if report.change:
        lines += ["", "One line of their code to change:", report.change]
    (job.part / NOTE).write_text("\n".join(lines) + "\n")
