"""True times of a clip's frames: find repeated frames, resample to 25 frames/s.

A 25 fps video in a 30 fps container repeats every 6th frame; taken by its timestamps it would
stutter. The true rate is the one whose pattern of copies is in the clip; its frames then lie
evenly in time. Copies without such a pattern come from a change of rate that no constant rate
explains, or from lost frames that the frame before replaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.conventions import FPS
from being.preprocess.inspection.spans import true_runs

# Frames/s that a clip may have had before it was put into a container of a higher rate.
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
NEIGHBOURS = 8  # frames on either side that give the usual change
WINDOW = 3000  # frames over which the phase of a pattern is taken as constant
PHASE_STEP = 0.1  # frames of the container
COPIES_MIN = 8  # copies that make a pattern
COPIES_IN_A_ROW = 4  # at most, where they have no pattern
LONE_SHARE = 0.01  # of the frames, from which copies without a pattern are no chance
# Change of a copy over the smaller change of the true frames beside it: of copies that prove
# others, and of those others.
BESIDE, BESIDE_OTHERS = 0.15, 0.4
# Change after a copy over the usual change, from which the picture stood still meanwhile. It is 1
# where a copy was put between even frames; a stop of one frame makes it 1.5 to 2.
STOPPED = 1.25
SMOOTH = 25  # true frames over which times are averaged where the rate varies
IN_PATTERN_MIN = 0.9  # share of the pattern's positions that hold a copy
OFF_PATTERN_MAX = 0.3  # share of the other positions that hold one
EVEN = 0.2  # spread of the time steps over their median, up to which a rate is constant
DENSE = 0.2  # median time step over the header's, under which timestamps are useless


@dataclass(frozen=True)
class Timing:
    """The true time of each of n source frames, and which of them repeat the frame before."""

    # float64 [n], s from the first picture, ascending over the frames that are no copies
    times: np.ndarray
    # bool [n], frames to leave out
    copies: np.ndarray
    # frames/s of the file
    container_rate: float
    # true frames/s
    rate: float
    # the time steps differ
    variable: bool
    # the copies have the pattern of a constant change of frame rate
    pattern: bool
    # the timestamps were useless; frames were counted at the header's rate
    counted: bool


def find_timing(
    timestamps: np.ndarray, change: np.ndarray, header_rate: float, breaks: list[int]
) -> Timing:
    """The true times of a clip.

    timestamps: float64 [n] s, ascending. change: float32 [n], mean difference to the frame before
    in levels (the first is not used). header_rate: frames/s, 0 when unknown. breaks: first frames
    of new shots, ascending.
    """
    timestamps = timestamps - timestamps[0]
    count = len(timestamps)

    # Timestamps far denser than the header's rate are useless: frames are counted instead.
    rate = header_rate or FPS
    counted = count > 1 and float(np.median(np.diff(timestamps))) < DENSE / rate
    if counted:
        timestamps = np.arange(count) / rate

    # The container's rate, from the steps between its frames.
    steps = np.diff(timestamps) if count > 1 else np.array([1 / rate])
    step = float(np.median(steps))
    low, high = np.percentile(steps, [1, 99])
    variable = bool(high - low > EVEN * step)
    container = 1 / step if variable else 1 / float(steps[steps < 2 * step].mean())

    # Copies in the pattern of a constant change of rate.
    found = None if variable else _find_pattern(_unchanged(change), container)
    if found is not None:
        true_rate, copies = found
        times = _even_times(timestamps, copies, true_rate, 1 / container, breaks)
        return Timing(times, copies, container, true_rate, False, bool(copies.any()), counted)

    # Copies without a pattern. The frames between them lie evenly, unless the picture stood still.
    copies = _lone_copies(change)
    shown = np.flatnonzero(~copies)
    if variable:
        span = float(timestamps[shown[-1]] - timestamps[shown[0]])
        true_rate = (len(shown) - 1) / max(span, 1e-6)
        return Timing(timestamps, copies, container, true_rate, True, False, counted)
    true_rate, times = container * len(shown) / count, timestamps
    if copies.any() and not _stood_still(change, copies):
        times = _smooth_times(timestamps, copies, 1 / container, breaks)
    return Timing(times, copies, container, true_rate, False, False, counted)


def nearest_frames(times: np.ndarray) -> tuple[np.ndarray, float]:
    """Indices int64 [m] of the frames to show at 25 frames/s, and the worst error in time, s.

    times: float64 [k] s, ascending, of one stretch without a cut. Frame n of the result is the one
    nearest to times[0] + n / 25.
    """
    step = min(1 / FPS, float(np.median(np.diff(times)))) if len(times) > 1 else 1 / FPS
    count = int(np.ceil((times[-1] - times[0] + step / 2) * FPS - 1e-6))
    wanted = times[0] + np.arange(max(1, count)) / FPS
    after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    # Of two frames equally near, the earlier one: a lost frame then shows the frame before it.
    nearest = np.where(wanted - times[before] < times[after] - wanted + 1e-6, before, after)
    return nearest, float(np.abs(times[nearest] - wanted).max())


def repeated_frames(times: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Places int64 [r] in `chosen` whose frame stands at another place that its time fits better.

    times, chosen: of `nearest_frames`, float64 [k] s and int64 [m]. Of the places of one frame the
    one that is nearest to its time is no repetition.
    """
    wanted = times[0] + np.arange(len(chosen)) / FPS
    error = np.abs(times[chosen] - wanted)
    order = np.lexsort((error, chosen))
    again = np.flatnonzero(np.diff(chosen[order]) == 0) + 1
    return np.sort(order[again])


