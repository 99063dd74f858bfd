"""How far a rendered mouth goes with the true one: correlation, lag, motion, distance of the lip
landmarks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from being.eval.faces import landmark_distance, lip_width
from being.face.landmarks import Landmarks, lip_aperture

LAGS = 10  # frames to either side among which the best lag is sought
LEAST_FRAMES = 8  # fewer overlapping frames say nothing of a correlation
ORDERS = 64  # random orders of the sound among which the fairest is taken


@dataclass(frozen=True)
class LipAgreement:
    """How a rendered lip aperture goes with the true one over the same frames."""

    correlation: float | None  # Pearson at lag 0; None when `reason` says why it cannot be had
    best_lag: (
        int | None
    )  # frames by which the rendered mouth comes after the true one (negative: before)
    best_correlation: float | None
    motion: (
        float | None
    )  # deviation of the rendered aperture over that of the true one: near 0 the mouth hardly moves
    frames: int  # frames with a true aperture: what was compared
    misses: int  # of those, frames in which no face was found on the render
    true_misses: (
        int  # frames in which none was found on the true frame: there is nothing to compare with
    )
    reason: str = ""


def lip_figures(
    true: Landmarks,
    made: Landmarks,
    segment: np.ndarray | None = None,
    shuffled: Landmarks | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of the lips (JSON types) and the series [F] behind them, of the same frames in px at
    512.

    segment: int [F], which of the clip's segments a frame lies in. shuffled: of renders that heard
    other sound.
    """
    series = {
        f"{name}.{key}": measure(faces.points)
        for key, faces in (("true", true), ("rendered", made), ("shuffled", shuffled))
        if faces is not None
        for name, measure in (("aperture", lip_aperture), ("width", lip_width))
    }
    series["lmd"] = landmark_distance(true.points, made.points)
    own = agreement(series["aperture.true"], series["aperture.rendered"], segment)
    wide = agreement(series["width.true"], series["width.rendered"], segment)
    both = np.isfinite(series["lmd"])
    figures = {
        **asdict(own),
        "width_correlation": wide.correlation,
        "width_best_lag": wide.best_lag,
        "width_motion": wide.motion,
        "lmd": float(series["lmd"][both].mean()) if both.any() else None,
    }
    if shuffled is not None:
        other = agreement(series["aperture.true"], series["aperture.shuffled"], segment)
        figures |= {
            "shuffled_correlation": other.correlation,
            "shuffled_misses": other.misses,
            "shuffled_chance": own.frames**-0.5 if own.frames else None,
        }
    return figures, series


def fair_order(frames: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Whose sound is heard in the stead of each of `frames` int [F], and how the true lip aperture
    float [F] (NaN where unknown) correlates with itself in this order.

    A mouth that follows its sound without fault correlates so with the truth too, by the order's
    own chance (docs/evaluation.md). Of ORDERS random orders the one in which that is least is
    taken; nothing rendered enters.
    """
    orders = [shuffled_frames(np.arange(len(frames)), seed) for seed in range(ORDERS)]
    filled = (
        np.where(np.isfinite(true), true, np.nanmean(true)) if np.isfinite(true).any() else None
    )
    own = [None if filled is None else correlation_at(true, filled[order], 0) for order in orders]
    sizes = [np.inf if value is None else abs(value) for value in own]
    best = int(np.argmin(sizes))
    return frames[orders[best]], own[best]


def shuffled_frames(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """`frames` int [F] in a random order without a fixed point (Sattolo's cycle): whose sound is
    heard in its stead.
    """
    rng, order = np.random.default_rng(seed), frames.copy()
    for i in range(len(order) - 1, 0, -1):
        j = int(rng.integers(i))
        order[i], order[j] = order[j], order[i]
    return order


def agreement(
    true: np.ndarray, rendered: np.ndarray, segment: np.ndarray | None = None
) -> LipAgreement:
    """Correlation and lag of two aperture series float [F] over the same frames, NaN where no face
    was found.

    segment: int [F], which of the clip's segments a frame lies in; a lag compares no frames across
    a break.

    A missed rendered frame takes the mean of the found ones: it adds the truth's variance and no
    agreement, so misses can only lower the size of a correlation. A mouth that never moves has
    correlation 0.
    """
    assert true.shape == rendered.shape and true.ndim == 1, (true.shape, rendered.shape)
    known, found = np.isfinite(true), np.isfinite(rendered)
    counts = int(known.sum()), int((known & ~found).sum()), int((~known).sum())
    reason = (
        "no face was found on the true frames"
        if not known.any()
        else "no face was found on any rendered frame"
        if not (known & found).any()
        else f"only {known.sum()} frames"
        if known.sum() < LEAST_FRAMES
        else "the true mouth never moves"
        if np.ptp(true[known]) == 0
        else ""
    )
    if reason:
        return LipAgreement(None, None, None, None, *counts, reason)
    filled = np.where(found, rendered, rendered[found].mean())
    lags = {
        lag: value
        for lag in range(-LAGS, LAGS + 1)
        if (value := correlation_at(true, filled, lag, segment)) is not None
    }
    best = max(lags, key=lambda lag: (lags[lag], -abs(lag)))
    motion = float(filled[known].std() / true[known].std())
    return LipAgreement(lags[0], best, lags[best], motion, *counts)


def correlation_at(
    true: np.ndarray, rendered: np.ndarray, lag: int, segment: np.ndarray | None = None
) -> float | None:
    """Pearson correlation of true[t] and rendered[t + lag] over all t inside both, in one `segment`
    where these are given; 0 when either is constant, None when fewer than LEAST_FRAMES are left.
    NaN of `true` are left out, `rendered` is finite."""
    t = np.arange(max(0, -lag), min(len(true), len(true) - lag))
    t = t[np.isfinite(true[t]) & (segment is None or segment[t] == segment[t + lag])]
    if len(t) < LEAST_FRAMES:
        return None
    x, y = true[t].astype(np.float64), rendered[t + lag].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size > 1e-12 * len(x) else 0.0
