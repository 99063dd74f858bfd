"""The source video of a dataset: keeping it in the dataset, and decoding frames from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from being import media
from being.conventions import FPS

SOURCE_STEM = "source"  # of the video's name in a dataset; its suffix stays
RATE_MAX = 3_000_000 / 8  # bytes a second of the dataset: a larger video is not kept


def keep_source(video: Path, folder: Path, frames: int, always: bool = False) -> None:
    """Put the video into the dataset at `folder`, which has this number of frames.

    It becomes a hard link where the disk allows one, which takes no space, else a copy. A video
    above RATE_MAX is not kept, unless `always`.
    """
    kept = folder / f"{SOURCE_STEM}{video.suffix.lower()}"
    kept.unlink(missing_ok=True)
    if not always and video.stat().st_size > RATE_MAX * frames / FPS:
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
    return dataset_frames(
        media.probe(video), (left, top, side), manifest["width"], source_frame_numbers(manifest)
    )


def source_frame_numbers(manifest: dict[str, Any]) -> np.ndarray:
    """The frame int64 [F] of the source video that each frame of a dataset shows."""
    runs = [np.arange(first, first + count) for first, count in manifest["source"]["frames"]]
    return np.concatenate(runs)


def dataset_frames(
    info: media.MediaInfo, crop: tuple[int, int, int], size: int, source_frames: np.ndarray
) -> Generator[np.ndarray, None, None]:
    """The frames `source_frames` of a clip as uint8 [size, size, 3] RGB, cropped to `crop`.

    source_frames: int64 [F], ascending in each segment. crop: left, top, side, px.
    """
    width, height, x, y = scaled_crop(info.width, info.height, crop, size)
    for whole in whole_frames(info, source_frames, width, height):
        yield np.ascontiguousarray(whole[y : y + size, x : x + size])


def scaled_crop(
    width: int, height: int, crop: tuple[int, int, int], size: int
) -> tuple[int, int, int, int]:
    """How a picture of width x height px becomes one of `size` px: scaled width and height, and
    left and top edge of the square that is cut from the scaled picture, px.

    crop: left, top, side, px of the picture.
    """
    left, top, side = crop
    scale = size / side
    scaled = round(width * scale), round(height * scale)
    return (
        *scaled,
        min(round(left * scale), scaled[0] - size),
        min(round(top * scale), scaled[1] - size),
    )


def whole_frames(
    info: media.MediaInfo, source_frames: np.ndarray, width: int, height: int
) -> Generator[np.ndarray, None, None]:
    """The frames `source_frames` int64 [F] of a clip, ascending, as uint8 [height, width, 3] RGB.

    A frame that is named twice is given twice. The clip may end early.
    """
    written = 0
    for number, (_, frame) in enumerate(media.read_timed_frames(info.path)):
        if written == len(source_frames):
            return
        if source_frames[written] == number:
            whole = media.rgb_image(frame, width, height)
            while written < len(source_frames) and source_frames[written] == number:
                yield whole
                written += 1
