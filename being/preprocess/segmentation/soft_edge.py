"""A rough silhouette -> a soft one: alpha from I = aF + (1 - a)B, with B known from the clip's
other frames.

In the band round the rough edge every pixel is explained as a mixture of the background behind it
(the camera stands still, so the plate knows it) and of the person's colour just inside. That colour
is not one: hair is dark and light strands. So several samples are taken along the way inward, and
each counts by how well it explains the pixel and by how far it is from the background's colour (the
sampling of Wang and Cohen 2007, "Optimized color sampling for robust matting", with B known). Where
the colours cannot tell, the rough silhouette is kept, led by the picture's own edges (guided
filter, He et al. 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Lengths in px at a picture height of 512.
BAND_PX = 7  # the rough edge is believed to this
INWARD_PX = (1.5, 6.0)  # behind the band's inner border: where the person's colour is sampled
# neighbourhood whose mean colour is one more sample, and the background's where it was never seen
NEAR_PX = 9
GUIDE_PX = 3
NOISE_FLOOR = 4.0  # grey levels: smaller differences from the background plate are noise
GUESS_FLOOR = 25.0  # the same where the background was never seen and is guessed from beside
# grey levels between person and background at which colour counts as much as the rough edge
CONTRAST = 24.0
GUESS_CONTRAST = 80.0  # the same where the background is guessed
EXPLAINED = 10.0  # grey levels by which a mixture may miss a pixel
CRISP = (0.02, 0.1)  # least and most alpha that counts as none; noise over contrast lies between
DEEP_PX = (
    4.0,
    7.0,
)  # inside the rough edge: from nothing to all of it is person whatever the colours say
LIGHT_STEP = 8  # px: every so many pixels tell a frame's light

Likely = Callable[
    [np.ndarray], np.ndarray
]  # colours uint8 [N, 3] -> probability of person float32 [N]


@dataclass(frozen=True)
class Backdrop:
    """What lies behind the person."""

    colour: np.ndarray  # float32 [H, W, 3]
    noise: (
        np.ndarray
    )  # float32 [H, W], grey levels: how far a pixel of the background may be from `colour`

    @classmethod
    def of(cls, plate: np.ndarray, spread: np.ndarray) -> Backdrop:
        """From a plate uint8 [H, W, 3] and its deviation over time float32 [H, W], 255 where it was
        never seen.
        """
        noise = np.where(spread < 255, NOISE_FLOOR + 2 * spread, GUESS_FLOOR).astype(np.float32)
        return cls(plate.astype(np.float32), np.minimum(noise, GUESS_FLOOR))

    def light(self, frame: np.ndarray, outer: np.ndarray) -> np.ndarray:
        """How much lighter a frame's background is than the plate, float32 [3]; outer: uint8 [H,
        W], 1: it shows.
        """
        rows, columns = slice(None, None, LIGHT_STEP), slice(None, None, LIGHT_STEP)
        sure = (outer[rows, columns] > 0) & (self.noise[rows, columns] < GUESS_FLOOR)
        if sure.sum() < 100:
            return np.zeros(3, np.float32)
        return np.median((frame[rows, columns] - self.colour[rows, columns])[sure], 0).astype(
            np.float32
        )


def soft_edge(
    frame: np.ndarray, rough: np.ndarray, doubt: np.ndarray, backdrop: Backdrop, likely: Likely
) -> np.ndarray:
    """Soft silhouette float32 [H, W] in [0, 1] of a frame uint8 [H, W, 3] RGB.

    rough: float32 [H, W] in [0, 1]; doubt: bool [H, W], where `rough` is not believed when it says
    background; likely: tells person from background by colour alone, for where the background is a
    guess.
    """
    scale = frame.shape[0] / 512
    inner = cv2.erode((rough > 0.8).astype(np.uint8), disc(BAND_PX * scale), borderValue=1)
    outer = cv2.erode(
        ((rough < 0.2) & ~doubt).astype(np.uint8), disc(BAND_PX * scale), borderValue=1
    )
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    edge = guided(grey, rough, max(1, round(GUIDE_PX * scale)))
    band = np.nonzero((inner == 0) & (outer == 0))
    alpha = (1.0 - outer).astype(np.float32)
    cut = np.full(alpha.shape, CRISP[1], np.float32)
    if len(band[0]) and inner.any():
        alpha[band], cut[band] = _mixture(
            frame, inner, outer, band, edge[band], backdrop, likely, scale
        )
    depth = cv2.distanceTransform((rough > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / scale
    sure = np.clip((depth - DEEP_PX[0]) / (DEEP_PX[1] - DEEP_PX[0]), 0, 1)
    alpha = guided(grey, np.maximum(alpha, sure), 1)
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
    backdrop: Backdrop,
    likely: Likely,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """(alpha, alpha that is noise), float32 [N] each, of the band's N pixels (row and column
    numbers).
    """
    pixels, floor = frame[band], backdrop.noise[band]
    near = (
        2 * round(NEAR_PX * scale / 4) + 1
    )  # colours of the neighbourhood: at a quarter of the size
    half = cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    quarter = cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    at = tuple(np.minimum(i // 4, n - 1) for i, n in zip(band, quarter.shape, strict=False))
    still = floor < GUESS_FLOOR
    guessed = ~still
    back = backdrop.colour[band] + backdrop.light(frame, outer)
    back[guessed] = _local_colour(quarter, outer, near)[at][guessed]
    mean = _local_colour(quarter, inner, near)[at]
    moved = pixels - back
    length = _dot(moved, moved)
    share = weight = np.float32(0)
    best = np.full(len(pixels), np.inf, np.float32)
    for fore in (mean, *_inward(half.astype(np.float32), inner, band, scale)):
        contrast = fore - back
        strength = _dot(contrast, contrast)
        along = _dot(moved, contrast)
        mixed = np.clip(along / (strength + 1), 0, 1)
        missed = np.maximum(length - mixed * (2 * along - mixed * strength), 0)
        trust = np.exp(-missed / (2 * EXPLAINED**2)) * strength / (strength + CONTRAST**2) + 1e-6
        share, weight = share + trust * mixed, weight + trust
        best = np.minimum(best, missed)
    colour = share / weight
    strength = _dot(mean - back, mean - back)
    reach = np.sqrt(length) - floor
    away = np.minimum(reach / np.maximum(np.sqrt(strength) - floor, CONTRAST), 1)
    strange = np.clip(
        (np.sqrt(best) - EXPLAINED) / (2 * EXPLAINED), 0, 1
    )  # a colour of neither: not the background's
    colour = np.clip(colour + strange * np.maximum(away - colour, 0), 0, 1)
    colour[guessed] = (colour[guessed] + likely(pixels[guessed])) / 2
    trust = strength / (strength + np.where(still, CONTRAST, GUESS_CONTRAST) ** 2)
    trust = np.maximum(trust, np.where(away > 0.9, 0.7, 0))
    noise = np.clip(2 * floor / np.sqrt(strength + 1), *CRISP)
    return edge + trust * (colour - edge), noise


def _inward(
    half: np.ndarray, inner: np.ndarray, band: tuple[np.ndarray, ...], scale: float
) -> list[np.ndarray]:
    """Colours float32 [N, 3] of the person behind each band pixel, one array for each of INWARD_PX.

    half: the frame at half its size, float32.
    """
    _, nearest = cv2.distanceTransformWithLabels(
        1 - inner, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    border = np.flatnonzero(inner)
    place = np.zeros(int(nearest.max()) + 1, np.int64)
    place[nearest.ravel()[border]] = border
    rows, columns = np.divmod(place[nearest[band]], inner.shape[1])
    down, right = (rows - band[0]).astype(np.float32), (columns - band[1]).astype(np.float32)
    length = np.maximum(np.hypot(down, right), 1e-3)
    down, right = down / length, right / length
    found = []
    for step in INWARD_PX:
        y = np.clip((rows + step * scale * down) / 2, 0, half.shape[0] - 1).astype(np.intp)
        x = np.clip((columns + step * scale * right) / 2, 0, half.shape[1] - 1).astype(np.intp)
        found.append(half[y, x])
    return found


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nc->n", a, b)


def _local_colour(picture: np.ndarray, weight: np.ndarray, near: int) -> np.ndarray:
    """Mean colour float32 [h, w, 3] of the weighted pixels in the neighbourhood, wider where there
    are none near.

    picture: float32 [h, w, 3]; weight: uint8 [H, W], 0 or 1, at the frame's size; near: px of the
    picture.
    """
    wide = 3 * near
    weight = cv2.resize(weight, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(
        np.float32
    )
    weighted = picture * weight[..., None]
    total, sum_ = cv2.blur(weight, (near, near)), cv2.blur(weighted, (near, near))
    far_total, far_sum = cv2.blur(weight, (wide, wide)), cv2.blur(weighted, (wide, wide))
    total, sum_ = total + 0.01 * far_total, sum_ + 0.01 * far_sum
    return sum_ / (total + 1e-6)[..., None]


def guided(guide: np.ndarray, values: np.ndarray, radius: int, eps: float = 1e-3) -> np.ndarray:
    """Guided filter float32 [H, W] of `values` by a grey guide in [0, 1]."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean_g, mean_v = cv2.blur(guide, size), cv2.blur(values, size)
    slope = (cv2.blur(guide * values, size) - mean_g * mean_v) / (
        cv2.blur(guide * guide, size) - mean_g**2 + eps
    )
    return cv2.blur(slope, size) * guide + cv2.blur(mean_v - slope * mean_g, size)


def grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """bool [H, W]: a mask bool [H, W] and what lies within `radius` px of it."""
    return cv2.dilate(mask.astype(np.uint8), disc(radius)) > 0


def disc(radius: float) -> np.ndarray:
    """A filled circle uint8 [n, n] for morphology, at least 3 x 3."""
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
