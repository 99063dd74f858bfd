"""From a video of a person to a dataset: the steps in their order, each one real work of another module."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from being import media
from being.conventions import FPS, SAMPLE_RATE
from being.errors import BeingError, InputRejected, UsageError
from being.files import check_place, make_folders, remove_empty, replace_folder, write_json
from being.preprocess import family
from being.preprocess.expression import write_au
from being.preprocess.facemap import BROW_TOP, CHIN
from being.preprocess.flow import point_flow
from being.preprocess.frames import FrameFolder, read_image, write_frames, write_image
from being.preprocess.landmarks import MESH_POINTS, FaceLandmarker, Landmarks
from being.preprocess.matting import decode as decode_parsing
from being.preprocess.matting import encode as encode_parsing
from being.preprocess.matting import parse_clip
from being.preprocess.mesh import canonical_mesh
from being.preprocess.plates import TorsoPlates, background_plate
from being.preprocess.probe import FACES_IN_MIN, PICTURE_SIDE, Preflight, check_length, picture_and_sound, preflight
from being.preprocess.sheet import contact_sheet, pose_axes
from being.preprocess.tracking import Track, project, track_head
from being.progress import Progress

SCHEMA = 1
ENCODER = "hama"

Advance = Callable[[int], None]


@dataclass
class _Work:
    """What the steps hand on to each other; `folder` is the dataset in the making."""

    video: Path
    folder: Path
    checked: Preflight
    landmarker: FaceLandmarker
    frames: FrameFolder = field(init=False)
    landmarks: Landmarks = field(init=False)
    track: Track = field(init=False)

    @property
    def size(self) -> int:
        return self.checked.size

    @property
    def missing(self) -> list[int]:
        return np.flatnonzero(~self.landmarks.found).tolist()

    def labels(self, i: int) -> np.ndarray:
        """Parts of frame i, uint8 [H, W] as `matting` numbers them."""
        return decode_parsing(read_image(self.folder / f"parsing/{i}.png"))


def preprocess(video: Path, out: Path, *, name: str | None = None, size: int | None = None,
               consent: str | None = None, force: bool = False, progress: type[Progress] = Progress) -> Path:
    """The path of a dataset made from a video of one speaking person.

    video: any file with a picture and sound that PyAV decodes. out: the dataset's directory; it appears under this
    name only when whole. name: by default the directory's. size: largest side of the pictures, px (512); a picture
    that is not square is cut to a square round the head. consent: whose face it is and how they agreed. force: replace
    a dataset that is already there. progress: shows each step.
    Raises InputRejected (the clip will not do: said within seconds where a look at it tells), BeingError (cannot
    write, or something is there already), EnvironmentFault (a pretrained file cannot be had).
    """
    video, out = Path(video), Path(out).absolute()
    name = out.name if name is None else name
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise UsageError(f"'{name}' cannot be the name of a subject", "runs lie in folders of that name",
                         "Give one without slashes: --name NAME")
    picture_and_sound(video)  # these refusals need no network, which may first have to be fetched
    folder, parents = _workplace(out, force), list[Path]()
    try:
        with progress("look at the clip"):
            landmarker = FaceLandmarker()
            checked = preflight(video, landmarker, size or PICTURE_SIDE)
        parents = make_folders(folder.parent)
        folder.mkdir()
        work = _Work(video, folder, checked, landmarker)
        steps = {}
        for label, step in STEPS:
            total = len(work.frames) if label != "frames" else round(checked.seconds * FPS)
            with progress(label, total, "frames") as shown:
                files = step(work, shown.advance)
            steps[label] = {"seconds": round(shown.seconds, 2), "digest": _digest(folder, files)}
        _write_manifest(work, name, steps, consent)
        replace_folder(folder, out)
    except OSError as error:
        raise BeingError(f"cannot write {out}", str(error), "Make room on the disk or choose another place") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        remove_empty(parents)
    return out


def _frames(work: _Work, advance: Advance) -> list[str]:
    pictures = (work.checked.cut(frame) for frame in media.read_frames(work.video))
    work.frames = write_frames(pictures, work.folder / "ori_imgs", advance)
    check_length(work.video, len(work.frames))
    return ["ori_imgs"]


def _landmarks(work: _Work, advance: Advance) -> list[str]:
    work.landmarks = work.landmarker.track(work.frames, advance)
    found = int(work.landmarks.found.sum())
    if found < FACES_IN_MIN * len(work.frames):
        raise InputRejected(f"{work.video} shows a face only part of the time",
                            f"in {found} of {len(work.frames)} frames",
                            "Record one person who looks at the camera, with the whole head in the picture")
    family.write_landmarks(work.folder, work.landmarks)
    family.write_mouth_masks(work.folder, work.landmarks, work.size, work.size)
    return ["landmarks.npz", "mouth_mask"]


def _head_pose(work: _Work, advance: Advance) -> list[str]:
    vertices, triangles = canonical_mesh()
    points = work.landmarks.points[:, :MESH_POINTS, :2]
    flow = point_flow(work.frames, points, progress=advance)
    work.track = track_head(points, work.size, work.size, vertices, triangles, flow=flow)
    family.write_track(work.folder, work.track, triangles)
    family.write_transforms(work.folder, work.track, work.size, work.size, work.missing)
    return ["track_params.pt", "mesh.npz", "transforms_train.json", "transforms_val.json"]


def _masks(work: _Work, advance: Advance) -> list[str]:
    (work.folder / "parsing").mkdir()
    (work.folder / "head_alpha").mkdir()
    for i, parts in enumerate(parse_clip(work.frames, work.landmarks.points)):
        write_image(work.folder / f"parsing/{i}.png", encode_parsing(parts.labels))
        write_image(work.folder / f"head_alpha/{i}.png", parts.head_alpha)
        advance(1)
    return ["parsing", "head_alpha"]


def _plates(work: _Work, advance: Advance) -> list[str]:
    points = work.landmarks.points[work.landmarks.found]
    face_height = float(np.median(np.linalg.norm(points[:, CHIN, :2] - points[:, BROW_TOP, :2], axis=1)))
    write_image(work.folder / "bc.jpg", background_plate(work.frames, work.labels))
    torso = TorsoPlates.learn(work.frames, work.labels, face_height)
    (work.folder / "torso_imgs").mkdir()

    def write(i: int) -> None:
        write_image(work.folder / f"torso_imgs/{i}.png", torso.plate(work.frames[i], work.labels(i)))

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, range(len(work.frames))):
            advance(1)
    return ["bc.jpg", "torso_imgs"]


def _sheet(work: _Work, advance: Advance) -> list[str]:
    folder, track = work.folder, work.track
    axes = pose_axes(lambda points: project(track, points, work.size, work.size))
    sheet = contact_sheet(work.frames, work.landmarks.points, work.labels,
                          lambda i: read_image(folder / f"head_alpha/{i}.png"),
                          lambda i: read_image(folder / f"torso_imgs/{i}.png"), read_image(folder / "bc.jpg"), axes)
    write_image(folder / "contact_sheet.jpg", sheet)
    advance(len(work.frames))
    return ["contact_sheet.jpg"]


def _speech(work: _Work, advance: Advance) -> list[str]:
    from being.audio.features import encode

    frames = len(work.frames)
    samples = frames * SAMPLE_RATE // FPS
    sound = np.pad(work.checked.sound[:samples], (0, max(0, samples - len(work.checked.sound))))
    media.write_wav(work.folder / "aud.wav", sound)
    np.save(work.folder / f"aud_{ENCODER}.npy", encode(work.checked.sound, frames, ENCODER))
    advance(frames)
    return ["aud.wav", f"aud_{ENCODER}.npy"]


def _blink(work: _Work, advance: Advance) -> list[str]:
    write_au(work.folder / "au.csv", work.landmarks)
    advance(len(work.frames))
    return ["au.csv"]


STEPS: tuple[tuple[str, Callable[[_Work, Advance], list[str]]], ...] = (
    ("frames", _frames), ("landmarks", _landmarks), ("head pose", _head_pose), ("masks", _masks),
    ("plates", _plates), ("speech", _speech), ("blink", _blink), ("contact sheet", _sheet))


def _write_manifest(work: _Work, name: str, steps: dict[str, Any], consent: str | None) -> None:
    frames = len(work.frames)
    features = np.load(work.folder / f"aud_{ENCODER}.npy", mmap_mode="r")
    write_json(work.folder / "dataset.json", {
        "schema": SCHEMA, "name": name,
        "source": {"file": work.video.name, "sha256": _sha256(work.video), "crop": list(work.checked.crop)},
        "fps": FPS, "width": work.size, "height": work.size, "frames": frames, "segments": [[0, frames]],
        "features": {ENCODER: {"file": f"aud_{ENCODER}.npy", "width": features.shape[2]}},
        "missing": work.missing, "steps": steps,
        "consent": {"statement": consent} if consent else None})


def _workplace(out: Path, force: bool) -> Path:
    """The hidden sibling in which the dataset is made; what a killed run left there is removed."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not (out / "dataset.json").is_file():
            raise BeingError(f"{out} exists and is not a dataset", fix="Choose another place with --out")
        if not force:
            raise BeingError(f"the dataset {out} exists already", fix="Replace it with --force, or choose an --out")
    folder = out.with_name(f".{out.name}.part")
    check_place(folder)
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def _digest(folder: Path, names: list[str]) -> str:
    """sha256 over the names and contents of files and of all files in folders."""
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(folder)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
