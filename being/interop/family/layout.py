"""What lies in a directory made by a system of the family: its files, found and checked, nothing
rebuilt yet.

Facts about the files: the readers of AD-NeRF, RAD-NeRF, ER-NeRF, GaussianTalker, TalkingGaussian,
InsTaG and SyncTalk. Nothing here runs code from a file: arrays are read without pickles, tensors
with `weights_only`.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.errors import InputRejected
from being.files import load_pickled

PICTURES = (
    "ori_imgs",
    "gt_imgs",
    "com_imgs",
)  # where frames lie, best first; com_imgs is AD-NeRF's name for gt_imgs
SUFFIXES = (".jpg", ".jpeg", ".png")
LANDMARKS = 68
NUMBER = r"\d{1,9}"  # names of frames
PARTS = ("train", "val", "test")
RIGID = 1e-3  # how far a camera matrix may be from a rotation
# aud_*.npy, by the family's names, and the width that tells a plain aud.npy apart.
FEATURE_FILES = {
    "aud_ds.npy": "ds",
    "aud_eo.npy": "eo",
    "aud_hu.npy": "hu",
    "aud_hu_cn.npy": "hu_cn",
    "aud_ave.npy": "ave",
}
PROJECTION = (
    "aud_projection.npz"  # written by our export: its 29-wide features are ours times this matrix
)
PROJECTED = "hama29"  # what those are called in a dataset
FEATURE_WIDTHS = {29: "ds", 44: "eo", 1024: "hu", 512: "ave"}


@dataclass(frozen=True)
class Poses:
    """Cameras as a tracker wrote them: euler [N, 3] radians, trans [N, 3] tracker units, focal px."""

    euler: np.ndarray
    trans: np.ndarray
    focal: float
    file: Path
    vertices: np.ndarray | None = None  # float32 [V, 3], the mean over the frames
    identity: np.ndarray | None = None  # float32 [1, 100]
    expression: np.ndarray | None = None  # float32 [N, 79]


@dataclass(frozen=True)
class Transforms:
    """All split files together, ascending by picture number."""

    focal: float
    width: int
    height: int
    ids: np.ndarray  # int64 [M], img_id
    audio: np.ndarray  # int64 [M], aud_id
    matrices: (
        np.ndarray
    )  # float64 [M, 4, 4], camera to world, shift in tenths of the tracker's unit
    parts: dict[str, list[int]]  # part -> img_ids
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Features:
    """One array of speech features on disk."""

    name: str
    file: Path
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Folder:
    """A family directory, its files by number."""

    path: Path
    system: str
    place: str  # the folder of the pictures
    pictures: dict[int, Path]
    width: int
    height: int
    landmarks: dict[int, Path]
    parsing: dict[int, Path]
    torso: dict[int, Path]
    teeth: dict[int, Path]
    background: Path | None
    track: Poses | None
    adjusted: Poses | None  # SyncTalk's bundle_adjustment.pt
    transforms: Transforms | None
    features: list[Features]
    units: Path | None  # au.csv
    sound: list[Path]  # files that together are the sound track


def read_folder(path: Path) -> Folder:
    """The family directory at `path`. Raises InputRejected naming the file that will not do and
    what was expected.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputRejected(
            f"{path} is not a directory",
            fix="Give the directory with ori_imgs, parsing and "
            "track_params.pt or transforms_train.json",
        )
    place, pictures = _pictures(path)
    width, height = _size(pictures)
    track, adjusted = (_poses(path / name) for name in ("track_params.pt", "bundle_adjustment.pt"))
    transforms = _transforms(path)
    if track is None and transforms is None and adjusted is None:
        raise InputRejected(
            f"{path} has no cameras",
            "neither track_params.pt nor transforms_train.json is there",
            "Run the system's head tracking and transforms steps, or make a dataset from the video: "
            "being preprocess VIDEO",
        )
    if transforms is not None and (transforms.width, transforms.height) != (width, height):
        raise InputRejected(
            f"{transforms.files[0]} is for pictures of {transforms.width} x {transforms.height} px "
            f"(cx, cy doubled)",
            f"those in {place} are {width} x {height}",
            "Put the pictures back that were tracked, or track these",
        )
    background = next(
        (path / name for name in ("bc.jpg", "bc.png") if (path / name).is_file()), None
    )
    if background is not None and _picture_size(background) != (width, height):
        raise InputRejected(
            f"{background} is {_text(_picture_size(background))} px",
            f"the frames are {width} x {height}",
            "Remove it to have it made anew",
        )
    folders = {name: _numbered(path / name, SUFFIXES) for name in ("parsing", "torso_imgs")}
    for name, files in folders.items():
        some = next(iter(files.values()), None)
        if some is not None and _picture_size(some) != (width, height):
            raise InputRejected(
                f"{some} is {_text(_picture_size(some))} px",
                f"the frames are {width} x {height}",
                f"Remove {name} to have it made anew",
            )
    units = path / "au.csv"
    return Folder(
        path,
        _system(path, track),
        place,
        pictures,
        width,
        height,
        _numbered(path / "ori_imgs", (".lms",)),
        folders["parsing"],
        folders["torso_imgs"],
        _numbered(path / "teeth_mask", (".npy",)),
        background,
        track,
        adjusted,
        transforms,
        _features(path),
        units if units.is_file() else None,
        _sound(path),
    )


