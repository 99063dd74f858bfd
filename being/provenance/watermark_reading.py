"""Reading of the invisible watermark: in scaled, cropped and compressed images too.

Images are flattened (what each pixel has beyond its surroundings, weighted by how even these are)
and summed over some seconds. For each scale, the phases of the sum at the key's frequencies are
compared with the phases of the key. The pilot gives the place of the tile, each group of the
payload its most likely value. `z` is the correlation of all waves, in its standard deviations.

False alarms. For an image that does not depend on the key, the phases of the key are random. The
correlation is then a weighted sum of cosines of independent random phases, so P(z > t) <=
exp(-t^2 / 2) for every image whatsoever. `Reading.false_alarm` is this bound times the number of
scales, places, payloads and windows that were tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being.media.video_reading import grey_image, probe, read_timed_frames
from being.provenance.watermark_pattern import (
    GROUPS,
    MIN_WAVE,
    PERIOD,
    SHIFTS,
    STEP,
    Waves,
    waves_of,
)

# The mark is found where the bound is below this: z of 9.1 for images of 256 px, 9.3 for 1280 px.
FALSE_ALARM_MAX = 1e-6
PROMISING = 7.0  # z from which finer scales are tried
# The payload is told when both of its groups have this z of their own.
PAYLOAD_THRESHOLD = 5.0
SCALES = (0.4, 2.5)  # of the image against the marked one
USUAL_SCALES = (1.0, 0.75, 0.5, 2 / 3)  # tried first
SURE = 11.0  # z from which no other scale is tried
LARGEST_SIDE = 1280  # px; larger images are reduced first
SMALLEST_SIDE = 96  # px
SHORTEST_WAVE = 2.5  # px in the reduced image that can be read
WINDOW_S = 10.0  # s of video that are summed
WINDOWS = 3  # that are read at most
INTERVAL_S = 0.15  # s between images that are used
# Of flattening: sides of the surroundings for mean and deviation, px; what is added to the
# deviation, steps of luma; where the result is cut, in deviations.
MEAN_SIDE, DEVIATION_SIDE, FLOOR, CEILING = 11, 9, 0.5, 1.5
WEIGHT_MAX = 1.5  # of a wave, in means of its neighbours
NEIGHBOURS = 20  # waves of about the same length, to each side


@dataclass(frozen=True)
class Reading:
    """What was found."""

    z: float
    scale: float  # of the image against the marked one
    payload: int | None  # None: too weak to be read
    false_alarm: float  # at most this share of files without the mark reach this z

    @property
    def found(self) -> bool:
        """Whether the mark is there."""
        return self.false_alarm < FALSE_ALARM_MAX


NOTHING = Reading(0.0, 1.0, None, 1.0)


def read_watermark(path: Path, key: bytes) -> Reading:
    """The watermark in the first 30 s of a video, in windows of 10 s.

    Raises InputRejected as `probe` does: no image that can be decoded, or too large ones.
    """
    probe(path)
    best = NOTHING
    for number, (image, reduced) in enumerate(_windows(path), 1):
        found = find_watermark(image, key, reduced, number)
        best = max(best, found, key=lambda reading: reading.z)
        if best.found or number == WINDOWS:
            break
    return best


def read_watermark_of_images(images: Iterable[np.ndarray], key: bytes) -> Reading:
    """The watermark in images uint8 [H, W] of one size, luma."""
    total: np.ndarray | None = None
    for image in images:
        flat = flattened(image)
        total = flat if total is None else total + flat
    return NOTHING if total is None else find_watermark(total, key)


def flattened(image: np.ndarray) -> np.ndarray:
    """Each pixel of an image [H, W] against its surroundings, float32; even ones weigh more."""
    high = image.astype(np.float32)
    high -= _mean_around(high, MEAN_SIDE)
    deviation = np.sqrt(_mean_around(high * high, DEVIATION_SIDE).clip(0)) + FLOOR
    high /= deviation
    return high.clip(-CEILING, CEILING) / deviation


def find_watermark(
    total: np.ndarray, key: bytes, reduced: float = 1.0, windows: int = 1
) -> Reading:
    """The watermark in a sum of flattened images, float32 [H, W].

    reduced: the scale of `total` against the file's images. windows: how many were tried, for the
    bound of false alarms.
    """
    height, width = total.shape
    if min(height, width) < SMALLEST_SIDE:
        return NOTHING
    total = total * (np.sqrt(np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]))
    total = total.astype(np.float32)
    waves = waves_of(key)
    step = 6.0 / max(height, width)
    scales = _scales(reduced, step)
    finer = [1 + share * step for share in (-0.5, -0.25, 0.25, 0.5)]
    tried = (len(scales) + len(finer)) * PERIOD**2 * SHIFTS**GROUPS * windows

    best = NO_MATCH
    for scale in scales:
        best = max(best, _match(total, waves, scale), key=lambda match: match.z)
        if best.z > SURE:
            break
    if best.z >= PROMISING:
        nearby = [_match(total, waves, best.scale * share) for share in finer]
        best = max(best, *nearby, key=lambda match: match.z)
    # The logarithm of the bound: the bound itself may be too small for a number.
    bound = math.exp(min(0.0, math.log(tried) - best.z * best.z / 2))
    told = bound < FALSE_ALARM_MAX and best.weakest >= PAYLOAD_THRESHOLD
    return Reading(best.z, best.scale / reduced, best.payload if told else None, bound)


@dataclass(frozen=True)
class _Match:
    """What fits best at one scale."""

    z: float  # of all waves
    scale: float
    payload: int
    weakest: float  # z of the weaker group of the payload


NO_MATCH = _Match(0.0, 1.0, 0, 0.0)


def _scales(reduced: float, step: float) -> list[float]:
    """The scales of the summed image to try, usual ones first."""
    low, high = (reduced * scale for scale in SCALES)
    low = max(low, SHORTEST_WAVE / MIN_WAVE)
    usual = [reduced * scale for scale in USUAL_SCALES if low <= reduced * scale <= high]
    count = max(2, round(math.log(high / low) / step))
    return [*usual, *np.geomspace(low, high, count).tolist()]


def _match(total: np.ndarray, waves: Waves, scale: float) -> _Match:
    """The payload that fits best where the pilot fits best."""
    turned, weights = _turned(total, waves, scale)
    found = _correlation(turned, weights, waves, 0)
    place = int(found.argmax())
    y, x = divmod(place, PERIOD)

    # z of the groups together: each by its share of the deviation.
    parts, payload = [(float(found.flat[place]), _deviation(weights, waves, 0))], 0
    for group in range(1, GROUPS + 1):
        found = _correlation(turned, weights, waves, group)
        # The grid of shifts begins at the pilot's place.
        found = np.roll(found, (-y, -x), (0, 1))[::STEP, ::STEP]
        value = int(found.argmax())
        payload = payload * SHIFTS + value
        parts.append((float(found.flat[value]), _deviation(weights, waves, group)))
    together = math.sqrt(sum(deviation**2 for _, deviation in parts))
    z = sum(z * deviation for z, deviation in parts) / together
    return _Match(z, scale, payload, min(z for z, _ in parts[1:]))


def _turned(total: np.ndarray, waves: Waves, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of the waves in the image without their key's phases, complex [K], and
    their weights float64 [K]; each coefficient is as long as its weight.
    """
    most = int(np.abs(waves.frequencies).max())
    height, width = total.shape
    turn = -2j * np.pi / (PERIOD * scale)
    rows = np.exp(turn * np.outer(np.arange(most + 1), np.arange(height))).astype(np.complex64)
    columns = np.exp(turn * np.outer(np.arange(width), np.arange(-most, most + 1)))
    # Real and imaginary parts apart: half of the work, as the image is real.
    half = (rows.real @ total) + 1j * (rows.imag @ total)
    spectrum = half @ columns.astype(np.complex64)
    y, x = waves.frequencies.T
    values = spectrum[y, x + most].astype(np.complex128)

    # Long coefficients are those of the image itself: cut them.
    lengths = np.abs(values) + 1e-12
    order = np.argsort(np.hypot(y, x), kind="stable")
    padded = np.pad(lengths[order], NEIGHBOURS, "edge")
    window = np.ones(2 * NEIGHBOURS + 1) / (2 * NEIGHBOURS + 1)
    usual = np.empty_like(lengths)
    usual[order] = np.convolve(padded, window, "valid")
    weights = np.minimum(lengths / usual, WEIGHT_MAX)
    return values / lengths * weights * np.exp(-1j * waves.phases), weights


