"""True times of a clip's pictures: copies that a change of frame rate left are known, and 25
frames/s are chosen.

A 25 fps video in a 30 fps container repeats every 6th frame; taken by its timestamps it would
stutter. The true rate is the one whose pattern of copies is in the clip; its pictures then lie
evenly in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.conventions import FPS

RATES = (
    10.0,
    12.0,
    12.5,
    15000 / 1001,
    15.0,
    20.0,
    24000 / 1001,
    24.0,
    25.0,
    30000 / 1001,
    30.0,
    48.0,
    50.0,
)
COPY = 0.15  # change of a copy over the usual change around it
COPY_MAX = 0.4  # levels; a copy never changes more
AROUND = 8  # frames on either side that give the usual change
WINDOW = 3000  # frames over which the phase of a pattern is taken as constant
PHASE_STEP = 0.1  # frames of the container
COPIES_MIN = 8  # copies that make a pattern
IN_PATTERN_MIN = 0.9  # share of the pattern's places that hold a copy
OFF_PATTERN_MAX = 0.3  # share of the other places that hold one
EVEN = 0.2  # spread of the steps in time over their median, up to which a rate is constant
DENSE = 0.2  # median step over the header's, under which timestamps are of no use


@dataclass(frozen=True)
class Timing:
    """When each of n source frames was true, and which of them repeat the one before."""

    times: (
        np.ndarray
    )  # float64 [n], s from the first picture, rising over the frames that are no copies
    copies: np.ndarray  # bool [n], frames left out
    container_rate: float  # frames/s
    rate: float  # true frames/s
    variable: bool  # the steps in time differ
    pattern: bool  # copies come in the pattern of a change of rate
    counted: bool  # timestamps were of no use; frames were counted at the header's rate


def find_timing(
    stamps: np.ndarray, change: np.ndarray, header_rate: float, breaks: list[int]
) -> Timing:
    """The true times of a clip.

    stamps: float64 [n] s, rising. change: float32 [n], mean difference to the frame before in
    levels (the first is not used). header_rate: frames/s, 0 when unknown. breaks: first frames of
    new shots, rising.
    """
    stamps = stamps - stamps[0]
    count = len(stamps)
    rate = header_rate or FPS
    counted = count > 1 and float(np.median(np.diff(stamps))) < DENSE / rate
    if counted:
        stamps = np.arange(count) / rate
    steps = np.diff(stamps) if count > 1 else np.array([1 / rate])
    step = float(np.median(steps))
    low, high = np.percentile(steps, [1, 99])
    variable = bool(high - low > EVEN * step)
    container = 1 / step if variable else 1 / float(steps[steps < 2 * step].mean())
    times, copies, true_rate = stamps, np.zeros(count, bool), container
    if not variable:
        found = _pattern(_copied(change), container)
        if found is not None:
            true_rate, copies = found
            times = _even_times(stamps, copies, true_rate, 1 / container, breaks)
    else:
        true_rate = (count - 1) / max(stamps[-1], 1e-6)
    return Timing(times, copies, container, true_rate, variable, bool(copies.any()), counted)


def choose_frames(times: np.ndarray) -> tuple[np.ndarray, float]:
    """Which frames of one stretch to show at 25 frames/s, int64 [m], and the worst error in time,
    s.

    times: float64 [k] s, rising. Frame n of the result is the one nearest to times[0] + n / 25.
    """
    step = min(1 / FPS, float(np.median(np.diff(times)))) if len(times) > 1 else 1 / FPS
    count = int(np.ceil((times[-1] - times[0] + step / 2) * FPS - 1e-6))
    wanted = times[0] + np.arange(max(1, count)) / FPS
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - times[before] < times[after] - wanted, before, after)
    return nearest, float(np.abs(times[nearest] - wanted).max())


def _copied(change: np.ndarray) -> np.ndarray:
    """bool [n]: frames that hardly change although those around them do."""
    padded = (
        np.pad(change[1:].astype(np.float64), AROUND, mode="reflect")
        if len(change) > AROUND + 1
        else change[1:]
    )
    if len(padded) < 2 * AROUND + 1:
        return np.zeros(len(change), bool)
    usual = np.percentile(
        np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1), 85, axis=1
    )
    return np.concatenate([[False], change[1:] < np.minimum(COPY * usual, COPY_MAX)])


def _pattern(copied: np.ndarray, container: float) -> tuple[float, np.ndarray] | None:
    """The true rate and the copies bool [n] of the pattern that explains `copied` best, or None."""
    best: tuple[float, float, np.ndarray] | None = None
    for rate in RATES:
        if rate > 0.99 * container:
            continue
        copies = np.concatenate(
            [
                _best_phase(copied[i : i + WINDOW], rate / container)
                for i in range(0, len(copied), WINDOW)
            ]
        )
        inside, outside = copied[copies], copied[~copies]
        if len(inside) < COPIES_MIN or not len(outside):
            continue
        fits, others = float(inside.mean()), float(outside[1:].mean())
        if (
            fits >= IN_PATTERN_MIN
            and others <= OFF_PATTERN_MAX
            and (best is None or fits - others > best[0])
        ):
            best = fits - others, rate, copies
    return None if best is None else (best[1], best[2])


def _best_phase(copied: np.ndarray, ratio: float) -> np.ndarray:
    """Copies bool [n] when picture floor((j + phase) * ratio) is shown at place j, for the phase
    that fits best.
    """
    places = np.arange(-1, len(copied))
    best, chosen = -np.inf, np.zeros(len(copied), bool)
    for phase in np.arange(0, 1 / ratio + 1, PHASE_STEP):
        copies = np.diff(np.floor((places + phase) * ratio + 1e-9)) == 0
        score = (copied & copies).sum() - (copied ^ copies)[1:].sum()
        if score > best:
            best, chosen = score, copies
    chosen[0] = False
    return chosen


def _even_times(
    stamps: np.ndarray, copies: np.ndarray, rate: float, step: float, breaks: list[int]
) -> np.ndarray:
    """Timestamps made even at `rate` in each shot, where that moves none by more than a frame of
    the container.
    """
    times = stamps.copy()
    bounds = [0, *breaks, len(stamps)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        shown = np.flatnonzero(~copies[start:stop]) + start
        if len(shown) < 2:
            continue
        even = np.arange(len(shown)) / rate
        even += (stamps[shown] - even).mean()
        if np.abs(even - stamps[shown]).max() <= step + 1e-6:
            times[shown] = even
    return times
