"""Fits the mapping from a voice to a mouth (`model.voice_to_mouth`) on the frames of one clip.

Everything is linear algebra on at most MAX_CENTRES frames, so it takes seconds. Settings that
depend on the person (where in the strip the mouth's audio lies, how smooth the mapping is) are
chosen by cross-validation: five contiguous parts of the training frames are predicted in turn from
the others. The same predictions give the quantiles of the calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from being.audio.articulation import frame_time_step, has_articulation
from being.audio.feature_windows import STRIP, strips
from being.console import Progress
from being.conventions import ATTENTION_PAST, FEATURE_WINDOW, FPS, STEPS_PER_FRAME
from being.data.mouth import MouthCode
from being.face.mouth_code import MOUTH_CHANNELS
from being.model.voice_to_mouth import VoiceToMouth, gaussian_kernel

STEP_COMPONENTS = 64
STRIP_COMPONENTS = 256
MAX_CENTRES = 3000  # training frames; of a longer clip every second (third, ...) is used
# Candidates of the cross-validation. The window is Gaussian: its middle, in steps after the frame's
# own time, as far as the strip reaches, and its width in steps.
MIDDLES = (-3.0, 0.0, 2.0, 4.0, 6.0, 9.0)
WIDTHS = (4.0, 6.0)
GAMMAS = (0.2, 0.4, 0.8)
RIDGES = (0.05, 0.15, 0.4)  # times the kernel's mean diagonal
FIRST_GAMMA, FIRST_RIDGE = 0.4, 0.15  # while the window is chosen
FOLDS = 5
GAP = 8  # frames between training and predicted frames, so that no strip is shared
# Channels whose correlation counts in the choice.
JUDGED = ("lip_opening", "opening_area", "lip_width", "jaw_open", "teeth")
OWN_WINDOW = STEPS_PER_FRAME * ATTENTION_PAST  # first step of a strip in the frame's own window
FRAME_STEP = OWN_WINDOW + FEATURE_WINDOW // 2  # the step at the frame's time, without a shift
PROBABILITIES = np.array([0, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 100]) / 100
# A channel whose held-out predictions correlate this much with the truth gets the full deviation of
# the truth; one that correlates less gets less, because calibration would only amplify noise.
FULL_CORRELATION, LEAST_SHARE = 0.5, 0.3
MOST_GAIN = 2.2  # of the calibration, as a ratio of deviations
CLOSED_SHARE = 0.2  # of the range of the opening, below which lips count as closed
LEAST_FRAMES = FPS
# Threads of the linear algebra. Its matrices are small, and threads that wait for each other beside
# other work cost far more than they save: on two busy cores five fits took 16 s with one thread and
# 276 s with two.
MAX_THREADS = 1


@dataclass(frozen=True)
class VoiceFit:
    """A fitted mapping, and how well it predicted frames that it had not seen."""

    mapping: VoiceToMouth
    # Correlation of each channel of the mouth code [K], of all held-out frames together.
    correlation: np.ndarray
    # Deviation of the calibrated predictions over the true one [K].
    motion: np.ndarray
    middle: float
    width: float
    gamma: float
    ridge: float


@dataclass(frozen=True)
class _Reduced:
    """Strips in the space of the kernel, with the maps that lead there."""

    x: np.ndarray  # [N, D]
    window: np.ndarray  # [30]
    mean: np.ndarray  # [30 P]
    basis: np.ndarray  # [30 P, D]


def fit_voice_to_mouth(
    features: np.ndarray,
    bounds: np.ndarray,
    code: MouthCode,
    frames: np.ndarray,
    encoder: str,
) -> VoiceFit | None:
    """The mapping learnt from the frames int [n] of a clip; None with less than a second.

    features: speech features float32 [F, 16, C] of `encoder`; bounds: int [F, 2], first and last
    frame of each frame's segment; code: the clip's true mouth code.
    """
    frames = frames[code.found[frames]]
    if len(frames) < LEAST_FRAMES:
        return None
    frames = frames[:: -(-len(frames) // MAX_CENTRES)]
    with Progress("voice to mouth"), threadpool_limits(MAX_THREADS):
        step_mean, step_basis = _step_components(features[frames])
        steps = (strips(features, bounds)[frames] - step_mean) @ step_basis  # [n, 30, P]
        target = code.values[frames].astype(np.float64)
        shift = frame_time_step(encoder) - FEATURE_WINDOW // 2
        chosen, reduced, predicted = _choose(steps, frames, target, shift)
        middle, width, gamma, ridge = chosen

        mean, spread = target.mean(0), target.std(0) + 1e-6
        weights = _solve(reduced.x, (target - mean) / spread, gamma, ridge) * spread
        before, after = _quantiles(predicted, target)
        mapping = VoiceToMouth(
            code.units,
            step_mean,
            step_basis,
            reduced.window,
            reduced.mean,
            reduced.basis,
            gamma,
            reduced.x,
            weights,
            mean,
            before,
            after,
            _closed_mouth(target),
            OWN_WINDOW + frame_time_step(encoder)
            if has_articulation(encoder, features.shape[2])
            else -1,
        )
    arrays = {name: value.astype(np.float32) for name, value in mapping.tensors().items()}
    mapping = VoiceToMouth.from_parts(arrays, mapping.facts())
    calibrated = mapping.calibrate(predicted.astype(np.float32))
    motion = calibrated.std(0) / (target.std(0) + 1e-9)
    return VoiceFit(mapping, _correlations(predicted, target), motion, middle, width, gamma, ridge)


def _step_components(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [C] and principal components [C, P] of the feature steps in windows [n, 16, C]."""
    middle = windows[:, FEATURE_WINDOW // 2].astype(np.float64)
    mean = middle.mean(0)
    basis = np.linalg.svd(middle - mean, full_matrices=False)[2][:STEP_COMPONENTS].T
    return mean.astype(np.float32), basis.astype(np.float32)


def _reduce(steps: np.ndarray, middle: float, width: float) -> _Reduced:
    """Strips of reduced steps [n, 30, P], weighted round the frame's audio and reduced again.

    middle: steps after `FRAME_STEP`; width: steps.
    """
    position = np.arange(STRIP) + 0.5 - FRAME_STEP - middle
    window = np.exp(-0.5 * (position / width) ** 2).astype(np.float32)
    flat = (steps * window[:, None]).reshape(len(steps), -1)
    mean = flat.mean(0)
    centred = flat - mean
    # Principal components by the smaller of the two Gram matrices.
    if centred.shape[0] < centred.shape[1]:
        values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
        order = np.argsort(values)[::-1][:STRIP_COMPONENTS]
        order = order[values[order] > 1e-6 * values[order[0]]]
        basis = centred.T @ (vectors[:, order] / np.sqrt(values[order])).astype(np.float32)
    else:
        values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        basis = vectors[:, np.argsort(values)[::-1][:STRIP_COMPONENTS]].astype(np.float32)
    x = centred @ basis
    scale = np.float32(1 / np.sqrt((x**2).sum(1).mean() + 1e-12))
    return _Reduced(x * scale, window, mean, basis * scale)


def _choose(
    steps: np.ndarray, frames: np.ndarray, target: np.ndarray, shift: int
) -> tuple[tuple[float, float, float, float], _Reduced, np.ndarray]:
    """The best window, gamma and ridge; the strips for them; the held-out predictions [n, K].

    shift: steps by which the frame's time lies later in the strip (`Latency.shift`).
    """
    judged = [MOUTH_CHANNELS.index(name) for name in JUDGED]

    def score(predicted: np.ndarray) -> float:
        return float(_correlations(predicted, target)[judged].mean())

    # The window first, then the smoothness.
    best, window = -2.0, (0.0, WIDTHS[0])
    last = STRIP - 1 - FRAME_STEP
    for middle in sorted({min(middle + shift, last) for middle in MIDDLES}):
        for width in WIDTHS:
            x = _reduce(steps, middle, width).x
            value = score(_held_out(x, frames, target, FIRST_GAMMA, FIRST_RIDGE))
            if value > best:
                best, window = value, (middle, width)
    reduced = _reduce(steps, *window)
    best, smoothness, predicted = -2.0, (FIRST_GAMMA, FIRST_RIDGE), target
    for gamma in GAMMAS:
        for ridge in RIDGES:
            candidate = _held_out(reduced.x, frames, target, gamma, ridge)
            value = score(candidate)
            if value > best:
                best, smoothness, predicted = value, (gamma, ridge), candidate
    return (*window, *smoothness), reduced, predicted


def _held_out(
    x: np.ndarray, frames: np.ndarray, target: np.ndarray, gamma: float, ridge: float
) -> np.ndarray:
    """Codes [n, K] of all frames, each predicted from the parts of the clip that it is not in."""
    kernel = gaussian_kernel(x, x, gamma)
    borders = np.linspace(0, len(x), FOLDS + 1).round().astype(int)
    predicted = np.zeros_like(target)
    for first, stop in zip(borders[:-1], borders[1:], strict=True):
        known = (frames < frames[first] - GAP) | (frames > frames[stop - 1] + GAP)
        mean, spread = target[known].mean(0), target[known].std(0) + 1e-6
        inner = kernel[np.ix_(known, known)].astype(np.float64)
        inner[np.diag_indices_from(inner)] += ridge
        weights = np.linalg.solve(inner, (target[known] - mean) / spread)
        predicted[first:stop] = kernel[first:stop][:, known] @ weights * spread + mean
    return predicted


def _solve(x: np.ndarray, target: np.ndarray, gamma: float, ridge: float) -> np.ndarray:
    """Weights [N, K] of kernel ridge regression; the kernel's diagonal is 1."""
    kernel = gaussian_kernel(x, x, gamma).astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += ridge
    return np.linalg.solve(kernel, target)


def _quantiles(predicted: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles [K, Q] of predicted and of true codes [n, K], both ascending.

    The true ones are brought nearer to their mean for a channel that is predicted badly.
    """
    before = np.quantile(predicted, PROBABILITIES, axis=0).T
    after = np.quantile(target, PROBABILITIES, axis=0).T
    correlation = _correlations(predicted, target)
    for k in range(len(before)):
        gain = after[k].std() / max(before[k].std(), 1e-6)
        share = np.clip(correlation[k] / FULL_CORRELATION, LEAST_SHARE, 1.0)
        middle = target[:, k].mean()
        after[k] = middle + (after[k] - middle) * min(share, MOST_GAIN / max(gain, 1e-6))
        before[k] = np.maximum.accumulate(before[k] + 1e-6 * np.arange(len(before[k])))
    return before, after


def _correlations(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson's correlation [K] of each channel; 0 where one does not change."""
    a, b = predicted - predicted.mean(0), target - target.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(size > 1e-9, (a * b).sum(0) / np.maximum(size, 1e-9), 0.0)


def _closed_mouth(target: np.ndarray) -> np.ndarray:
    """The person's closed mouth [K]: the mean code of the frames with closed lips."""
    opening = target[:, 0]
    low, high = np.percentile(opening, (2, 98))
    return target[opening <= low + CLOSED_SHARE * (high - low)].mean(0)
