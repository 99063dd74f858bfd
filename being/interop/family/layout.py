"""Finds and checks the files in a dataset directory of ER-NeRF, GaussianTalker and others.

The layout follows the readers of AD-NeRF, RAD-NeRF, ER-NeRF, GaussianTalker, TalkingGaussian,
InsTaG and SyncTalk. No code from a file is run: arrays are read without pickles, tensors with
`weights_only`.
"""

from __future__ import annotations

import math
import re
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being.data.dataset import VALUE_MAX, is_in_range
from being.errors import InputRejected
from being.interop.family.camera_files import (
    TrackerPoses,
    Transforms,
    read_tracker_poses,
    read_transforms,
)
from being.names import check_links
from being.paths import check_folder, user_path
from being.reading import arrays
from being.reading.content import Unreadable, read_text, rejected
from being.reading.images import read_image_bytes
from being.reading.tables import read_rows

# Folders that may hold the frames, best first. com_imgs is AD-NeRF's name for gt_imgs.
IMAGE_FOLDERS = ("ori_imgs", "gt_imgs", "com_imgs")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LANDMARKS = 68
LANDMARK_FILE_MAX = 64 << 10  # bytes
FRAME_NAME = r"\d{1,9}"

# Files of speech features -> the family's short names of their encoders.
FEATURE_FILES = {
    "aud_ds.npy": "ds",
    "aud_eo.npy": "eo",
    "aud_hu.npy": "hu",
    "aud_hu_cn.npy": "hu_cn",
    "aud_ave.npy": "ave",
}
# Width of the features -> encoder of a plain aud.npy.
FEATURE_WIDTHS = {29: "ds", 44: "eo", 1024: "hu", 512: "ave"}
# Written by our export: the 29-wide features beside it are our features times this matrix.
PROJECTION = "aud_projection.npz"
# The name of these projected features in a dataset.
PROJECTED = "hama29"

RECREATE = "Remove it: the import then computes a new one"


@dataclass(frozen=True)
class Features:
    """One array of speech features on disk."""

    name: str
    file: Path
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FamilyFolder:
    """A directory of the family: its files by frame number, and its cameras."""

    path: Path
    system: str
    # name of the folder that holds the frames
    image_folder: str
    images: dict[int, Path]
    width: int
    height: int
    landmarks: dict[int, Path]
    parsing: dict[int, Path]
    torso: dict[int, Path]
    teeth: dict[int, Path]
    background: Path | None
    # track_params.pt
    tracker: TrackerPoses | None
    # SyncTalk's bundle_adjustment.pt
    adjusted: TrackerPoses | None
    transforms: Transforms | None
    features: list[Features]
    # au.csv
    action_units: Path | None
    # files that together are the audio track
    audio: list[Path]


def read_folder(path: Path) -> FamilyFolder:
    """The family directory at `path`.

    Raises InputRejected naming the file that is wrong and what was expected.
    """
    path = user_path(path)
    check_folder(
        path,
        "a preprocessed clip",
        "Give the directory with ori_imgs, parsing and track_params.pt or transforms_train.json",
    )
    check_links(path)
    image_folder, images = _images(path)
    size = _common_size(images)

    # The cameras, in any of three files.
    tracker = read_tracker_poses(path / "track_params.pt")
    adjusted = read_tracker_poses(path / "bundle_adjustment.pt")
    transforms = read_transforms(path)
    if tracker is None and transforms is None and adjusted is None:
        raise InputRejected(
            f"{path} has no cameras",
            "neither track_params.pt nor transforms_train.json is there",
            "Run the system's head tracking and transforms steps, "
            "or make a dataset from the video: being preprocess VIDEO",
        )
    if transforms is not None and (transforms.width, transforms.height) != size:
        raise InputRejected(
            f"{transforms.files[0]} is for images of {transforms.width} x {transforms.height} px "
            "(cx, cy doubled)",
            f"those in {image_folder} are {_size_text(size)}",
            "Restore the images that were tracked, or track these",
        )

    # The images beside the frames must have the size of the frames.
    names = (path / name for name in ("bc.jpg", "bc.png"))
    background = next((file for file in names if file.is_file()), None)
    if background is not None:
        _check_size(background, size, RECREATE)
    folders = {
        name: _numbered_files(path / name, IMAGE_SUFFIXES) for name in ("parsing", "torso_imgs")
    }
    for name, files in folders.items():
        if files:
            _check_size(
                next(iter(files.values())),
                size,
                f"Remove the folder {name}: the import then computes a new one",
            )

    action_units = path / "au.csv"
    return FamilyFolder(
        path=path,
        system=_system(path, tracker),
        image_folder=image_folder,
        images=images,
        width=size[0],
        height=size[1],
        landmarks=_numbered_files(path / "ori_imgs", (".lms",)),
        parsing=folders["parsing"],
        torso=folders["torso_imgs"],
        teeth=_numbered_files(path / "teeth_mask", (".npy",)),
        background=background,
        tracker=tracker,
        adjusted=adjusted,
        transforms=transforms,
        features=_features(path),
        action_units=action_units if action_units.is_file() else None,
        audio=_audio_files(path),
    )


# --- readers of single files


def read_landmarks(file: Path) -> np.ndarray:
    """The 68 landmarks of a .lms file, float32 [68, 2] px (x, y)."""
    try:
        text = read_text(file, LANDMARK_FILE_MAX)
        lines = [line.split() for line in text.splitlines() if line.strip()]
        points = np.array([[float(number) for number in line] for line in lines])
    except (OSError, ValueError, Unreadable) as error:
        raise rejected(file, error, RECREATE) from error
    if points.shape != (LANDMARKS, 2) or not is_in_range(points):
        raise InputRejected(
            f"{file} holds an array of {points.shape}",
            f"expected {LANDMARKS} lines of 'x y'",
            RECREATE,
        )
    return points.astype(np.float32)


