"""Timing: the true frame rate in any container, and the nearest frames at 25 frames/s."""

from __future__ import annotations

import numpy as np
import pytest

from being.preprocess.inspection.timing import find_timing, nearest_frames

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


def test_a_still_scene_is_no_pattern() -> None:
    rng = np.random.default_rng(2)
    change = np.where(rng.uniform(size=COUNT) < 0.5, 0.01, 1.0).astype(np.float32)
    assert not find_timing(np.arange(COUNT) / 30, change, 30, []).copies.any()
    assert not find_timing(np.arange(COUNT) / 30, np.zeros(COUNT, np.float32), 30, []).copies.any()


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


def test_clips_of_one_or_two_frames() -> None:
    for count in (1, 2):
        timing = find_timing(np.arange(count) / 25, np.zeros(count, np.float32), 25, [])
        assert len(nearest_frames(timing.times)[0]) == count