def _correlation(turned: np.ndarray, weights: np.ndarray, waves: Waves, group: int) -> np.ndarray:
    """z of a group of waves at each shift, float64 [PERIOD, PERIOD]."""
    chosen = waves.groups == group
    y, x = waves.frequencies[chosen].T
    spectrum = np.zeros((PERIOD, PERIOD), np.complex128)
    spectrum[y, x] = turned[chosen]
    return np.fft.ifft2(spectrum).real * (PERIOD**2 / _deviation(weights, waves, group))


def _deviation(weights: np.ndarray, waves: Waves, group: int) -> float:
    """The standard deviation of a group's correlation, for random phases."""
    return math.sqrt((weights[waves.groups == group] ** 2).sum() / 2)


def _mean_around(image: np.ndarray, side: int) -> np.ndarray:
    """The mean of the square of `side` px around each pixel, float32; mirrored borders."""
    for axis in (0, 1):
        before = side // 2
        margins = [(before + 1, before) if k == axis else (0, 0) for k in (0, 1)]
        sums = np.cumsum(np.pad(image, margins, "symmetric"), axis=axis, dtype=np.float32)
        last, first = [slice(None)] * 2, [slice(None)] * 2
        last[axis], first[axis] = slice(side, None), slice(None, -side)
        image = (sums[tuple(last)] - sums[tuple(first)]) / side
    return image


def _windows(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """For each window of a video the sum of its flattened images, and by how much they are
    reduced. Images of another size than the first one are left out.
    """
    total: np.ndarray | None = None
    size: tuple[int, int] | None = None
    start = wanted = 0.0
    reduced = 1.0
    for time, frame in read_timed_frames(path):
        if size is None:
            size, start = (frame.width, frame.height), time
            reduced = min(1.0, LARGEST_SIDE / max(size))
        now = time - start
        if now >= WINDOW_S and total is not None:
            yield total, reduced
            total, start, wanted, now = None, time, 0.0, 0.0
        if now < wanted or (frame.width, frame.height) != size:
            continue
        wanted = now + INTERVAL_S
        shown = grey_image(frame, round(size[0] * reduced), round(size[1] * reduced))
        flat = flattened(shown)
        total = flat if total is None else total + flat
    if total is not None:
        yield total, reduced
