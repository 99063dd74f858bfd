"""What stands around the head of an avatar: torso mattes, the background, whole source frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being import media
from being.data.clip import head_mask, open_image, open_rgb
from being.data.dataset import Dataset
from being.data.manifest import FRAME_PIXELS_MAX
from being.data.source_video import find_source, scaled_crop, source_frame_numbers, whole_frames
from being.threads import allowed_cores

HEAD_MASK_SIDE = 96  # px
EDGE = 1 / 128  # of the picture's side: how far background shows inside the mask of a torso
BLOCK = 64  # mattes that are computed at a time
CONTRAST_MIN = 3 * 20.0**2  # of torso and background, squared levels, to tell them apart


@dataclass(frozen=True)
class Surround:
    """The source frames of an avatar's poses, and where the avatar's square lies in them."""

    width: int  # px of a source frame, even
    height: int
    crop: tuple[float, float, float]  # left, top, side of the square, px of the source frame
    heads: np.ndarray  # uint8 [P, m, m], the mask of the person's own head in the square
    # The frames uint8 [height, width, 3] RGB of the poses, in order; they may end early.
    frames: Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Torsos:
    """How much of each plate is torso, and the background that shows through the rest."""

    background: np.ndarray  # uint8 [S, S, 3] RGB
    mattes: Callable[[], Iterator[np.ndarray]]  # uint8 [S, S] of each pose, 255 is torso


def torsos_of(dataset: Dataset, poses: range, size: int) -> Torsos:
    """The torso mattes of consecutive frames of a dataset, at `size` px."""

    background = open_rgb(dataset.path / "bc.jpg", size)

    def matte(i: int) -> np.ndarray:
        torso = np.asarray(open_image(dataset.path / f"torso_imgs/{i}.png", size, "RGBA"))
        return refined_matte(torso, background)

    def mattes() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(allowed_cores()) as pool:
            for first in range(poses.start, poses.stop, BLOCK):
                yield from pool.map(matte, range(first, min(first + BLOCK, poses.stop)))

    return Torsos(background, mattes)


def refined_matte(torso: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The matte uint8 [S, S] of a torso [S, S, 4] RGBA over its background [S, S, 3] RGB.

    The mask of a torso has a hard edge, whose pixels also show some of the background. Within EDGE
    of it, alpha is the share of the torso's colour in the pixel's: the colour c of the plate, that
    of the torso nearby t and the background b give (c - b)(t - b) / |t - b|^2.
    """
    # Imported here because an installation that only renders lacks OpenCV.
    import cv2

    size = torso.shape[0]
    reach = max(2, round(EDGE * size))
    alpha = torso[..., 3].astype(np.float32) / 255
    behind = background.astype(np.float32)
    colour = torso[..., :3].astype(np.float32)
    plate = np.where(alpha[..., None] > 0, colour, 0) * alpha[..., None]
    plate += behind * (1 - alpha[..., None])

    # The mask without its edge; beyond the borders of the picture the torso goes on.
    square = np.ones((2 * reach + 1,) * 2, np.uint8)
    hole = (alpha < 0.5).astype(np.uint8)
    inner = 1 - cv2.dilate(hole, square, borderType=cv2.BORDER_REPLICATE).astype(np.float32)
    window = (4 * reach + 1,) * 2

    def nearby(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)

    count = nearby(inner)
    torso_colour = nearby(inner[..., None] * plate) / np.maximum(count, 0.5)[..., None]
    contrast = np.square(torso_colour - behind).sum(-1)
    mixed = ((plate - behind) * (torso_colour - behind)).sum(-1) / np.maximum(contrast, 1e-6)
    known = (inner < 0.5) & (alpha > 0) & (count > 0.5) & (contrast > CONTRAST_MIN)
    found = np.where(known, np.minimum(np.clip(mixed, 0, 1), alpha), alpha)
    return (255 * found + 0.5).astype(np.uint8)


def surround_of(dataset: Dataset, poses: range, video: Path | None = None) -> Surround | None:
    """The surround of consecutive frames of a dataset.

    video: its source video; default: the one that the dataset holds. None where there is no video,
    where the dataset's square is the whole picture, and for frames above FRAME_PIXELS_MAX.
    """
    source = dataset.manifest.get("source") or {}
    video = video or find_source(dataset.path)
    if video is None or "crop" not in source or "frames" not in source:
        return None
    info = media.probe(video)
    left, top, side = source["crop"]
    if side >= max(info.width, info.height) or info.width * info.height > FRAME_PIXELS_MAX:
        return None

    # The square of the dataset, which was cut from the scaled frame at whole pixels of that.
    scaled_width, scaled_height, x, y = scaled_crop(
        info.width, info.height, (left, top, side), dataset.width
    )
    across, down = info.width / scaled_width, info.height / scaled_height
    crop = (x * across, y * down, dataset.width * across)

    # An encoder takes even sides.
    width, height = info.width // 2 * 2, info.height // 2 * 2
    numbers = source_frame_numbers(dataset.manifest)[poses.start : poses.stop]
    heads = np.stack([head_mask(dataset, i, HEAD_MASK_SIDE) for i in poses])

    def frames() -> Iterator[np.ndarray]:
        for frame in whole_frames(info, numbers, info.width, info.height):
            yield np.ascontiguousarray(frame[:height, :width])

    return Surround(width, height, crop, heads, frames)
