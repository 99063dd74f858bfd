"""The most probable course of poses over time: a fixed-interval smoother, so it looks both ways and
has no lag.

Each frame's measurement comes with an information matrix; a heavy-tailed prior on acceleration
bridges what is missing. All of it is one symmetric banded system (Whittaker 1923; Rauch, Tung and
Striebel 1965 solve the same by recursion).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

# degrees of freedom of the acceleration prior: bursts of motion are smoothed less than stillness
TAIL = 4.0
ACCELERATION_FLOOR = 0.02  # of the noise variance: the stillest course that is still believed
ROUNDS = 4  # of reweighting


def smooth(values: np.ndarray, information: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Smoothed values [F, P].

    values: float [F, P], measured. found: bool [F], the frames with a measurement, at least one;
    the others are bridged. information: float [F, P, P], inverse covariance of each measurement up
    to a factor: the noise is estimated from fourth differences (head motion has little of them at
    25 frames/s) and the information scaled to agree with it, as the errors of one frame's points
    are not independent.
    """
    values = fill(values, found)
    if found.sum() < 8:
        return values
    information = np.where(found[:, None, None], information, 0.0)
    noise = (1.4826 * np.median(np.abs(np.diff(values, 4, axis=0)), axis=0)) ** 2 / 70 + 1e-14
    predicted = np.median(np.diagonal(np.linalg.inv(information[found]), axis1=1, axis2=2), axis=0)
    information = information * np.exp(np.mean(np.log(predicted / noise)))
    bend = np.diff(values, 2, axis=0)
    acceleration = np.maximum((bend**2).mean(0) - 6 * noise, ACCELERATION_FLOOR * noise)
    trust = np.ones_like(bend)
    for _ in range(ROUNDS):
        course = _solve(values, information, trust / acceleration)
        trust = (TAIL + 1) / (TAIL + np.diff(course, 2, axis=0) ** 2 / acceleration)
    return course


def fill(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """`values` [F, P] with the rows that were not found interpolated from their neighbours."""
    if found.all() or not found.any():
        return values.copy()
    frames, known = np.arange(len(values)), np.flatnonzero(found)
    return np.stack([np.interp(frames, known, column[known]) for column in values.T], 1)


def _solve(values: np.ndarray, information: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
    """values + argmin over x of sum x_f' I_f x_f + sum stiffness D(values + x)^2.

    D: second difference over time. stiffness: [F - 2, P].
    """
    frames, width = values.shape
    bend = stiffness * np.diff(values, 2, axis=0)
    right = np.zeros_like(values)
    for offset, factor in enumerate((1.0, -2.0, 1.0)):
        right[offset : offset + frames - 2] -= factor * bend
    band = np.zeros((3 * width, frames * width))  # lower form: band[k, j] = A[j + k, j]
    for column in range(width):
        for row in range(width):
            if row >= column:
                band[row - column, column::width] += information[:, row, column]
    stencil = (1.0, -2.0, 1.0)
    for i in range(3):
        for j in range(i + 1):
            band[(i - j) * width].reshape(frames, width)[j : j + frames - 2] += (
                stencil[i] * stencil[j] * stiffness
            )
    return values + solveh_banded(band, right.ravel(), lower=True).reshape(frames, width)
