"""Fits the mapping from a voice to a mouth (`model.voice_to_mouth`) on the frames of one clip.

Everything is linear algebra on at most MAX_CENTRES frames, so it takes seconds. Where in the strip
the mouth's audio lies depends on the clip: its audio can be early or late. This is chosen by
cross-validation: five contiguous parts of the training frames are predicted in turn from the
others. The same predictions give the quantiles of the calibration.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from being.audio.articulation import frame_time_step, has_articulation
from being.audio.feature_windows import STRIP, strips
from being.audio.pauses import (
    pause_readout,
    quiet_around,
    quiet_so_far,
    quietness,
)
from being.console import Progress
from being.conventions import ATTENTION_PAST, FEATURE_WINDOW, FPS, STEPS_PER_FRAME
from being.data.mouth import MouthCode
from being.face.mouth_code import MOUTH_CHANNELS
from being.model.voice_to_mouth import (
    ANY_SPEED,
    MAX_DELAY,
    VoiceToMouth,
    closing_amounts,
    gaussian_kernel,
)

STEP_COMPONENTS = 64
STRIP_COMPONENTS = 256
MAX_CENTRES = 3000  # training frames; of a longer clip every second (third, ...) is used
# Candidates of the cross-validation. The window is Gaussian: its middle, in steps after the frame's
# own time, as far as the strip reaches, and its width in steps.
MIDDLES = (-3.0, 0.0, 2.0, 4.0, 6.0, 9.0, 12.0)
WIDTHS = (4.0, 6.0)
# The window of most clips. Another one must predict better by more than CLEARLY_BETTER: on 10 to
# 20 s the scores of good windows differ by chance.
USUAL_WINDOW = (2.0, 4.0)
CLEARLY_BETTER = 0.04
GAMMA, RIDGE = 0.4, 0.15  # of the kernel; the ridge is relative to its diagonal of 1
FOLDS = 5
GAP = 8  # frames between training and predicted frames, so that no strip is shared
# Channels whose correlation counts in the choice.
JUDGED = ("lip_opening", "opening_area", "lip_width", "jaw_open", "teeth")
OWN_WINDOW = STEPS_PER_FRAME * ATTENTION_PAST  # first step of a strip in the frame's own window
FRAME_STEP = OWN_WINDOW + FEATURE_WINDOW // 2  # the step at the frame's time, without a shift
PROBABILITIES = np.array([0, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 100]) / 100
# A channel whose held-out predictions correlate this much with the truth gets the full deviation of
# the truth; one that correlates less gets less, because calibration would only amplify noise.
FULL_CORRELATION, LEAST_SHARE = 0.5, 0.5
MOST_GAIN = 3.0  # of the calibration, as a ratio of deviations
# How far a face moves in frames that it was not trained on, as a share of what its code says: the
# mean of seven clips (docs/lab_log.md). `train/face_response.py` measures it for each avatar.
FACE_RESPONSE = {
    **dict.fromkeys(("lip_opening", "opening_area", "upper_lip", "lower_lip", "jaw_open"), 0.93),
    **dict.fromkeys(("lip_width", "inner_width"), 0.75),
}
CLOSED_SHARE = 0.2  # of the range of the opening, below which lips count as closed
# How far below that a closure of p, b or m aims, in ranges of the channels: lips press there, and a
# face shows a short closure less than a long one.
PRESSED = {"lip_opening": 0.3, "opening_area": 0.3, "upper_lip": 0.3, "lower_lip": 0.3}
PAUSE_WAITS = 25, 75  # limits of the quiet steps of 20 ms after which a mouth closes
# Predicted codes change by at most this share of this percentile of the footage's changes between
# frames: what a face shows is a little unsteady too.
SPEED_SHARE, SPEED_PERCENTILE = 0.8, 99.5
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
    # Deviation that the face shows, by the calibrated predictions, over the true one [K].
    motion: np.ndarray
    middle: float
    width: float


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
    delay: int | None = None,
) -> VoiceFit | None:
    """The mapping learnt from the frames int [n] of a clip; None with less than a second.

    features: speech features float32 [F, 16, C] of `encoder`; bounds: int [F, 2], first and last
    frame of each frame's segment; code: the clip's true mouth code; delay: frames by which the
    clip's audio comes after its mouth (default: found from the window that predicts best).
    """
    frames = frames[code.found[frames]]
    if len(frames) < LEAST_FRAMES:
        return None
    every, frames = frames, frames[:: -(-len(frames) // MAX_CENTRES)]
    with Progress("voice to mouth"), threadpool_limits(MAX_THREADS):
        step_mean, step_basis = _step_components(features[frames])
        steps = (strips(features, bounds) - step_mean) @ step_basis  # [F, 30, P]
        target = code.values[frames].astype(np.float64)
        shift = frame_time_step(encoder) - FEATURE_WINDOW // 2

        def in_step(delay: int) -> np.ndarray:
            """The frames whose strips hold the audio of `frames`."""
            return np.minimum(frames + delay, bounds[frames, 1])

        heard = in_step(delay or 0)
        middle, width = _choose_window(steps[heard], frames, target, shift)
        if delay is None:
            # Audio that comes after the mouth is brought in step by whole frames.
            late = round((middle - USUAL_WINDOW[0]) / STEPS_PER_FRAME)
            delay = min(max(late, 0), MAX_DELAY)
            middle -= STEPS_PER_FRAME * delay
            heard = in_step(delay)
        reduced = _reduce(steps[heard], middle + shift, width)
        predicted = _held_out(reduced.x, frames, target)

        # What closes the mouth in every voice
        readout, now = pause_readout(encoder, features.shape[2]), -1
        if has_articulation(encoder, features.shape[2]):
            now = OWN_WINDOW + frame_time_step(encoder)

        mean, spread = target.mean(0), target.std(0) + 1e-6
        weights = _solve(reduced.x, (target - mean) / spread) * spread
        before, after = _quantiles(predicted, target)
        mapping = VoiceToMouth(
            code.units,
            step_mean,
            step_basis,
            reduced.window,
            reduced.mean,
            reduced.basis,
            GAMMA,
            reduced.x,
            weights,
            mean,
            before,
            after,
            mean + (_closed_mouth(target) - mean) / usual_face_share(),
            closing_amounts(),
            usual_face_share(),
            np.zeros(0) if readout is None else readout,
            _largest_steps(code, bounds, every) / usual_face_share(),
            now,
            _pause_wait(readout, strips(features, bounds), bounds, now),
            delay,
        )
    arrays = {name: value.astype(np.float32) for name, value in mapping.tensors().items()}
    mapping = VoiceToMouth.from_parts(arrays, mapping.facts())
    calibrated = mapping.calibrate(predicted.astype(np.float32))
    motion = calibrated.std(0) / (target.std(0) + 1e-9)
    return VoiceFit(mapping, _correlations(predicted, target), motion, middle, width)


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


def _choose_window(
    steps: np.ndarray, frames: np.ndarray, target: np.ndarray, shift: int
) -> tuple[float, float]:
    """The window's middle and width.

    shift: steps by which the frame's time lies later in the strip (`Latency.shift`).
    """
    judged = [MOUTH_CHANNELS.index(name) for name in JUDGED]
    scores = {}
    for middle, width in itertools.product(MIDDLES, WIDTHS):
        if FRAME_STEP + middle + shift < STRIP:
            predicted = _held_out(_reduce(steps, middle + shift, width).x, frames, target)
            scores[middle, width] = float(_correlations(predicted, target)[judged].mean())
    best = max(scores, key=lambda window: scores[window])
    return best if scores[best] > scores[USUAL_WINDOW] + CLEARLY_BETTER else USUAL_WINDOW


def _held_out(x: np.ndarray, frames: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Codes [n, K] of all frames, each predicted from the parts of the clip that it is not in."""
    kernel = gaussian_kernel(x, x, GAMMA)
    borders = np.linspace(0, len(x), FOLDS + 1).round().astype(int)
    predicted = np.zeros_like(target)
    for first, stop in zip(borders[:-1], borders[1:], strict=True):
        known = (frames < frames[first] - GAP) | (frames > frames[stop - 1] + GAP)
        mean, spread = target[known].mean(0), target[known].std(0) + 1e-6
        inner = kernel[np.ix_(known, known)].astype(np.float64)
        inner[np.diag_indices_from(inner)] += RIDGE
        weights = np.linalg.solve(inner, (target[known] - mean) / spread)
        predicted[first:stop] = kernel[first:stop][:, known] @ weights * spread + mean
    return predicted


