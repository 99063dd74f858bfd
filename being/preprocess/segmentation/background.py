"""The background plate: an image of the background without the person, from a clip's frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from being.data.parsing import BACKGROUND

FAR_PX = 6.0  # at 512: a pixel nearer to the person than this may be mixed with their colour
CLEAR_PX = 12.0  # at 512: from this distance a pixel counts for the median over the frames
MIN_FRAMES = 3  # frames with a clear view of a pixel that a median needs
PLATE_FRAMES = 64  # frames of a clip that are read

Labels = Callable[[int], np.ndarray]  # frame number -> labels uint8 [H, W]


def sample_frames(length: int, count: int) -> list[int]:
    """Up to `count` frame numbers spread evenly over a clip of `length` frames."""
    return sorted({int(i) for i in np.linspace(0, length - 1, min(length, count)).round()})


def background_plate(
    frames: Sequence[np.ndarray], labels: Labels, count: int = PLATE_FRAMES
) -> np.ndarray:
    """The image without the person, uint8 [H, W, 3] RGB.

    frames: uint8 [H, W, 3] RGB each. labels(i): uint8 [H, W], BACKGROUND where frame i shows the
    background. A pixel is the median over the frames in which it is clear of the person. Without
    enough such frames it is the colour of the frame in which the person is farthest away (the
    family's rule). A pixel that is never visible is filled smoothly.
    """
    plate, known, _ = background_statistics(frames, labels, count)
    return fill_unknown(plate, known)


def background_statistics(
    frames: Sequence[np.ndarray], labels: Labels, count: int = PLATE_FRAMES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Background uint8 [H, W, 3], where it is known bool [H, W], and its spread float32 [H, W].

    The spread over time is in grey levels: the median absolute deviation of the worst channel; 255
    where there is no median. frames, labels: as in `background_plate`.
    """
    # Distance of every background pixel to the person.
    chosen = sample_frames(len(frames), count)
    images = np.stack([frames[i] for i in chosen])
    scale = images.shape[1] / 512
    distances = []
    for i in chosen:
        behind = (labels(i) == BACKGROUND).astype(np.uint8)
        distances.append(cv2.distanceTransform(behind, cv2.DIST_L2, 5))
    distance = np.stack(distances).astype(np.float16)

    # The colour of the frame in which the person is farthest away.
    best = distance.argmax(0)
    known = distance.max(0) > FAR_PX * scale
    plate = np.take_along_axis(images, best[None, ..., None], 0)[0]

    # The median where enough frames are clear. One row at a time, because a masked median of the
    # whole image needs much memory.
    spread = np.full(best.shape, 255, np.float32)
    clear = distance > CLEAR_PX * scale
    often = clear.sum(0) >= MIN_FRAMES
    for row in np.flatnonzero(often.any(1)):
        columns = often[row]
        values = np.where(clear[:, row, columns, None], images[:, row, columns], np.nan)
        values = values.astype(np.float32)
        median = np.nanmedian(values, 0)
        plate[row, columns] = median + 0.5
        spread[row, columns] = np.nanmedian(np.abs(values - median), 0).max(-1)
    return plate, known, spread


def fill_unknown(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`image` uint8 [H, W, 3] with its unknown pixels filled smoothly; known: bool [H, W]."""
    if not known.any():
        return np.full_like(image, 127)
    filled = membrane(image.astype(np.float32), known)
    return np.where(known[..., None], image, (filled + 0.5).clip(0, 255).astype(np.uint8))


def membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float32 [H, W, C]: `values` where known bool [H, W], a smooth surface through them elsewhere.

    Push-pull (Gortler et al. 1996, "The lumigraph"), then a few relaxations of the Laplace equation
    at every level.
    """
    height, width = known.shape
    weight = known.astype(np.float32)

    # Coarsest level: the mean.
    if height <= 2 or width <= 2 or known.all():
        total = max(float(weight.sum()), 1e-6)
        mean = (values * weight[..., None]).sum((0, 1)) / total
        return np.where(known[..., None], values, mean).astype(np.float32)

    # Solve at half the size, and enlarge that.
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(values * weight[..., None], half, interpolation=cv2.INTER_AREA)
    small = _with_channels(small) / np.maximum(small_weight, 1e-6)[..., None]
    coarse = membrane(small, small_weight > 0)
    enlarged = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    result = _with_channels(enlarged)
    result[known] = values[known]

    for _ in range(4):
        relaxed = _with_channels(cv2.blur(result, (3, 3)))
        relaxed[known] = values[known]
        result = relaxed
    return result


def _with_channels(image: np.ndarray) -> np.ndarray:
    """[H, W, C] of an image that OpenCV returned without its single channel."""
    return image[..., None] if image.ndim == 2 else image
