"""Fits bases for a finished avatar and writes them into its bundle: `add_bases`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.console import console
from being.data.dataset import Dataset
from being.data.expression_channels import load_expression
from being.data.mouth import load_mouth_code
from being.errors import BeingError, InputRejected
from being.locks import locked
from being.model import avatar_writing
from being.model.avatar import Avatar, load_avatar
from being.model.bases import Bases
from being.model.device import pick_device
from being.runs.run_directory import Run
from being.splat import select_backend
from being.train.bases_fit import Pictures, fit_bases, measure_bases
from being.train.bases_tuning import tune_bases
from being.train.driven_frames import DrivenFrames, Frames, frames_of_bundle

MATCH = 1e-4  # of the cameras of a pose and of its frame
PLATES = 16  # whose mean is the background of the fit's pictures


def add_bases(
    folder: Path, device: str = "auto", count: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Fit bases for the avatar of the run or bundle at `folder` and write them into it.

    Returns what they keep (JSON types). count: number of bases, by default the fewest that are good
    enough (`bases_fit.fit_bases`). The clip's frames come from the run's dataset; where it is not
    at hand, from the bundle. Raises InputRejected for an avatar whose network reads speech features
    instead of the mouth code, and as `load_avatar` does.
    """
    avatar = load_avatar(folder, pick_device(device))
    if avatar.voice is None:
        raise InputRejected(
            f"the avatar {avatar.path} cannot have bases",
            "its network reads speech features, and bases follow the mouth code",
            "Train it again with -o model.mouth=code",
        )
    avatar.model.backend = select_backend("auto", avatar.world_to_camera.device)
    bases, figures = fitted_bases(avatar, _driven_frames(folder, avatar), count, seed)
    with locked(avatar.path, "writes this avatar"):
        avatar_writing.add_bases(avatar.path, bases, figures)
    return {"count": bases.count, **figures}


def fitted_bases(
    avatar: Avatar, frames: DrivenFrames, count: int | None = None, seed: int = 0
) -> tuple[Bases, dict[str, Any]]:
    """Bases of the avatar, tuned on pictures, and what they keep; prints it. See `add_bases`."""
    device = avatar.world_to_camera.device
    poses = np.linspace(0, avatar.pose_count - 1, PLATES).round().astype(int)
    background = np.mean([avatar.plate(int(pose)) for pose in poses], 0, dtype=np.float32) / 255
    pictures = Pictures(
        avatar.model,
        avatar.focal,
        avatar.size,
        torch.from_numpy(background).permute(2, 0, 1).contiguous().to(device),
    )
    frames = frames.to(device)
    fitted = fit_bases(pictures, frames, seed, count)
    console.info(_table_text(fitted.table, fitted.bases.count))
    before = measure_bases(pictures, fitted.bases, frames.held_out)
    tuned = tune_bases(fitted.bases, pictures, frames, seed)
    after = measure_bases(pictures, tuned, frames.held_out)
    console.info(
        f"{tuned.count} bases with their coefficient net: {before:.1f} dB, tuned on pictures "
        f"{after:.1f} dB"
    )
    figures = {"variance": fitted.variance, "psnr": round(after, 2), "table": fitted.table}
    return tuned.requires_grad_(False), figures


def _table_text(table: list[dict[str, Any]], chosen: int) -> str:
    """The table of numbers of bases for the terminal."""
    lines = ["held-out frames by the best coefficients, against the network:"]
    for row in table:
        mark = "  <- chosen" if row["count"] == chosen else ""
        lines.append(
            f"{row['count']:>6} bases: variance {row['variance']:.2%}, "
            f"pictures {row['psnr']:.1f} dB{mark}"
        )
    return "\n".join(lines)


def _driven_frames(folder: Path, avatar: Avatar) -> DrivenFrames:
    """The frames of the run's dataset, or of the bundle where that is not at hand."""
    if (folder / "run.json").is_file():
        run = Run.open(folder)
        try:
            dataset = Dataset.open(run.dataset)
            if _is_of(avatar, dataset):
                data = run.config.data
                split = dataset.split(data.holdout, data.seconds, data.fold)
                held_out = np.concatenate([split.validation, split.test])
                return frames_of_clip(avatar, dataset, data.expression, split.train, held_out)
            reason = f"{dataset.path} was made again since the training"
        except BeingError as error:
            reason = str(error)
        console.info(f"the frames of the bundle are used: {reason}")
    return frames_of_bundle(avatar)


def frames_of_clip(
    avatar: Avatar, dataset: Dataset, channel_set: str, train: np.ndarray, held_out: np.ndarray
) -> DrivenFrames:
    """Frames `train` int [n] of the avatar's dataset, measured on the frames `held_out` int [m].

    channel_set: `data.expression` of the run.
    """
    code = load_mouth_code(dataset).values
    channels, expression = load_expression(dataset, channel_set)
    width = avatar.model.network.expression_width
    # As in training: the mouth follows the code, not these channels.
    expression = np.where(channels.is_mouth, 0.0, expression)[:, :width]

    def frames(index: np.ndarray) -> Frames:
        return Frames.of(code[index], expression[index], dataset.world_to_camera[index])

    measured = held_out if len(held_out) else train
    return DrivenFrames(frames(train), frames(measured), avatar.channels, together=True)


def _is_of(avatar: Avatar, dataset: Dataset) -> bool:
    """Whether the first pose of the avatar is a frame of the dataset."""
    pose = avatar.world_to_camera[0].cpu().numpy()
    return bool((np.abs(dataset.world_to_camera - pose).max((1, 2)) < MATCH).any())
