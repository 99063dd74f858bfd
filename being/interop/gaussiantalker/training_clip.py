"""Finds the clip that a GaussianTalker checkpoint was trained on: poses, plates and features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from being import media
from being.audio import clip_features
from being.conventions import FEATURE_WINDOW
from being.data import cameras
from being.data.dataset import Dataset, is_in_range
from being.data.frames import read_image
from being.data.surround import surround_of, torsos_of
from being.errors import InputRejected
from being.interop.family import layout
from being.interop.family.alignment import Alignment, align
from being.interop.family.exporter import FEATURE_WIDTH, feature_projection
from being.interop.family.import_steps import centre_square, crop
from being.interop.family.writers import audio_of_frames
from being.interop.gaussiantalker.checkpoint import GaussianTalkerCheckpoint
from being.model.avatar_writing import PoseLoop
from being.reading.arrays import load_arrays

ENCODER = "hama"
# Size and focal length in px of AD-NeRF's Obama clip, for a checkpoint without a clip.
FRONTAL_SIZE = 512
FRONTAL_FOCAL = 1200 * 512 / 450
FRONTAL_DISTANCE = 7.0  # head units
WHITE = 255
BLINK = "AU45_r"
PROJECTION_FIX = "Remove it, or export again"


@dataclass
class TrainingClip:
    """What is known of the clip that a checkpoint was trained on."""

    loop: PoseLoop
    # the directory it lies in
    folder: Path
    # name of the features that the checkpoint was trained on
    encoder: str
    # float32 [F, 16, W], the features that the checkpoint was trained on
    features: np.ndarray | None = None
    # float32 [C, W]: the features that the checkpoint was trained on are ours times this matrix
    projection: np.ndarray | None = None
    # returns our features of the clip, float32 [F, 16, C]
    compute_our_features: Callable[[], np.ndarray] | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_training_clip(
    checkpoint: GaussianTalkerCheckpoint, path: Path, data: Path | None, max_poses: int
) -> TrainingClip:
    """The clip of the dataset `data`, else of the directory in cfg_args, else one frontal pose.

    path: the trained directory. Raises InputRejected when `data` does not fit the checkpoint.
    """
    if data is not None:
        return _clip_of_dataset(checkpoint, Dataset.open(data), max_poses)

    warnings = []
    if checkpoint.source is not None:
        try:
            return _clip_of_family(checkpoint, checkpoint.source, max_poses)
        except InputRejected as error:
            warnings.append(f"poses cannot be taken from {checkpoint.source}: {error.what}")
    else:
        warnings.append("the data directory it was trained on is not there")
    warnings.append("one frontal pose on a white plate: give the clip with --data DATASET")
    return TrainingClip(
        _frontal_pose(checkpoint, path),
        path,
        layout.FEATURE_WIDTHS.get(checkpoint.audio_width, "aud"),
        warnings=warnings,
    )


# --- a dataset


def _clip_of_dataset(
    checkpoint: GaussianTalkerCheckpoint, dataset: Dataset, max_poses: int
) -> TrainingClip:
    """Poses, plates and features of a dataset.

    Raises InputRejected when it has no features of the checkpoint's width.
    """
    if dataset.width != dataset.height:
        raise InputRejected(
            f"{dataset.path} has images of {dataset.width} x {dataset.height} px",
            "avatars are square",
            "Import it again",
        )

    # The features that the checkpoint was trained on: by their width, or as a projection of ours.
    width, known = checkpoint.audio_width, dataset.manifest["features"]
    matching = [name for name, entry in known.items() if entry["width"] == width]
    folders = [dataset.path, *([checkpoint.source] if checkpoint.source else [])]
    projection, notes = _read_projection(folders, width), []
    if not matching and projection is None and ENCODER in known and width == FEATURE_WIDTH:
        projection = feature_projection(dataset.features(ENCODER))[0]
        notes.append(f"assumed to be trained on an export of {dataset.path}")
    if not matching and projection is None:
        raise InputRejected(
            f"{checkpoint.folder / 'deformation.pth'} needs {width}-wide speech features",
            f"{dataset.path} has {', '.join(known)}",
            "Give the dataset imported from the directory it was trained on: being data import DIR",
        )

    # Poses and plates of the longest run of frames with a face.
    poses = dataset.longest_face_run(max_poses)
    chosen = slice(poses.start, poses.stop)
    background = read_image(dataset.path / "bc.jpg")

    def plates() -> Iterator[np.ndarray]:
        for i in poses:
            torso = read_image(dataset.path / f"torso_imgs/{i}.png")
            yield torso_over_background(torso, background)

    loop = PoseLoop(
        dataset.name,
        dataset.width,
        dataset.focal,
        torch.from_numpy(dataset.world_to_camera[chosen]),
        torch.from_numpy(dataset.blink[chosen]),
        plates(),
        dataset.manifest.get("consent"),
        torsos=torsos_of(dataset, poses, dataset.width),
        surround=surround_of(dataset, poses),
    )
    # A match of another encoder is preferred.
    encoder = [*(name for name in matching if name != ENCODER), *matching, "ds"][0]
    return TrainingClip(
        loop,
        dataset.path,
        encoder,
        features=dataset.features(encoder) if matching else None,
        projection=projection,
        compute_our_features=(lambda: dataset.features(ENCODER)) if ENCODER in known else None,
        notes=notes,
    )


# --- a directory of the family


def _clip_of_family(
    checkpoint: GaussianTalkerCheckpoint, source: Path, max_poses: int
) -> TrainingClip:
    """Poses, plates and features of the family directory that the checkpoint was trained on."""
    folder = layout.read_folder(source)
    alignment, square = align(folder), centre_square(folder)
    count = min(len(alignment.image_numbers), max_poses)
    warnings: list[str] = []
    loop = PoseLoop(
        source.resolve().name,
        square[2],
        alignment.focal,
        torch.from_numpy(cameras.world_to_camera(alignment.euler[:count], alignment.trans[:count])),
        torch.from_numpy(_blink(folder, alignment, count)),
        _plates(folder, alignment.image_numbers[:count], square, warnings),
        None,
    )

    # The features that the checkpoint was trained on.
    shape = (FEATURE_WINDOW, checkpoint.audio_width)
    matching = [entry for entry in folder.features if entry.shape[1:] == shape]
    features, encoder = None, layout.FEATURE_WIDTHS.get(checkpoint.audio_width, "aud")
    if matching:
        rows = alignment.audio_rows.clip(0, matching[0].shape[0] - 1)
        features = np.array(layout.load_array(matching[0].file)[rows], np.float32)
        encoder = matching[0].name

    def compute_our_features() -> np.ndarray:
        samples = np.concatenate([media.read_audio(file) for file in folder.audio])
        frames = len(alignment.image_numbers)
        audio = audio_of_frames(samples, int(alignment.audio_rows[0]), frames)
        return clip_features.encode_frames(audio, frames, ENCODER)

    return TrainingClip(
        loop,
        source,
        encoder,
        features=features,
        projection=_read_projection([source], checkpoint.audio_width),
        compute_our_features=compute_our_features,
        notes=[f"poses and plates from {source}"],
        warnings=warnings,
    )


def _plates(
    folder: layout.FamilyFolder,
    numbers: np.ndarray,
    square: tuple[int, int, int],
    warnings: list[str],
) -> Iterator[np.ndarray]:
    """The plates uint8 [S, S, 3] of the images `numbers`, white where the directory has none."""
    missing = sum(int(n) not in folder.torso for n in numbers)
    if missing or folder.background is None:
        warnings.append(
            f"{folder.path} lacks bc.jpg or {missing} torso images: they are replaced by white"
        )
    background = np.full((square[2], square[2], 3), WHITE, np.uint8)
    if folder.background is not None:
        background = crop(read_image(folder.background), square)

    def plates() -> Iterator[np.ndarray]:
        for n in numbers:
            if int(n) in folder.torso:
                torso = crop(read_image(folder.torso[int(n)]), square)
                yield torso_over_background(torso, background)
            else:
                yield background

    return plates()


def _blink(folder: layout.FamilyFolder, alignment: Alignment, count: int) -> np.ndarray:
    """The blink in [0, 1] of the first `count` frames, float32 [count, 1]; 0 without an au.csv."""
    blink = np.zeros((count, 1), np.float32)
    if folder.action_units is not None:
        column = layout.read_action_units(folder.action_units)[BLINK]
        rows = alignment.action_unit_rows[:count].clip(0, len(column) - 1)
        blink[:, 0] = np.clip(np.nan_to_num(column[rows]), 0, 2) / 2
    return blink


def torso_over_background(torso: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The plate uint8 [H, W, 3]: a torso [H, W, 4] RGBA over a background [H, W, 3]."""
    alpha = torso[..., 3:].astype(np.float32) / 255
    plate = np.where(alpha > 0, torso[..., :3], 0) * alpha + background[..., :3] * (1 - alpha)
    return (plate + 0.5).astype(np.uint8)


