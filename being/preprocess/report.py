"""`report.html` and `contact_sheet.jpg`: by what a person judges a dataset before training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being.data.dataset import Dataset
from being.preprocess.frames import FrameFolder, read_image, write_image
from being.preprocess.matting import decode as decode_parsing
from being.preprocess.sheet import contact_sheet, pose_axes


def write_report(folder: Path) -> None:
    """Write the report of the dataset at `folder` into it."""
    dataset = Dataset.open(folder)
    frames = FrameFolder(folder / "ori_imgs", dataset.frames)
    sheet = contact_sheet(frames, dataset.landmarks, lambda i: decode_parsing(read_image(folder / f"parsing/{i}.png")),
                          lambda i: read_image(folder / f"head_alpha/{i}.png"),
                          lambda i: read_image(folder / f"torso_imgs/{i}.png"), read_image(folder / "bc.jpg"),
                          pose_axes(lambda points: project(dataset, points)))
    write_image(folder / "contact_sheet.jpg", sheet)


def project(dataset: Dataset, points: np.ndarray) -> np.ndarray:
    """Pixels float32 [F, V, 2] of head-space points [V, 3] or [F, V, 3] in every frame's camera."""
    matrices = dataset.world_to_camera
    placed = points @ np.swapaxes(matrices[:, :3, :3], 1, 2) + matrices[:, None, :3, 3]
    centre = (np.array([dataset.width, dataset.height]) - 1) / 2
    return (placed[..., :2] / placed[..., 2:] * dataset.focal + centre).astype(np.float32)
