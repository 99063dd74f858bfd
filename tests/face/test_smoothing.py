"""Smoothing of curves over time, and interpolation of missing frames."""

from __future__ import annotations

import numpy as np

from being.face.smoothing import interpolate_missing, smooth


def test_noise_is_smoothed_without_lag() -> None:
    rng = np.random.default_rng(0)
    true = np.sin(np.arange(200) / 12)[:, None]
    noisy = true + rng.normal(0, 0.05, true.shape)
    smoothed = smooth(noisy, np.ones((200, 1, 1)), np.ones(200, bool))
    assert (smoothed - true).std() < 0.5 * (noisy - true).std()
    lags = [
        np.corrcoef(np.roll(smoothed[:, 0], -lag)[5:-5], true[5:-5, 0])[0, 1] for lag in (-1, 0, 1)
    ]
    assert int(np.argmax(lags)) == 1


def test_a_constant_stays_on_both_sides_of_a_cut() -> None:
    values = np.repeat([[0.0], [5.0]], 40, axis=0)
    information, found = np.ones((80, 1, 1)), np.ones(80, bool)
    assert np.allclose(smooth(values[:40], information[:40], found[:40]), 0, atol=1e-6)
    assert np.allclose(smooth(values[40:], information[40:], found[40:]), 5, atol=1e-6)


def test_missing_rows_are_interpolated_and_repeated_at_the_ends() -> None:
    values = np.array([[np.nan], [1.0], [np.nan], [np.nan], [4.0], [np.nan]])
    found = np.array([False, True, False, False, True, False])
    assert interpolate_missing(values, found)[:, 0].tolist() == [1, 1, 2, 3, 4, 4]
    assert np.isnan(interpolate_missing(values, np.zeros(6, bool))[0, 0])
