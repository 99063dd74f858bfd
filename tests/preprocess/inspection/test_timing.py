"""Timing: the true frame rate in any container, and the nearest frames at 25 frames/s."""

from __future__ import annotations

import numpy as np
import pytest

from being.preprocess.inspection.timing import find_timing, nearest_frames, repeated_frames

COUNT = 1500


def repeated(container: float, true: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The true frame at each position of a container, int [n], and its change in levels."""
    rng = np.random.default_rng(seed)
    shown = np.floor(np.arange(COUNT) * true / container + rng.uniform()).astype(int)
    change = rng.lognormal(0, 0.6, COUNT).astype(np.float32)
    change[1:][np.diff(shown) == 0] = rng.uniform(0, 0.03, (np.diff(shown) == 0).sum())
    return shown, change


@pytest.mark.parametrize(
    "container, true",
    [
        (30, 25),
        (60, 25),
        (50, 25),
        (30, 24),
        (60, 24),
        (60, 30),
        (60, 50),
        (30000 / 1001, 24000 / 1001),
        (30, 15),
        (60, 15),
        (30, 12.5),
    ],
)
def test_copies_give_the_true_rate(container: float, true: float) -> None:
    for seed in range(3):
        shown, change = repeated(container, true, seed)
        timing = find_timing(np.arange(COUNT) / container + 3.2, change, container, [])
        assert timing.pattern and timing.rate == pytest.approx(true) and not timing.variable
        kept = np.flatnonzero(~timing.copies)
        wrong = (np.diff(shown[kept]) != 1).sum()
        assert wrong == 0, "every true frame is kept once"
        # The times are made even by less than a frame of the container.
        off = timing.times[kept] - kept / container
        assert np.abs(off - off.mean()).max() <= 1 / container


@pytest.mark.parametrize("rate", [15, 24, 25, 30000 / 1001, 30, 50, 60])
def test_no_pattern_where_nothing_is_repeated(rate: float) -> None:
    change = np.random.default_rng(1).lognormal(0, 0.6, COUNT).astype(np.float32)
    timing = find_timing(np.arange(COUNT) / rate, change, rate, [])
    assert not timing.copies.any() and timing.rate == pytest.approx(rate, rel=1e-3)
    chosen, worst = nearest_frames(timing.times)
    assert abs(len(chosen) - COUNT * 25 / rate) <= 1 and worst <= max(0.5 / rate, 1e-9) + 1e-6
    wanted = np.arange(len(chosen)) / 25
    brute = np.abs(timing.times[None] - wanted[:, None]).min(1)
    assert np.abs(np.abs(timing.times[chosen] - wanted) - brute).max() < 1e-9, "the nearest of all"


def moving(seed: int) -> np.ndarray:
    """Change in levels of a person who moves, slows down and holds still, float32 [COUNT]."""
    rng = np.random.default_rng(seed)
    speed = 1.5 + 1.5 * np.sin(np.arange(COUNT) * 0.15 + 2 * np.sin(np.arange(COUNT) * 0.02))
    return (np.hypot(speed, 0.15) * rng.uniform(0.8, 1.25, COUNT)).astype(np.float32)


def irregular_copies(rng: np.random.Generator, share: float = 0.16) -> np.ndarray:
    """Frames that repeat the one before, bool [COUNT], evenly spread on average only."""
    places = np.cumsum(rng.integers(1, round(2 / share) - 1, COUNT))
    copies = np.zeros(COUNT, bool)
    copies[places[places < COUNT]] = True
    return copies


def with_copies(change: np.ndarray, copies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The change of a compressed clip in which `copies` differ a little from the frame before."""
    faint = rng.uniform(0.005, 0.04, COUNT) * np.maximum(1.5, change)
    return np.where(copies, faint, np.maximum(change, 0.4)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_copies_at_no_regular_cadence_are_found(seed: int) -> None:
    """Even frames of a lower rate, written at 25 frames/s: their times become even again."""
    rng = np.random.default_rng(seed)
    copies = irregular_copies(rng)
    change = with_copies(moving(seed), copies, rng)
    timing = find_timing(np.arange(COUNT) / 25, change, 25, [])
    wrong = int((timing.copies != copies).sum())
    assert wrong <= 0.02 * copies.sum() and not timing.pattern and not timing.variable
    assert timing.rate == pytest.approx(25 * (~copies).mean(), rel=0.01)
    steps = np.diff(timing.times[~timing.copies])
    assert steps.min() > 0 and steps.std() < 0.35 * np.diff(np.flatnonzero(~copies) / 25).std()


@pytest.mark.parametrize("seed", range(3))
def test_lost_frames_keep_the_times_of_the_others(seed: int) -> None:
    """The picture stands still for lost frames and then jumps: the other frames are in place."""
    rng = np.random.default_rng(seed)
    copies = irregular_copies(rng)
    change = with_copies(moving(seed), copies, rng)
    change[1:][copies[:-1] & ~copies[1:]] *= 1.7
    timing = find_timing(np.arange(COUNT) / 25, change, 25, [])
    shown = np.flatnonzero(~timing.copies)
    assert timing.copies.sum() > 0.98 * copies.sum()
    assert np.allclose(timing.times[shown], shown / 25)

    # A lost frame shows the frame before it, never the next one: lips do not move too early.
    chosen, _ = nearest_frames(timing.times[shown])
    single = np.flatnonzero(timing.copies[1:-1] & ~timing.copies[:-2] & ~timing.copies[2:]) + 1
    at = single - shown[0]
    at = at[at < len(chosen)]
    assert (shown[chosen[at]] == at + shown[0] - 1).all()


def test_copies_between_the_frames_of_a_variable_rate_are_found() -> None:
    rng = np.random.default_rng(5)
    copies = irregular_copies(rng)
    stamps = np.cumsum(rng.choice([1 / 30, 1 / 24, 1 / 15], COUNT))
    timing = find_timing(stamps, with_copies(moving(5), copies, rng), 25, [])
    assert timing.variable and (timing.copies != copies).sum() <= 0.02 * copies.sum()
    assert np.allclose(timing.times, stamps - stamps[0])


@pytest.mark.parametrize("seed", range(5))
def test_a_person_who_holds_still_is_no_copy(seed: int) -> None:
    change = moving(seed)
    assert change.min() < 0.15, "as faint as a copy"
    for rate in (25, 30):
        timing = find_timing(np.arange(COUNT) / rate, change, rate, [])
        assert not timing.copies.any() and timing.rate == pytest.approx(rate)
    assert not find_timing(np.arange(COUNT) / 30, np.zeros(COUNT, np.float32), 30, []).copies.any()


def test_a_few_copies_stay() -> None:
    """Such as the last frames before cuts, which an editor repeats."""
    change = np.maximum(moving(0), 0.4)
    change[[200, 500, 800, 1100]] = 0.01
    assert not find_timing(np.arange(COUNT) / 25, change, 25, [201, 501, 801, 1101]).copies.any()


def test_half_of_the_frames_at_random_are_no_pattern() -> None:
    rng = np.random.default_rng(2)
    change = np.where(rng.uniform(size=COUNT) < 0.5, 0.01, 1.0).astype(np.float32)
    timing = find_timing(np.arange(COUNT) / 30, change, 30, [])
    assert not timing.pattern and timing.rate < 20


def test_a_variable_rate_keeps_its_timestamps() -> None:
    rng = np.random.default_rng(3)
    stamps = np.cumsum(rng.choice([1 / 30, 1 / 24, 1 / 15], COUNT)) - 5.0
    timing = find_timing(stamps, np.ones(COUNT, np.float32), 25, [])
    assert timing.variable and np.allclose(timing.times, stamps - stamps[0])
    chosen, worst = nearest_frames(timing.times)
    assert worst <= 0.5 / 15 + 1e-9 and (np.diff(chosen) >= 0).all()


def test_frames_are_counted_when_timestamps_are_useless() -> None:
    timing = find_timing(np.arange(100) * 1e-3 + 7, np.ones(100, np.float32), 25, [])
    assert timing.counted and np.allclose(timing.times, np.arange(100) / 25)


def test_of_the_places_of_one_frame_the_best_is_no_repetition() -> None:
    """At 15 frames/s each picture stands once at its own place; the others repeat it."""
    times = np.arange(30) / 15
    chosen, _ = nearest_frames(times)
    again = repeated_frames(times, chosen)
    own = np.setdiff1d(np.arange(len(chosen)), again)
    assert len(own) == 30 < len(chosen) and (np.diff(chosen[own]) == 1).all()
    for place in again:
        other = own[chosen[own] == chosen[place]]
        errors = np.abs(times[chosen[[place, *other]]] - np.array([place, *other]) / 25)
        assert errors[0] >= errors[1]
    assert not len(repeated_frames(np.arange(50) / 25, np.arange(50)))


def test_clips_of_one_or_two_frames() -> None:
    for count in (1, 2):
        timing = find_timing(np.arange(count) / 25, np.zeros(count, np.float32), 25, [])
        assert len(nearest_frames(timing.times)[0]) == count
