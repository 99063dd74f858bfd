"""Audio samples: wrong ones are refused, and resampling keeps time, pitch and level."""

from __future__ import annotations

import numpy as np
import pytest

from being.audio.waveform import checked_samples
from being.errors import InputRejected
from being.media.resampling import resample


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
def test_resampled_audio_keeps_time_and_level(rate_in, rate_out):
    def sound(rate, count):
        time = np.arange(count) / rate
        return (np.sin(2 * np.pi * 1000 * time) * np.exp(-(((time - 2.5) / 0.2) ** 2))).astype(
            np.float32
        )

    count = 5 * rate_in + 13  # several blocks and a rest
    out = resample(sound(rate_in, count), rate_in, rate_out)
    assert out.dtype == np.float32 and len(out) == -(-count * rate_out // rate_in)
    assert np.abs(out - sound(rate_out, len(out))).max() < 1e-4


def test_frequencies_above_the_lower_rate_are_removed_and_the_others_stay():
    time = np.arange(48_000 * 2) / 48_000
    for frequency, low, high in ((10_000, 0, 1e-4), (7_000, 0.9, 1.0), (100, 0.99, 1.01)):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        level = resample(tone, 48_000, 16_000)[1000:-1000].std() * np.sqrt(2)
        assert low <= level <= high, (frequency, level)


def test_the_same_rate_and_empty_audio_pass_through():
    sound = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert resample(sound, 16_000, 16_000) is sound
    assert resample(sound[:0], 8_000, 16_000).size == 0
    assert len(resample(sound[:1], 48_000, 16_000)) == 1
    tone = np.sin(np.arange(50) * 0.3).astype(np.float32)  # shorter than the resampling filter
    assert np.allclose(
        resample(tone, 8_000, 16_000)[10:90], np.sin(np.arange(100) * 0.15)[10:90], atol=0.02
    )


def test_empty_and_not_finite_audio_is_rejected_and_loud_audio_is_clipped():
    sound = np.linspace(-2, 2, 100)
    assert checked_samples(sound).dtype == np.float32 and np.abs(checked_samples(sound)).max() == 1
    with pytest.raises(InputRejected, match="no samples"):
        checked_samples(sound[:0])
    for harm in (np.nan, np.inf):
        broken = sound.copy()
        broken[[3, 50]] = harm
        with pytest.raises(InputRejected, match="2 of 100"):
            checked_samples(broken)