def read_landmarks(file: Path) -> np.ndarray:
    """The 68 landmarks of a .lms file, float32 [68, 2] px (x, y)."""
    try:
        points = np.array(
            [
                [float(number) for number in line.split()]
                for line in file.read_text().splitlines()
                if line.strip()
            ],
            np.float32,
        )
    except (OSError, ValueError) as error:
        raise InputRejected(
            f"{file} cannot be read", str(error), "Remove it to have it made anew"
        ) from error
    if points.shape != (LANDMARKS, 2) or not np.isfinite(points).all():
        raise InputRejected(
            f"{file} holds an array of {points.shape}",
            f"expected {LANDMARKS} lines of 'x y'",
            "Remove it to have it made anew",
        )
    return points


def read_units(file: Path) -> dict[str, np.ndarray]:
    """Columns of an au.csv, names without blanks; float64 [rows], NaN where a field is no number."""
    try:
        with open(file, newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputRejected(
            f"{file} cannot be read", str(error), "Remove it to have it made anew"
        ) from error
    names = [name.strip() for name in rows[0]] if rows else []
    if "AU45_r" not in names:
        raise InputRejected(
            f"{file} has no column AU45_r",
            f"its columns are {', '.join(names[:8]) or 'none'}",
            "Run OpenFace's FeatureExtraction with -aus, or remove the file to have it made anew",
        )
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if uneven is not None:
        raise InputRejected(
            f"{file} line {uneven + 1} has {len(rows[uneven])} fields",
            f"the first has {len(names)}",
            "Write the file again, or remove it to have it made anew",
        )

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return float("nan")

    table = np.array([[number(text) for text in row] for row in rows[1:]]).reshape(-1, len(names))
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        columns.setdefault(name, table[:, i])
    return columns


def load_array(file: Path) -> np.ndarray:
    """A .npy file, memory-mapped. Raises InputRejected for pickles and broken files."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of several arrays")
        return array
    except Exception as error:  # numpy raises many kinds for a broken header
        raise InputRejected(
            f"{file} cannot be read as a plain array",
            (str(error).splitlines() or [""])[0],
            "Save it again with numpy.save of a float array, or remove it",
        ) from error


# --- pieces
# ---------------------------------------------------------------------------------------------------------


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files of a folder by the number in their name, ascending; two files of one number are
    refused.
    """
    files: dict[int, Path] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.suffix.lower() in suffixes and re.fullmatch(NUMBER, file.stem):
            number = int(file.stem)
            if number in files:
                raise InputRejected(
                    f"{file} and {files[number].name} have one number",
                    "a frame needs one file",
                    "Remove one of them",
                )
            files[number] = file
    return dict(sorted(files.items()))


def _pictures(path: Path) -> tuple[str, dict[int, Path]]:
    for name in PICTURES:
        files = _numbered(path / name, SUFFIXES)
        if files:
            return name, files
    raise InputRejected(
        f"{path} has no pictures",
        "looked for ori_imgs/NUMBER.jpg or .png",
        "Extract the video's frames at 25 fps into ori_imgs",
    )


def _picture_size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputRejected(
            f"{file} cannot be read as a picture", str(error).splitlines()[0], "Extract it again"
        ) from error


def _size(pictures: dict[int, Path]) -> tuple[int, int]:
    sizes = {number: _picture_size(file) for number, file in pictures.items()}
    first = next(iter(sizes.values()))
    other = next((number for number, size in sizes.items() if size != first), None)
    if other is not None:
        raise InputRejected(
            f"{pictures[other]} is {_text(sizes[other])} px",
            f"the first picture is {_text(first)}",
            "All frames must be of one size: extract them again",
        )
    return first


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _poses(file: Path) -> Poses | None:
    """Tracker parameters of `file`; None when there is no such file."""
    if not file.is_file():
        return None
    data = load_pickled(file)
    arrays: dict[str, np.ndarray] = {}
    if not isinstance(data, dict):
        raise InputRejected(
            f"{file} holds a {type(data).__name__}",
            "expected a dict of tensors: euler [N, 3], trans [N, 3], focal [1]",
            "Run the head tracking again",
        )
    for name in ("euler", "trans", "focal"):
        array = _array(data.get(name))
        if array is None or not array.size:
            raise InputRejected(
                f"{file} has no tensor '{name}'",
                f"it holds {', '.join(map(str, data)) or 'nothing'}",
                "Run the head tracking again",
            )
        arrays[name] = array
    euler, trans, focal = arrays["euler"], arrays["trans"], float(np.ravel(arrays["focal"])[0])
    for name in ("euler", "trans"):
        if (
            arrays[name].shape != (len(np.atleast_1d(euler)), 3)
            or not np.isfinite(arrays[name]).all()
        ):
            raise InputRejected(
                f"{file}: {name} is {arrays[name].shape}",
                "expected (frames, 3), all finite",
                "Run the head tracking again",
            )
    if not focal > 0 or not np.isfinite(focal):
        raise InputRejected(
            f"{file}: focal is {focal}",
            "expected a length in px above 0",
            "Run the head tracking again",
        )
    if not (trans[:, 2] < 0).all():
        raise InputRejected(
            f"{file}: trans puts the head behind the camera in {int((trans[:, 2] >= 0).sum())} frames",
            "its z must be negative, about -7",
            "Run the head tracking again",
        )
    return Poses(
        euler,
        trans,
        focal,
        file,
        _vertices(data.get("vertices"), file),
        _plain(data, "id", (1, 100)),
        _plain(data, "exp", (len(euler), 79)),
    )


def _plain(data: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    array = _array(data.get(name))
    return array if array is not None and array.shape == shape else None


def _array(value: Any) -> np.ndarray | None:
    """A plain tensor as float32; None for anything else."""
    import torch

    if (
        not isinstance(value, torch.Tensor)
        or value.layout is not torch.strided
        or value.is_quantized
        or value.is_complex()
    ):
        return None
    return value.detach().float().numpy()


def _vertices(value: Any, file: Path) -> np.ndarray | None:
    """The mean over the first axis of `vertices` [N, V, 3], taken piece by piece: the tensor may be
    of gigabytes.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        return None
    if (
        value.layout is not torch.strided
        or value.ndim != 3
        or value.shape[2] != 3
        or not value.shape[0]
    ):
        raise InputRejected(
            f"{file}: vertices is {tuple(value.shape)}",
            "expected (frames, V, 3)",
            "Remove the key to have a mesh made anew",
        )
    total: Any = sum(value[i : i + 64].double().sum(0) for i in range(0, len(value), 64))
    mean = (total / len(value)).float().numpy()
    if not np.isfinite(mean).all():
        raise InputRejected(
            f"{file}: vertices holds values that are not finite",
            "expected tracker units",
            "Remove the key to have a mesh made anew",
        )
    return mean


def _transforms(path: Path) -> Transforms | None:
    """transforms_train.json, _val and _test joined; transforms.json when there are no parts."""
    files = {
        part: path / f"transforms_{part}.json"
        for part in PARTS
        if (path / f"transforms_{part}.json").is_file()
    }
    if not files and (path / "transforms.json").is_file():
        files = {"train": path / "transforms.json"}
    if not files:
        return None
    heads: list[tuple[float, float, float]] = []
    entries: dict[int, tuple[int, int, np.ndarray]] = {}
    parts: dict[str, list[int]] = {}
    for part, file in files.items():
        head, frames = _transforms_file(file)
        heads.append(head)
        parts[part] = [entry[0] for entry in frames]
        if len(set(parts[part])) != len(parts[part]):
            raise InputRejected(
                f"{file} names a frame twice", "img_id must be unique", "Write the transforms again"
            )
        for entry in frames:
            known = entries.setdefault(entry[0], entry)
            if not np.allclose(known[2], entry[2], atol=1e-6):
                raise InputRejected(
                    f"{file} and {files[next(iter(files))].name} disagree",
                    f"on the camera of frame {entry[0]}",
                    "Write the transforms again",
                )
    if len(set(heads)) > 1:
        raise InputRejected(
            f"{' and '.join(file.name for file in files.values())} of {path} disagree",
            f"on focal_len, cx, cy: {', '.join(map(str, heads))}",
            "Write the transforms again",
        )
    order = sorted(entries)
    focal, cx, cy = heads[0]
    return Transforms(
        focal,
        round(2 * cx),
        round(2 * cy),
        np.array(order, np.int64),
        np.array([entries[i][1] for i in order], np.int64),
        np.stack([entries[i][2] for i in order]),
        parts,
        list(files.values()),
    )


def _transforms_file(
    file: Path,
) -> tuple[tuple[float, float, float], list[tuple[int, int, np.ndarray]]]:
    """(focal, cx, cy) and (img_id, aud_id, matrix) of each frame of one split file."""
    expected = "expected focal_len, cx, cy and frames with img_id and transform_matrix (4 x 4)"
    try:
        data = json.loads(file.read_text())
        head = tuple(float(data[key]) for key in ("focal_len", "cx", "cy"))
        frames = [
            (
                int(entry["img_id"]),
                int(entry.get("aud_id", entry["img_id"])),
                np.array(entry["transform_matrix"], np.float64),
            )
            for entry in data["frames"]
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InputRejected(
            f"{file} cannot be read",
            f"{type(error).__name__}: {error}; {expected}",
            "Write the transforms again",
        ) from error
    if not frames or not all(value > 0 and np.isfinite(value) for value in head):
        raise InputRejected(
            f"{file} describes no camera",
            f"focal_len, cx, cy are {head}, {len(frames)} frames; {expected}",
            "Write the transforms again",
        )
    for number, sound, matrix in frames:
        if not (0 <= number < 10**9 and abs(sound) < 10**9):
            raise InputRejected(
                f"{file} has a frame with img_id {number}, aud_id {sound}",
                "expected frame numbers",
                "Write the transforms again",
            )
        if (
            matrix.shape != (4, 4)
            or not np.isfinite(matrix).all()
            or np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > RIGID
            or np.linalg.det(matrix[:3, :3]) < 0
        ):
            raise InputRejected(
                f"{file}: transform_matrix of frame {number} is no camera",
                f"expected a finite 4 x 4 matrix with a rotation, got {matrix.shape}",
                "Write the transforms again",
            )
    return (head[0], head[1], head[2]), frames


def _features(path: Path) -> list[Features]:
    """Speech features, named by the family's suffix; a plain aud.npy by its width."""
    found = []
    names = {file: name for file, name in FEATURE_FILES.items() if (path / file).is_file()}
    if (path / "aud.npy").is_file():
        width = load_array(path / "aud.npy").shape[-1:]
        name = FEATURE_WIDTHS.get(width[0] if width else 0, "aud")
        if name not in names.values():
            names["aud.npy"] = name
    for file, name in names.items():
        array = load_array(path / file)
        if array.ndim != 3 or not array.shape[0] or array.dtype.kind != "f":
            raise InputRejected(
                f"{path / file} is {array.dtype} {array.shape}",
                "expected float [frames, 16, width] (HuBERT: [frames, 2, 1024])",
                "Extract the speech features again, or remove the file",
            )
        ours = (path / PROJECTION).is_file() and name == "ds"
        found.append(Features(PROJECTED if ours else name, path / file, array.shape))
    return found


def _sound(path: Path) -> list[Path]:
    """aud.wav; else GaussianTalker's two halves; else the one wav or video that lies there."""
    if (path / "aud.wav").is_file():
        return [path / "aud.wav"]
    halves = [path / "aud_train.wav", path / "aud_novel.wav"]
    if all(half.is_file() for half in halves):
        return halves
    for suffixes in ((".wav",), (".mp4", ".mov", ".avi", ".mkv")):
        files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in suffixes]
        if len(files) == 1:
            return files
    raise InputRejected(
        f"{path} has no sound",
        "looked for aud.wav, aud_train.wav with aud_novel.wav, one other wav or one video",
        "Put the video's sound there as aud.wav",
    )


def _system(path: Path, track: Poses | None) -> str:
    """Whose preprocessing made the directory, as far as its files tell."""
    signs = (
        ("SyncTalk", ("bundle_adjustment.pt", "bs.npy", "face_mask")),
        ("InsTaG", ("sapiens", "aud_ave.npy")),
        ("TalkingGaussian", ("teeth_mask",)),
        ("GaussianTalker", ("aud_train.wav", "aud_novel.wav")),
        ("AD-NeRF", ("com_imgs", "head_imgs", "HeadNeRF_config.txt")),
    )
    for system, names in signs:
        if any((path / name).exists() for name in names):
            return system
    if track is not None and track.vertices is not None:
        return "GaussianTalker"
    return "RAD-NeRF or ER-NeRF"
