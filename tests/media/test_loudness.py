"""Loudness: figures of known signals, targets within 0.5 LU, peaks, both backends, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from audio_samples import SPEAKER

from being.errors import InputRejected, UsageError
from being.media import loudness, read_audio
from being.media.loudness import measure_loudness, normalise_loudness

RATE = 16_000


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """float32 [T, 1]"""
    return read_audio(SPEAKER)[: 12 * RATE, None]


def gated_loudness(samples: np.ndarray, rate: int) -> float:
    """Integrated loudness of float [T, C] by ITU-R BS.1770-4, written anew: filters designed for
    the rate, blocks of 0.4 s every 0.1 s, both gates.
    """
    from scipy.signal import lfilter

    # High shelf and high pass of the recommendation, as analogue designs at this rate.
    k, gain, quality = (
        np.tan(np.pi * 1681.974450955533 / rate),
        3.999843853973347,
        0.7071752369554196,
    )
    high, band = 10 ** (gain / 20), 10 ** (gain / 20 * 0.4996667741545416)
    norm = 1 + k / quality + k * k
    shelf = (
        np.array(
            [
                high + band * k / quality + k * k,
                2 * (k * k - high),
                high - band * k / quality + k * k,
            ]
        )
        / norm,
        np.array([1, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]),
    )
    k, quality = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    norm = 1 + k / quality + k * k
    low = (
        np.array([1.0, -2, 1]),
        np.array([1, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]),
    )
    weighted = lfilter(*low, lfilter(*shelf, samples.astype(np.float64), axis=0), axis=0)

    block, step = round(0.4 * rate), round(0.1 * rate)
    starts = range(0, len(samples) - block + 1, step)
    power = np.array([np.square(weighted[a : a + block]).mean(0).sum() for a in starts])
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    power = power[power > 0.1 * power.mean()]
    return float(-0.691 + 10 * np.log10(power.mean()))


def test_a_tone_of_the_standard_has_its_loudness() -> None:
    """EBU Tech 3341, case 1: a stereo tone of -23 dB at 1 kHz has -23 LUFS."""
    time = np.arange(20 * 48_000) / 48_000
    tone = np.float32(10 ** (-23 / 20)) * np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    stereo = measure_loudness(np.stack([tone, tone], 1), 48_000)
    assert stereo.integrated == pytest.approx(-23, abs=0.1)
    assert stereo.true_peak == pytest.approx(-23, abs=0.1)
    one = measure_loudness(tone[:, None], 48_000)
    assert one.integrated == pytest.approx(-26, abs=0.1), "one channel has half the power"


@pytest.mark.parametrize("target", [-40, -23, -16, -12])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_target_is_met_and_peaks_stay_under_the_limit(
    voice: np.ndarray, target: float, channels: int
) -> None:
    samples = np.repeat(voice, channels, 1) * np.linspace(1, 0.5, channels, dtype=np.float32)
    made = normalise_loudness(samples, RATE, target)
    assert made.samples.shape == samples.shape and made.samples.dtype == np.float32
    assert gated_loudness(made.samples, RATE) == pytest.approx(target, abs=0.5)
    assert made.result.integrated == pytest.approx(target, abs=0.5)

    # Peaks between the samples, by an interpolation of our own.
    spectrum = np.fft.rfft(made.samples, axis=0)
    fine = 8 * np.fft.irfft(spectrum, 8 * len(samples), axis=0)
    assert 20 * np.log10(np.abs(fine).max()) < -1.4
    assert made.limited == (target >= -16)


def test_quiet_parts_have_one_gain_and_keep_their_time(voice: np.ndarray) -> None:
    """A limiter moves nothing, and leaves alone what is far from a peak."""
    gain = normalise_loudness(voice, RATE, -30)
    assert np.allclose(gain.samples, voice * (gain.samples.std() / voice.std()), atol=1e-5)
    limited = normalise_loudness(voice, RATE, -14).samples[:, 0]
    lags = range(-4, 5)
    match = [np.corrcoef(np.roll(limited, lag), voice[:, 0])[0, 1] for lag in lags]
    assert lags[int(np.argmax(match))] == 0 and max(match) > 0.95


def test_both_backends_give_the_same(voice: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    made = {}
    for backend in ("pyav", "ffmpeg program"):
        monkeypatch.setattr(loudness, "_backend", lambda backend=backend: backend)
        made[backend] = normalise_loudness(voice, RATE, -15)
        assert made[backend].facts()["backend"] == backend
    first, second = (one.samples for one in made.values())
    assert np.abs(first - second).max() < 1e-3


def test_what_cannot_be_normalised_is_refused(voice: np.ndarray) -> None:
    with pytest.raises(InputRejected, match="silent"):
        normalise_loudness(np.zeros((RATE, 1), np.float32), RATE, -16)
    with pytest.raises(InputRejected, match="silent"):
        normalise_loudness(np.zeros((0, 1), np.float32), RATE, -16)
    for target in (-41, -4, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="-40 to -5"):
            normalise_loudness(voice, RATE, target)
    with pytest.raises(UsageError, match=r"-5 cannot be reached.*it reaches -\d"):
        normalise_loudness(voice, RATE, -5)
    assert normalise_loudness(voice[RATE : RATE + 3000], RATE, -20).result.integrated < -19