def _unchanged(change: np.ndarray) -> np.ndarray:
    """bool [n]: frames that hardly change although the frames around them do."""
    padded = change[1:]
    if len(change) > NEIGHBOURS + 1:
        padded = np.pad(change[1:].astype(np.float64), NEIGHBOURS, mode="reflect")
    if len(padded) < 2 * NEIGHBOURS + 1:
        return np.zeros(len(change), bool)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
    usual = np.percentile(around, 85, axis=1)
    return np.concatenate([[False], change[1:] < np.minimum(COPY * usual, COPY_MAX)])


def _lone_copies(change: np.ndarray) -> np.ndarray:
    """Copies bool [n] at any cadence; none where they are so few that they may be chance.

    A person who stops moving slows down first. A copy stands still between moving frames. A longer
    stretch without change (a black or a frozen picture) is none of copies.
    """
    # Of each unchanged stretch: its change over that of the frames beside it.
    beside = np.full(len(change), np.inf)
    for start, stop in true_runs(_unchanged(change)):
        if _still_frames(change, start, stop) > COPIES_IN_A_ROW:
            continue
        moving = [change[i] for i in (start - 1, stop) if 0 < i < len(change)]
        if moving:
            beside[start:stop] = change[start:stop].max() / max(float(min(moving)), 1e-6)

    # Clear copies must be many; then slower frames beside a copy no longer hide it.
    clear = beside < BESIDE
    if clear.sum() < max(COPIES_MIN, LONE_SHARE * len(change)):
        return np.zeros(len(change), bool)
    return beside < BESIDE_OTHERS


def _still_frames(change: np.ndarray, start: int, stop: int) -> int:
    """Frames in a row round [start, stop) that change no more than these do."""
    still = change <= change[start:stop].max()
    while start > 1 and still[start - 1]:
        start -= 1
    while stop < len(change) and still[stop]:
        stop += 1
    return stop - start


def _stood_still(change: np.ndarray, copies: np.ndarray) -> bool:
    """Whether the picture jumps after copies: it stood still while the true one went on."""
    after = np.flatnonzero(~copies[1:] & copies[:-1]) + 1
    jumps = []
    for i in after:
        around = np.arange(max(1, i - NEIGHBOURS), min(len(change), i + NEIGHBOURS + 1))
        usual = around[~copies[around] & ~copies[around - 1]]
        if len(usual):
            jumps.append(change[i] / max(float(np.median(change[usual])), 1e-6))
    return len(jumps) > 0 and float(np.median(jumps)) > STOPPED


def _find_pattern(unchanged: np.ndarray, container: float) -> tuple[float, np.ndarray] | None:
    """The true rate and the copies bool [n] of the pattern that fits `unchanged` best, or None."""
    best: tuple[float, float, np.ndarray] | None = None
    for rate in RATES:
        if rate > 0.99 * container:
            continue

        # The phase may drift over a long clip: each window has its own.
        windows = [
            _best_phase(unchanged[i : i + WINDOW], rate / container)
            for i in range(0, len(unchanged), WINDOW)
        ]
        copies = np.concatenate(windows)

        # A pattern holds when its positions, and hardly any others, are copies.
        inside, outside = unchanged[copies], unchanged[~copies]
        if len(inside) < COPIES_MIN or not len(outside):
            continue
        fits, others = float(inside.mean()), float(outside[1:].mean())
        if fits < IN_PATTERN_MIN or others > OFF_PATTERN_MAX:
            continue
        if best is None or fits - others > best[0]:
            best = fits - others, rate, copies
    return None if best is None else (best[1], best[2])


def _best_phase(unchanged: np.ndarray, ratio: float) -> np.ndarray:
    """Copies bool [n] for the phase that fits best.

    ratio: true rate over the container's. Position j of the container shows the true picture
    floor((j + phase) * ratio).
    """
    positions = np.arange(-1, len(unchanged))
    best, chosen = -np.inf, np.zeros(len(unchanged), bool)
    for phase in np.arange(0, 1 / ratio + 1, PHASE_STEP):
        copies = np.diff(np.floor((positions + phase) * ratio + 1e-9)) == 0
        score = (unchanged & copies).sum() - (unchanged ^ copies)[1:].sum()
        if score > best:
            best, chosen = score, copies
    chosen[0] = False
    return chosen


def _even_times(
    timestamps: np.ndarray, copies: np.ndarray, rate: float, step: float, breaks: list[int]
) -> np.ndarray:
    """Timestamps made even at `rate` in each shot.

    step: of the container, s. A shot in which a frame would move by more than this stays as it is.
    """
    times = timestamps.copy()
    bounds = [0, *breaks, len(timestamps)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        shown = np.flatnonzero(~copies[start:stop]) + start
        if len(shown) < 2:
            continue
        even = np.arange(len(shown)) / rate
        even += (timestamps[shown] - even).mean()
        if np.abs(even - timestamps[shown]).max() <= step + 1e-6:
            times[shown] = even
    return times


def _smooth_times(
    timestamps: np.ndarray, copies: np.ndarray, step: float, breaks: list[int]
) -> np.ndarray:
    """Timestamps averaged over SMOOTH neighbours in each shot: locally even without the copies.

    step: of the container, s. No frame moves by more than this.
    """
    times = timestamps.copy()
    bounds = [0, *breaks, len(timestamps)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        shown = np.flatnonzero(~copies[start:stop]) + start
        if len(shown) < SMOOTH:
            continue

        # The mean rate is taken out first, so that the ends can be continued by their last value.
        index = np.arange(len(shown))
        line = np.polyval(np.polyfit(index, timestamps[shown], 1), index)
        offset = np.pad(timestamps[shown] - line, SMOOTH // 2, mode="edge")
        smooth = line + np.convolve(offset, np.full(SMOOTH, 1 / SMOOTH), mode="valid")
        times[shown] = np.clip(smooth, timestamps[shown] - step, timestamps[shown] + step)
    return times