def read_action_units(file: Path) -> dict[str, np.ndarray]:
    """Columns of an au.csv by name without blanks; float64 [rows], NaN where a field is no number.

    Raises InputRejected without a column AU45_r, or when a row has too many or too few fields.
    """
    numbers: list[array[float]] = []
    try:
        rows = read_rows(file)
        names = [name.strip() for name in next(rows, [])]
        if "AU45_r" not in names:
            raise InputRejected(
                f"{file} has no column AU45_r",
                f"its columns are {', '.join(names[:8]) or 'none'}",
                "Run OpenFace's FeatureExtraction with -aus, "
                "or remove the file: the import then computes a new one",
            )
        for i, row in enumerate(rows):
            if len(row) != len(names):
                raise InputRejected(
                    f"{file} line {i + 2} has {len(row)} fields",
                    f"the first has {len(names)}",
                    "Write the file again, or remove it: the import then computes a new one",
                )
            numbers.append(array("d", map(_number, row)))
    except (OSError, Unreadable) as error:
        raise rejected(file, error, RECREATE) from error

    # The first of two columns with one name counts.
    table = np.array(numbers, np.float64).reshape(-1, len(names))
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        columns.setdefault(name, table[:, i])
    return columns


def _number(text: str) -> float:
    """The number that a field holds, NaN where it is none or beyond VALUE_MAX."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if abs(value) <= VALUE_MAX else math.nan


def load_array(file: Path) -> np.ndarray:
    """A .npy file, memory-mapped. Raises InputRejected for pickles and broken files."""
    fix = "Save it again with numpy.save of a float array, or remove it"
    return arrays.load_array(file, fix, mapped=True)


# --- parts of a directory


def _numbered_files(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files of a folder by the number in their name, ascending.

    Raises InputRejected for two files with one number.
    """
    files: dict[int, Path] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.suffix.lower() in suffixes and re.fullmatch(FRAME_NAME, file.stem):
            number = int(file.stem)
            if number in files:
                raise InputRejected(
                    f"{file} and {files[number].name} have the same number",
                    "a frame needs one file",
                    "Remove one of them",
                )
            files[number] = file
    return dict(sorted(files.items()))


def _images(path: Path) -> tuple[str, dict[int, Path]]:
    """The folder that holds the frames, and its files by number."""
    for name in IMAGE_FOLDERS:
        files = _numbered_files(path / name, IMAGE_SUFFIXES)
        if files:
            return name, files
    raise InputRejected(
        f"{path} has no images",
        "looked for ori_imgs/NUMBER.jpg or .png",
        "Extract the video's frames at 25 fps into ori_imgs",
    )


def _image_size(file: Path) -> tuple[int, int]:
    """Width and height of an image file, px."""
    try:
        return read_image_bytes(file)[1]
    except (OSError, Unreadable) as error:
        raise rejected(file, error, "Extract it again") from error


def _common_size(images: dict[int, Path]) -> tuple[int, int]:
    """Width and height of all images. Raises InputRejected when two differ."""
    sizes = {number: _image_size(file) for number, file in images.items()}
    first = next(iter(sizes.values()))
    other = next((number for number, size in sizes.items() if size != first), None)
    if other is not None:
        raise InputRejected(
            f"{images[other]} is {_size_text(sizes[other])} px",
            f"the first image is {_size_text(first)}",
            "All frames must be of one size: extract them again",
        )
    return first


def _check_size(file: Path, size: tuple[int, int], fix: str) -> None:
    """Raise InputRejected unless the image has this size."""
    found = _image_size(file)
    if found != size:
        raise InputRejected(
            f"{file} is {_size_text(found)} px", f"the frames are {_size_text(size)}", fix
        )


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _features(path: Path) -> list[Features]:
    """Speech features: named by the file's suffix, those of a plain aud.npy by their width."""
    names = {file: name for file, name in FEATURE_FILES.items() if (path / file).is_file()}
    if (path / "aud.npy").is_file():
        width = load_array(path / "aud.npy").shape[-1:]
        name = FEATURE_WIDTHS.get(width[0] if width else 0, "aud")
        if name not in names.values():
            names["aud.npy"] = name

    found = []
    for file, name in names.items():
        values = load_array(path / file)
        if values.ndim != 3 or not values.size or values.dtype.kind != "f":
            raise InputRejected(
                f"{path / file} is {values.dtype} {values.shape}",
                "expected float [frames, 16, width] (HuBERT: [frames, 2, 1024])",
                "Extract the speech features again, or remove the file",
            )
        projected = (path / PROJECTION).is_file() and name == "ds"
        found.append(Features(PROJECTED if projected else name, path / file, values.shape))
    return found


def _audio_files(path: Path) -> list[Path]:
    """aud.wav, else GaussianTalker's two halves, else the only other wav file or video."""
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
        f"{path} has no audio",
        "looked for aud.wav, aud_train.wav with aud_novel.wav, one other wav or one video",
        "Put the video's audio there as aud.wav",
    )


def _system(path: Path, tracker: TrackerPoses | None) -> str:
    """The system whose preprocessing wrote the directory, as far as its files tell."""
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
    if tracker is not None and tracker.vertices is not None:
        return "GaussianTalker"
    return "RAD-NeRF or ER-NeRF"
