"""The source video inside a dataset: keeping it, and decoding the dataset's frames from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from being import media
from being.conventions import FPS
from being.preprocess.inspection.picture import dataset_frames

SOURCE_STEM = "source"  # of the video's name in a dataset; its suffix stays
RATE_MAX = 3_000_000 / 8  # bytes a second of the dataset: a larger video is not kept


def keep_source(video: Path, folder: Path, frames: int) -> None:
    """Put the video into the dataset at `folder`, which has this number of frames.

    It becomes a hard link where the disk allows one, which takes no space, else a copy. A video
    above RATE_MAX is not kept.
    """
    kept = folder / f"{SOURCE_STEM}{video.suffix.lower()}"
    kept.unlink(missing_ok=True)
    if video.stat().st_size > RATE_MAX * frames / FPS:
        return
    try:
        os.link(video.resolve(), kept)
    except OSError:  # another disk, or one without links
        shutil.copyfile(video, kept)


def find_source(folder: Path) -> Path | None:
    """The video that `keep_source` put into a dataset, or None."""
    return next((path for path in sorted(folder.glob(f"{SOURCE_STEM}.*")) if path.is_file()), None)


def source_frames(video: Path, manifest: dict[str, Any]) -> Iterator[np.ndarray]:
    """The frames uint8 [H, W, 3] RGB of a dataset, decoded again from its source video.

    manifest: the content of its dataset.json.
    """
    left, top, side = manifest["source"]["crop"]
    runs = [np.arange(first, first + count) for first, count in manifest["source"]["frames"]]
    return dataset_frames(
        media.probe(video), (left, top, side), manifest["width"], np.concatenate(runs)
    )
