"""The most probable course of poses over time: a fixed-interval smoother, so it looks both ways and has no lag.

Each frame's measurement comes with an information matrix; neighbouring frames may be tied by measured motion (optical
flow), which is ten times finer than landmarks but drifts; a heavy-tailed prior on acceleration bridges what is missing.
All of it is one symmetric banded system (Whittaker 1923; Rauch, Tung and Striebel 1965 solve the same by recursion).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

TAIL = 4.0  # degrees of freedom of the acceleration prior: bursts of motion are smoothed less than stillness
ACCELERATION_FLOOR = 0.02  # of the noise variance: the stillest course that is still believed
ROUNDS = 4  # of reweighting


@dataclass(frozen=True)
class Motion:
    """Measured motion from each frame to the next, linear in the P parameters of both frames.

    The pair (f, f + 1) says: after[f] x_(f+1) - before[f] x_f = shortfall[f], each row with its weight; x are
    corrections to the values that are smoothed.
    """

    before: np.ndarray  # [F - 1, N, P]
    after: np.ndarray  # [F - 1, N, P]
    shortfall: np.ndarray  # [F - 1, N]
    weight: np.ndarray  # [F - 1, N], inverse variance

    def __getitem__(self, pairs: slice) -> Motion:
        return Motion(self.before[pairs], self.after[pairs], self.shortfall[pairs], self.weight[pairs])


def smooth(values: np.ndarray, information: np.ndarray, found: np.ndarray, motion: Motion | None = None) -> np.ndarray:
    """Smoothed values [F, P].

    values: float [F, P], measured. information: float [F, P, P], inverse covariance of each measurement. found: bool
    [F], the frames with a measurement; the others are bridged. motion: ties between neighbours, or none: then the
    noise is estimated from fourth differences (head motion has little of them at 25 frames/s) and the information
    scaled to agree with it, as the errors of one frame's landmarks are not independent.
    """
    values = fill(values, found)
    if found.sum() < 8:
        return values
    information = np.where(found[:, None, None], information, 0.0)
    if motion is None:
        noise = (1.4826 * np.median(np.abs(np.diff(values, 4, axis=0)), axis=0)) ** 2 / 70 + 1e-14
        predicted = np.median(np.diagonal(np.linalg.inv(information[found]), axis1=1, axis2=2), axis=0)
        information = information * np.exp(np.mean(np.log(predicted / noise)))
        bend = np.diff(values, 2, axis=0)
        acceleration = np.maximum((bend ** 2).mean(0) - 6 * noise, ACCELERATION_FLOOR * noise)
    else:
        scale = np.median(np.diagonal(information[found], axis1=1, axis2=2), axis=0)
        free = np.tile(1e-6 * scale, (len(values) - 2, 1))
        bend = np.diff(_solve(values, information, free, motion), 2, axis=0)
        acceleration = (1.4826 * np.median(np.abs(bend), axis=0)) ** 2 + 1e-14
    trust = np.ones_like(bend)
    for _ in range(ROUNDS):
        course = _solve(values, information, trust / acceleration, motion)
        trust = (TAIL + 1) / (TAIL + np.diff(course, 2, axis=0) ** 2 / acceleration)
    return course


def fill(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """`values` [F, P] with the rows that were not found interpolated from their neighbours."""
    if found.all() or not found.any():
        return values.copy()
    frames, known = np.arange(len(values)), np.flatnonzero(found)
    return np.stack([np.interp(frames, known, column[known]) for column in values.T], 1)


def _solve(values: np.ndarray, information: np.ndarray, stiffness: np.ndarray, motion: Motion | None) -> np.ndarray:
    """values + argmin over x of sum x_f' I_f x_f + motion ties of x + sum stiffness D(values + x)^2.

    D: second difference over time. stiffness: [F - 2, P].
    """
    frames, width = values.shape
    diagonal, below = information.copy(), np.zeros((frames, width, width))  # below[f]: the block (f + 1, f)
    bend = stiffness * np.diff(values, 2, axis=0)
    right = np.zeros_like(values)
    for offset, factor in enumerate((1.0, -2.0, 1.0)):
        right[offset:offset + frames - 2] -= factor * bend
    if motion is not None:
        left_rows = np.swapaxes(motion.before * motion.weight[..., None], 1, 2)
        right_rows = np.swapaxes(motion.after * motion.weight[..., None], 1, 2)
        diagonal[:-1] += left_rows @ motion.before
        diagonal[1:] += right_rows @ motion.after
        below[:-1] -= right_rows @ motion.before
        right[:-1] -= (left_rows @ motion.shortfall[..., None])[..., 0]
        right[1:] += (right_rows @ motion.shortfall[..., None])[..., 0]
    band = np.zeros((3 * width, frames * width))  # lower form: band[k, j] = A[j + k, j]
    for column in range(width):
        for row in range(width):
            if row >= column:
                band[row - column, column::width] += diagonal[:, row, column]
            band[width + row - column, column::width] += below[:, row, column]
    stencil = (1.0, -2.0, 1.0)
    for i in range(3):
        for j in range(i + 1):
            band[(i - j) * width].reshape(frames, width)[j:j + frames - 2] += stencil[i] * stencil[j] * stiffness
    return values + solveh_banded(band, right.ravel(), lower=True).reshape(frames, width)