def _solve(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights [N, K] of kernel ridge regression; the kernel's diagonal is 1."""
    kernel = gaussian_kernel(x, x, GAMMA).astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += RIDGE
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


def usual_face_share() -> np.ndarray:
    """FACE_RESPONSE of each channel [K], 1 where it is not known."""
    return np.array([FACE_RESPONSE.get(name, 1.0) for name in MOUTH_CHANNELS])


def _pause_wait(
    readout: np.ndarray | None, strips: np.ndarray, bounds: np.ndarray, now: int
) -> int:
    """Quiet steps after which the mouth closes: longer than the clip's own pauses.

    In those the fit knows better what the mouth does. readout: of `audio.pauses`, or None; strips:
    [F, 30, C]; now: their step at the frame's time.
    """
    if readout is None:
        return PAUSE_WAITS[0]
    around = quiet_around(quietness(strips, readout), now)
    longest = 0.0
    for first, last in np.unique(bounds, axis=0):
        longest = max(longest, quiet_so_far(around[first : last + 1, :-1], 0.0).max())
    return round(float(np.clip(longest, *PAUSE_WAITS)))


def _largest_steps(code: MouthCode, bounds: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Largest change [K] of the code between successive ones of the frames int [n]."""
    next_ones = frames[:-1][np.diff(frames) == 1] + 1
    next_ones = next_ones[bounds[next_ones, 0] < next_ones]
    if len(next_ones) < FPS:
        return np.full(len(code.units), ANY_SPEED)
    steps = np.abs(code.values[next_ones] - code.values[next_ones - 1])
    return SPEED_SHARE * np.percentile(steps, SPEED_PERCENTILE, axis=0) + 1e-3


def _correlations(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson's correlation [K] of each channel; 0 where one does not change."""
    a, b = predicted - predicted.mean(0), target - target.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(size > 1e-9, (a * b).sum(0) / np.maximum(size, 1e-9), 0.0)


def _closed_mouth(target: np.ndarray) -> np.ndarray:
    """The person's pressed lips [K]: the mean code of the frames with closed lips, less PRESSED."""
    opening = target[:, 0]
    low, high = np.percentile(opening, (2, 98))
    closed = target[opening <= low + CLOSED_SHARE * (high - low)].mean(0)
    return closed - [PRESSED.get(name, 0.0) for name in MOUTH_CHANNELS]
