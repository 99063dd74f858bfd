"""Adding torso mattes and whole source frames to an avatar that was made without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being.data.dataset import Dataset
from being.data.source_video import find_source
from being.data.surround import surround_of, torsos_of
from being.errors import InputRejected, UsageError
from being.locks import locked
from being.model.avatar import Avatar, load_avatar
from being.model.avatar_writing import add_parts
from being.paths import user_path
from being.preprocess.workspace import sha256
from being.runs.run_directory import Run

MATCH = 1e-4  # of the cameras of a pose and of its frame


def add_surround(folder: Path, source: Path | None = None) -> list[str]:
    """Write the parts into the avatar of the run at `folder`; returns their names.

    source: the recorded video; default: the one that the dataset holds. Raises UsageError where the
    folder is no run, InputRejected where the dataset is not that of the avatar, the video is
    another one, or there is none.
    """
    if not (folder / "run.json").is_file():
        raise UsageError(
            f"{folder} is no run",
            "the source frames come from the dataset that a run knows",
            "Give the folder of the run: being export RUN --surround",
        )
    dataset = Dataset.open(Run.open(folder).dataset)
    avatar = load_avatar(folder)
    poses = frames_of(avatar, dataset)
    video = _checked_video(dataset, source)
    surround = surround_of(dataset, poses, video)
    with locked(avatar.path, "writes this avatar"):
        add_parts(folder, torsos_of(dataset, poses, avatar.size), surround)
    return ["matte"] if surround is None else ["matte", "surround"]


def frames_of(avatar: Avatar, dataset: Dataset) -> range:
    """The frames of the dataset that are the avatar's poses."""
    wanted, cameras = avatar.world_to_camera.numpy(), dataset.world_to_camera
    count = len(wanted)
    for first in range(len(cameras) - count + 1):
        if np.abs(cameras[first : first + count] - wanted).max() < MATCH:
            return range(first, first + count)
    raise InputRejected(
        f"the poses of {avatar.path} are not in {dataset.path}",
        "the dataset was made again since the training",
        "Train again",
    )


def _checked_video(dataset: Dataset, source: Path | None) -> Path | None:
    """The source video of a dataset. Raises InputRejected for another video, or none."""
    known = dataset.manifest.get("source") or {}
    if source is None:
        found = find_source(dataset.path)
        if found is None and known.get("file"):
            raise InputRejected(
                f"{dataset.path} does not hold its source video",
                "it was too large to be kept" if known.get("crop") else "it was imported",
                f"Give {known['file']} with --source VIDEO",
            )
        return found
    source = user_path(source)
    try:
        digest = sha256(source)
    except OSError as error:
        raise InputRejected(f"{source} cannot be read", error.strerror or "") from error
    if digest != known.get("sha256"):
        raise InputRejected(
            f"{source} is not the video of {dataset.path}",
            "its sha256 is another",
            f"Give {known.get('file') or 'the video that the dataset was made of'}",
        )
    return source
