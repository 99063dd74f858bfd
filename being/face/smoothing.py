"""Smoothing of pose curves over time, and interpolation of frames without a measurement."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

# Degrees of freedom of Student's t prior on acceleration. The heavy tail lets fast motion pass,
# while a still head is smoothed strongly.
ACCELERATION_DEGREES_OF_FREEDOM = 4.0
# Smallest variance of the acceleration prior, as a share of the noise variance.
ACCELERATION_FLOOR = 0.02
REWEIGHTINGS = 4  # iterations of the reweighted least squares


def smooth(values: np.ndarray, information: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Smoothed values [F, P]: the most probable course under a prior on acceleration.

    This is a fixed-interval smoother: each frame uses the frames before and after it, so the
    result has no lag. A heavy-tailed prior on acceleration bridges frames without a measurement.
    The whole course is the solution of one symmetric banded system (Whittaker 1923; Rauch, Tung
    and Striebel 1965 solve the same system by recursion).

    values: float [F, P], measured. found: bool [F], the frames with a measurement, at least one;
    the others are interpolated. information: float [F, P, P], the inverse covariance of each
    measurement up to a common factor. The noise is estimated from fourth differences, because head
    motion has little of them at 25 frames/s. The information is then scaled to agree with this
    noise, because the errors of one frame's points are not independent. Clips with fewer than 8
    measured frames are only interpolated.
    """
    values = interpolate_missing(values, found)
    if found.sum() < 8:
        return values

    # Scale the information so that it predicts the noise that is measured in the curves.
    information = np.where(found[:, None, None], information, 0.0)
    noise = (1.4826 * np.median(np.abs(np.diff(values, 4, axis=0)), axis=0)) ** 2 / 70 + 1e-14
    predicted = np.median(np.diagonal(np.linalg.inv(information[found]), axis1=1, axis2=2), axis=0)
    information = information * np.exp(np.mean(np.log(predicted / noise)))

    # Variance of the acceleration: that of the second differences without the noise's part.
    bend = np.diff(values, 2, axis=0)
    acceleration = np.maximum((bend**2).mean(0) - 6 * noise, ACCELERATION_FLOOR * noise)

    # Student's t prior as iteratively reweighted least squares.
    weight = np.ones_like(bend)
    for _ in range(REWEIGHTINGS):
        smoothed = _solve(values, information, weight / acceleration)
        degrees = ACCELERATION_DEGREES_OF_FREEDOM
        squared = np.diff(smoothed, 2, axis=0) ** 2 / acceleration
        weight = (degrees + 1) / (degrees + squared)
    return smoothed


def interpolate_missing(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """`values` [F, P] in which the rows that are not `found` are interpolated linearly.

    found: bool [F]. Rows before the first and after the last found row repeat that row.
    """
    if found.all() or not found.any():
        return values.copy()
    frames, known = np.arange(len(values)), np.flatnonzero(found)
    return np.stack([np.interp(frames, known, column[known]) for column in values.T], 1)


def _solve(values: np.ndarray, information: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """values + argmin over x of sum x_f' I_f x_f + sum stiffness D(values + x)^2.

    values: [F, P]. information: [F, P, P]. D: second difference over time. stiffness: [F - 2, P].
    """
    frames, width = values.shape
    stencil = (1.0, -2.0, 1.0)

    # Right-hand side: the gradient of the acceleration term at x = 0.
    bend = stiffness * np.diff(values, 2, axis=0)
    right = np.zeros_like(values)
    for offset, factor in enumerate(stencil):
        right[offset : offset + frames - 2] -= factor * bend

    # The system's matrix A in the lower banded form: band[k, j] = A[j + k, j].
    band = np.zeros((3 * width, frames * width))
    for column in range(width):
        for row in range(width):
            if row >= column:
                band[row - column, column::width] += information[:, row, column]
    for i in range(3):
        for j in range(i + 1):
            diagonal = band[(i - j) * width].reshape(frames, width)
            diagonal[j : j + frames - 2] += stencil[i] * stencil[j] * stiffness

    return values + solveh_banded(band, right.ravel(), lower=True).reshape(frames, width)
