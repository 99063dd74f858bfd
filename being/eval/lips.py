"""Compares rendered and true lip motion: correlation, lag, amplitude, LMD."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from being.eval.face_lengths import landmark_distance, lip_width
from being.face.landmarks import Landmarks, lip_aperture

MAX_LAG = 10  # frames in both directions within which the best lag is searched
MIN_FRAMES = 8  # a correlation over fewer frames means nothing
RANDOM_ORDERS = 64  # random orders of the audio, of which the least correlated is used


@dataclass(frozen=True)
class LipAgreement:
    """Agreement of a rendered with the true lip aperture over the same frames."""

    # Pearson correlation at lag 0; None when it cannot be computed, and `reason` says why.
    correlation: float | None
    # Frames by which the rendered mouth follows the true one; negative when it is ahead.
    best_lag: int | None
    best_correlation: float | None
    # Deviation of the rendered aperture divided by that of the true one; near 0 the mouth is still.
    motion: float | None
    frames: int  # frames with a true aperture: what was compared
    misses: int  # of those, frames in which no face was found on the rendered frame
    true_misses: int  # frames in which no face was found on the true frame: not compared
    reason: str = ""


def lip_figures(
    true: Landmarks,
    rendered: Landmarks,
    segment: np.ndarray | None = None,
    shuffled: Landmarks | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of the lips (JSON types), and the series [F] that they are computed from.

    true, rendered: landmarks of the same frames, in px at 512; segment: int [F], the clip's segment
    of each frame; shuffled: landmarks of frames rendered with the audio of other frames.
    """
    # Lip aperture and width of each sequence of frames.
    sequences = {"true": true, "rendered": rendered}
    if shuffled is not None:
        sequences["shuffled"] = shuffled
    series = {}
    for key, faces in sequences.items():
        series[f"aperture.{key}"] = lip_aperture(faces.points)
        series[f"width.{key}"] = lip_width(faces.points)
    series["lmd"] = landmark_distance(true.points, rendered.points)

    # Agreement of rendered with true lips.
    aperture = lip_agreement(series["aperture.true"], series["aperture.rendered"], segment)
    width = lip_agreement(series["width.true"], series["width.rendered"], segment)
    both = np.isfinite(series["lmd"])
    figures = {
        **asdict(aperture),
        "width_correlation": width.correlation,
        "width_best_lag": width.best_lag,
        "width_motion": width.motion,
        "lmd": float(series["lmd"][both].mean()) if both.any() else None,
    }

    # The same with shuffled audio: what remains is explained by pose and upper face alone.
    if shuffled is not None:
        chance = lip_agreement(series["aperture.true"], series["aperture.shuffled"], segment)
        figures |= {
            "shuffled_correlation": chance.correlation,
            "shuffled_misses": chance.misses,
            "shuffled_chance": aperture.frames**-0.5 if aperture.frames else None,
        }
    return figures, series


def decorrelated_order(frames: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, float | None]:
    """For each frame the frame whose audio replaces its own (int [F]), and the correlation of the
    true lip aperture with itself in this order.

    A mouth that follows its audio perfectly has this correlation with the truth too, by the chance
    of the order (docs/evaluation.md). So the order with the smallest one of RANDOM_ORDERS random
    orders is used. Nothing rendered is used for the choice.

    frames: int [F]; true: true lip aperture float [F], NaN where unknown.
    """
    orders = [shuffled_frames(np.arange(len(frames)), seed) for seed in range(RANDOM_ORDERS)]
    if not np.isfinite(true).any():
        return frames[orders[0]], None
    filled = np.where(np.isfinite(true), true, np.nanmean(true))
    correlations = [correlation_at(true, filled[order], 0) for order in orders]
    sizes = [np.inf if value is None else abs(value) for value in correlations]
    best = int(np.argmin(sizes))
    return frames[orders[best]], correlations[best]


def shuffled_frames(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """`frames` int [F] in a random order in which no frame keeps its place (Sattolo 1986)."""
    rng = np.random.default_rng(seed)
    order = frames.copy()
    for i in range(len(order) - 1, 0, -1):
        j = int(rng.integers(i))
        order[i], order[j] = order[j], order[i]
    return order


def lip_agreement(
    true: np.ndarray, rendered: np.ndarray, segment: np.ndarray | None = None
) -> LipAgreement:
    """Correlation and lag of two aperture series over the same frames.

    A missed rendered frame gets the mean of the found ones. It adds the variance of the truth and
    no agreement, so misses can only reduce the size of a correlation. A mouth that never moves has
    correlation 0. A lag compares no frames of two different segments.

    true, rendered: float [F], NaN where no face was found; segment: int [F], the clip's segment of
    each frame.
    """
    assert true.shape == rendered.shape and true.ndim == 1, (true.shape, rendered.shape)
    known, found = np.isfinite(true), np.isfinite(rendered)
    counts = int(known.sum()), int((known & ~found).sum()), int((~known).sum())
    reason = _why_not_comparable(true, known, found)
    if reason:
        return LipAgreement(None, None, None, None, *counts, reason)

    # The best lag has the largest correlation; of equal ones, the smallest lag.
    filled = np.where(found, rendered, rendered[found].mean())
    correlations = {}
    for lag in range(-MAX_LAG, MAX_LAG + 1):
        value = correlation_at(true, filled, lag, segment)
        if value is not None:
            correlations[lag] = value
    best = max(correlations, key=lambda lag: (correlations[lag], -abs(lag)))
    motion = float(filled[known].std() / true[known].std())
    return LipAgreement(correlations[0], best, correlations[best], motion, *counts)


def _why_not_comparable(true: np.ndarray, known: np.ndarray, found: np.ndarray) -> str:
    """Why two aperture series cannot be compared; "" when they can."""
    if not known.any():
        return "no face was found on the true frames"
    if not (known & found).any():
        return "no face was found on any rendered frame"
    if known.sum() < MIN_FRAMES:
        return f"only {known.sum()} frames"
    if np.ptp(true[known]) == 0:
        return "the true mouth never moves"
    return ""


def correlation_at(
    true: np.ndarray, rendered: np.ndarray, lag: int, segment: np.ndarray | None = None
) -> float | None:
    """Pearson correlation of true[t] and rendered[t + lag] over all t for which both exist.

    At a positive lag, the rendered series follows the true one. 0 when either is constant, None
    when fewer than MIN_FRAMES are left.

    true: float [F], NaN is left out; rendered: float [F], finite; segment: int [F], the clip's
    segment of each frame: only frames of the same segment are compared.
    """
    t = np.arange(max(0, -lag), min(len(true), len(true) - lag))
    usable = np.isfinite(true[t])
    if segment is not None:
        usable &= segment[t] == segment[t + lag]
    t = t[usable]
    if len(t) < MIN_FRAMES:
        return None
    x, y = true[t].astype(np.float64), rendered[t + lag].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 1e-12 * len(x) else 0.0
