"""Waveforms: refusals of bad sound, and a resampler that keeps time, pitch and level."""

from __future__ import annotations

import numpy as np
import pytest

from being.audio.waveform import checked
from being.errors import InputRejected
from being.media.resampling import to_rate


@pytest.mark.parametrize(
    ("rate_in", "rate_out"),
    [
        (24_000, 16_000),
        (44_100, 16_000),
        (48_000, 16_000),
        (8_000, 16_000),
        (22_050, 16_000),
        (16_000, 24_000),
    ],
)
def test_resampled_sound_keeps_time_and_level(rate_in, rate_out):
    def sound(rate, count):
        time = np.arange(count) / rate
        return (np.sin(2 * np.pi * 1000 * time) * np.exp(-(((time - 2.5) / 0.2) ** 2))).astype(
            np.float32
        )

    count = 5 * rate_in + 13  # several blocks and a rest
    out = to_rate(sound(rate_in, count), rate_in, rate_out)
    assert out.dtype == np.float32 and len(out) == -(-count * rate_out // rate_in)
    assert np.abs(out - sound(rate_out, len(out))).max() < 1e-4


def test_what_the_lower_rate_cannot_carry_is_removed_and_the_rest_stays():
    time = np.arange(48_000 * 2) / 48_000
    for frequency, low, high in ((10_000, 0, 1e-4), (7_000, 0.9, 1.0), (100, 0.99, 1.01)):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        level = to_rate(tone, 48_000, 16_000)[1000:-1000].std() * np.sqrt(2)
        assert low <= level <= high, (frequency, level)


def test_the_same_rate_or_no_sound_passes_through():
    sound = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert to_rate(sound, 16_000, 16_000) is sound
    assert to_rate(sound[:0], 8_000, 16_000).size == 0
    assert len(to_rate(sound[:1], 48_000, 16_000)) == 1
    tone = np.sin(np.arange(50) * 0.3).astype(np.float32)  # shorter than the resampling filter
    assert np.allclose(
        to_rate(tone, 8_000, 16_000)[10:90], np.sin(np.arange(100) * 0.15)[10:90], atol=0.02
    )


def test_sound_that_is_empty_or_not_finite_is_rejected_and_loud_sound_is_clipped():
    sound = np.linspace(-2, 2, 100)
    assert checked(sound).dtype == np.float32 and np.abs(checked(sound)).max() == 1
    with pytest.raises(InputRejected, match="no samples"):
        checked(sound[:0])
    for harm in (np.nan, np.inf):
        broken = sound.copy()
        broken[[3, 50]] = harm
        with pytest.raises(InputRejected, match="2 of 100"):
            checked(broken)