# --- no clip


def _frontal_pose(checkpoint: GaussianTalkerCheckpoint, path: Path) -> PoseLoop:
    """One pose from the front, with the head in the middle of a white image."""
    middle = checkpoint.model.gaussians.means.detach().median(0).values.numpy()
    trans = np.array([[-middle[0], -middle[1], -FRONTAL_DISTANCE]])
    white = np.full((FRONTAL_SIZE, FRONTAL_SIZE, 3), WHITE, np.uint8)
    return PoseLoop(
        path.resolve().name,
        FRONTAL_SIZE,
        FRONTAL_FOCAL,
        torch.from_numpy(cameras.world_to_camera(np.zeros((1, 3)), trans)),
        torch.zeros(1, 1),
        [white],
        None,
    )


def _read_projection(folders: list[Path], width: int) -> np.ndarray | None:
    """The matrix [C, width] that an export wrote beside its features, or None.

    The first folder that has one counts. Raises InputRejected for a file that is wrong.
    """
    files = (folder / layout.PROJECTION for folder in folders)
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    data = load_arrays(file, ("matrix", "encoder"), PROJECTION_FIX)
    matrix, encoder = data.get("matrix", np.zeros(0)), str(data.get("encoder", ""))[:80]
    if (
        matrix.dtype.kind != "f"
        or matrix.ndim != 2
        or not is_in_range(matrix)
        or encoder != ENCODER
    ):
        raise InputRejected(
            f"{file} holds a map {matrix.shape} of '{encoder}'",
            f"expected finite [channels, {width}] of '{ENCODER}'",
            PROJECTION_FIX,
        )
    return matrix.astype(np.float32) if matrix.shape[1] == width else None
