"""A soft alpha mask of the person: refines a rough mask with image and background colours.

The image is I = a F + (1 - a) B. The background B is known from other frames of the clip, because
the camera stands still. In a band around the rough edge, every pixel is explained as a mixture of B
and of the person's colour F just inside the band. Hair has dark and light strands, so F is not one
colour. Several samples are taken further inside; each counts by how well it explains the pixel and
by its distance from the background's colour (the sampling of Wang and Cohen 2007, "Optimized color
sampling for robust matting", with B known). Where the two colours are too similar, the rough mask
is kept, refined along the image's own edges (guided filter, He et al. 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Lengths in px at an image height of 512.
BAND_PX = 7  # error of the rough edge: half the width of the band
INWARD_PX = (1.5, 6.0)  # inside the band's inner border: where the person's colour is sampled
# Neighbourhood whose mean colour is one more sample. It also gives the background's colour where
# the background was never visible.
NEAR_PX = 9
GUIDE_PX = 3  # radius of the guided filter on the rough mask
NOISE_FLOOR = 4.0  # grey levels: smaller differences from the background plate are noise
GUESS_FLOOR = 25.0  # the same where the background was never visible and is a guess
# Grey levels between person and background at which colour counts as much as the rough edge.
CONTRAST = 24.0
GUESS_CONTRAST = 80.0  # the same where the background is a guess
EXPLAINED = 10.0  # grey levels of difference at which a mixture explains a pixel badly
# Smallest and largest alpha that is cut to zero. The value between them is noise over contrast.
CRISP = (0.02, 0.1)
# Depth inside the rough edge: up to the first the colours decide, from the second on every pixel is
# the person.
DEEP_PX = (4.0, 7.0)
LIGHT_STEP = 8  # px between the pixels that measure the light of a frame

# Colours uint8 [N, 3] -> probability float32 [N] that they are the person's.
PersonProbability = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class BackgroundModel:
    """Colour and noise of the background at every pixel."""

    colour: np.ndarray  # float32 [H, W, 3]
    # float32 [H, W], grey levels: how far a pixel of the background may be from `colour`.
    noise: np.ndarray

    @classmethod
    def from_plate(cls, plate: np.ndarray, spread: np.ndarray) -> BackgroundModel:
        """The model of a plate uint8 [H, W, 3] and its deviation over time float32 [H, W].

        spread: grey levels, 255 where the background was never visible.
        """
        noise = np.where(spread < 255, NOISE_FLOOR + 2 * spread, GUESS_FLOOR).astype(np.float32)
        return cls(plate.astype(np.float32), np.minimum(noise, GUESS_FLOOR))

    def brightness_change(self, frame: np.ndarray, outer: np.ndarray) -> np.ndarray:
        """How much lighter a frame's background is than the plate, float32 [3], grey levels.

        frame: uint8 [H, W, 3]. outer: uint8 [H, W], 1 where the background is visible.
        """
        rows, columns = slice(None, None, LIGHT_STEP), slice(None, None, LIGHT_STEP)
        sure = (outer[rows, columns] > 0) & (self.noise[rows, columns] < GUESS_FLOOR)
        if sure.sum() < 100:
            return np.zeros(3, np.float32)
        change = (frame[rows, columns] - self.colour[rows, columns])[sure]
        return np.median(change, 0).astype(np.float32)


def soft_edge(
    frame: np.ndarray,
    rough: np.ndarray,
    doubt: np.ndarray,
    background: BackgroundModel,
    person_probability: PersonProbability,
) -> np.ndarray:
    """Soft silhouette float32 [H, W] in [0, 1] of a frame uint8 [H, W, 3] RGB.

    rough: float32 [H, W] in [0, 1]. doubt: bool [H, W], pixels that may be person although `rough`
    is background. person_probability: separates person and background by colour alone, used where
    the background is a guess.
    """
    # The band lies between surely person and surely background.
    scale = frame.shape[0] / 512
    kernel = disc(BAND_PX * scale)
    inner = cv2.erode((rough > 0.8).astype(np.uint8), kernel, borderValue=1)
    outer = cv2.erode(((rough < 0.2) & ~doubt).astype(np.uint8), kernel, borderValue=1)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    edge = guided_filter(grey, rough, max(1, round(GUIDE_PX * scale)))

    # Alpha in the band, and the alpha there that is noise.
    band = np.nonzero((inner == 0) & (outer == 0))
    alpha = (1.0 - outer).astype(np.float32)
    cut = np.full(alpha.shape, CRISP[1], np.float32)
    if len(band[0]) and inner.any():
        alpha[band], cut[band] = _mixture(
            frame, inner, outer, band, edge[band], background, person_probability, scale
        )

    # Deep inside the rough mask every pixel is the person.
    depth = cv2.distanceTransform((rough > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / scale
    sure = np.clip((depth - DEEP_PX[0]) / (DEEP_PX[1] - DEEP_PX[0]), 0, 1)

    # Smooth along the image's edges, and cut the noise.
    alpha = guided_filter(grey, np.maximum(alpha, sure), 1)
    alpha = np.clip((alpha - cut) / (1 - 2 * cut), 0, 1)
    alpha[inner > 0] = 1
    alpha[outer > 0] = 0
    return alpha


def _mixture(
    frame: np.ndarray,
    inner: np.ndarray,
    outer: np.ndarray,
    band: tuple[np.ndarray, ...],
    edge: np.ndarray,
    background: BackgroundModel,
    person_probability: PersonProbability,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, alpha that is noise), float32 [N] each, of the band's N pixels.

    inner, outer: uint8 [H, W], 1 where surely person or background. band: row and column numbers
    [N] each. edge: float32 [N], the refined rough alpha.
    """
    # Background colour of each pixel. Where it is a guess, the mean colour of the background
    # nearby, from the image at a quarter of its size.
    pixels, floor = frame[band], background.noise[band]
    near = 2 * round(NEAR_PX * scale / 4) + 1
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    quarter = cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    quarter = quarter.astype(np.float32)
    at = tuple(np.minimum(i // 4, n - 1) for i, n in zip(band, quarter.shape, strict=False))
    known = floor < GUESS_FLOOR
    guessed = ~known
    back = background.colour[band] + background.brightness_change(frame, outer)
    back[guessed] = _local_colour(quarter, outer, near)[at][guessed]

    # Weighted mean of the alphas that each sample of the person's colour gives.
    person_mean = _local_colour(quarter, inner, near)[at]
    samples = (person_mean, *_inward_colours(half.astype(np.float32), inner, band, scale))
    difference = pixels - back
    squared = _dot(difference, difference)
    total = weight = np.float32(0)
    best = np.full(len(pixels), np.inf, np.float32)
    for sample in samples:
        contrast = sample - back
        strength = _dot(contrast, contrast)
        along = _dot(difference, contrast)
        mixed = np.clip(along / (strength + 1), 0, 1)
        missed = np.maximum(squared - mixed * (2 * along - mixed * strength), 0)
        fit = np.exp(-missed / (2 * EXPLAINED**2))
        trust = fit * strength / (strength + CONTRAST**2) + 1e-6
        total, weight = total + trust * mixed, weight + trust
        best = np.minimum(best, missed)
    alpha = total / weight

    # A colour that no mixture explains is not the background's.
    contrast = person_mean - back
    strength = _dot(contrast, contrast)
    reach = np.sqrt(squared) - floor
    away = np.minimum(reach / np.maximum(np.sqrt(strength) - floor, CONTRAST), 1)
    unexplained = np.clip((np.sqrt(best) - EXPLAINED) / (2 * EXPLAINED), 0, 1)
    alpha = np.clip(alpha + unexplained * np.maximum(away - alpha, 0), 0, 1)
    alpha[guessed] = (alpha[guessed] + person_probability(pixels[guessed])) / 2

    # The colours decide where their contrast is high, the rough edge elsewhere.
    trust = strength / (strength + np.where(known, CONTRAST, GUESS_CONTRAST) ** 2)
    trust = np.maximum(trust, np.where(away > 0.9, 0.7, 0))
    noise = np.clip(2 * floor / np.sqrt(strength + 1), *CRISP)
    return edge + trust * (alpha - edge), noise


def _inward_colours(
    half: np.ndarray, inner: np.ndarray, band: tuple[np.ndarray, ...], scale: float
) -> list[np.ndarray]:
    """The person's colours float32 [N, 3] inside each band pixel, one array for each of INWARD_PX.

    half: the frame at half its size, float32. inner, band: as in `_mixture`.
    """
    # Nearest pixel of `inner` of each band pixel.
    _, nearest = cv2.distanceTransformWithLabels(
        1 - inner, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    border = np.flatnonzero(inner)
    flat_index = np.zeros(int(nearest.max()) + 1, np.int64)
    flat_index[nearest.ravel()[border]] = border
    rows, columns = np.divmod(flat_index[nearest[band]], inner.shape[1])

    # Unit direction to it, continued inward.
    down, right = (rows - band[0]).astype(np.float32), (columns - band[1]).astype(np.float32)
    length = np.maximum(np.hypot(down, right), 1e-3)
    down, right = down / length, right / length
    colours = []
    for step in INWARD_PX:
        y = np.clip((rows + step * scale * down) / 2, 0, half.shape[0] - 1).astype(np.intp)
        x = np.clip((columns + step * scale * right) / 2, 0, half.shape[1] - 1).astype(np.intp)
        colours.append(half[y, x])
    return colours


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products [N] of the rows of two arrays [N, C]."""
    return np.einsum("nc,nc->n", a, b)


def _local_colour(image: np.ndarray, weight: np.ndarray, near: int) -> np.ndarray:
    """Mean colour float32 [h, w, 3] of the weighted pixels nearby; from farther if none is near.

    image: float32 [h, w, 3]. weight: uint8 [H, W], 0 or 1, at the frame's size. near: px of the
    image.
    """
    far = 3 * near
    weight = cv2.resize(weight, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    weight = weight.astype(np.float32)
    weighted = image * weight[..., None]
    total = cv2.blur(weight, (near, near)) + 0.01 * cv2.blur(weight, (far, far))
    colours = cv2.blur(weighted, (near, near)) + 0.01 * cv2.blur(weighted, (far, far))
    return colours / (total + 1e-6)[..., None]


def guided_filter(
    guide: np.ndarray, values: np.ndarray, radius: int, eps: float = 1e-3
) -> np.ndarray:
    """Guided filter float32 [H, W] of `values` by a grey guide in [0, 1]; radius in px."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean_g, mean_v = cv2.blur(guide, size), cv2.blur(values, size)
    covariance = cv2.blur(guide * values, size) - mean_g * mean_v
    variance = cv2.blur(guide * guide, size) - mean_g**2
    slope = covariance / (variance + eps)
    return cv2.blur(slope, size) * guide + cv2.blur(mean_v - slope * mean_g, size)


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask bool [H, W] and all pixels within `radius` px of it, bool [H, W]."""
    return cv2.dilate(mask.astype(np.uint8), disc(radius)) > 0


def disc(radius: float) -> np.ndarray:
    """A filled circle uint8 [n, n] as a morphology kernel, at least 3 x 3."""
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
