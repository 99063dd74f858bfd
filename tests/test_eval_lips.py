"""The lip measures: correlation, the sign of the lag, misses that only lower the figure, shuffled sound, landmarks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from needs import had

from being.eval.lips import LAGS, LEAST_FRAMES, LipReader, agreement, correlation_at, shuffled


def speech_like(frames: int = 200, seed: int = 0) -> np.ndarray:
    """A random aperture series [F] whose neighbours resemble each other for a few frames."""
    noise = np.random.default_rng(seed).normal(size=frames + 4)
    return (0.1 + 0.03 * np.convolve(noise, [0.2, 0.6, 1.0, 0.6, 0.2], "valid")).astype(np.float32)


def test_the_same_series_agrees_fully_at_lag_zero():
    found = agreement(speech_like(), 0.5 * speech_like() + 0.02)
    assert found.correlation == pytest.approx(1, abs=1e-5) and found.best_lag == 0
    assert found.motion == pytest.approx(0.5, abs=1e-4), "a mouth that opens half as far"
    assert (found.frames, found.misses, found.true_misses, found.reason) == (200, 0, 0, "")


@pytest.mark.parametrize("late", [-LAGS, -3, 2, LAGS])
def test_a_mouth_that_comes_late_has_a_positive_lag(late):
    long = speech_like(300)
    found = agreement(long[50:250], long[50 - late:250 - late])
    assert found.best_lag == late
    assert found.best_correlation == pytest.approx(1, abs=1e-5)
    assert found.correlation < 0.9


def test_correlation_is_pearsons():
    one, other = speech_like(), 0.5 * speech_like() + speech_like(seed=1)
    assert correlation_at(one, other, 0) == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)
    assert correlation_at(one, other, 4) == pytest.approx(np.corrcoef(one[:-4], other[4:])[0, 1], abs=1e-6)
    assert correlation_at(one, other, -4) == pytest.approx(np.corrcoef(one[4:], other[:-4])[0, 1], abs=1e-6)


def test_missed_frames_are_counted_and_only_lower_the_figure():
    true = speech_like()
    rendered = true + 0.5 * speech_like(seed=1)
    order, last = np.random.default_rng(2).permutation(len(true)), agreement(true, rendered).correlation
    for share in (0.1, 0.4, 0.8):
        missed = rendered.copy()
        missed[order[:round(share * len(true))]] = np.nan
        found = agreement(true, missed)
        kept = np.isfinite(missed)
        assert found.misses == round(share * len(true)) and found.frames == len(true)
        assert found.correlation < np.corrcoef(true[kept], rendered[kept])[0, 1], "dropping misses would flatter"
        assert found.correlation < last
        last = found.correlation


def test_what_cannot_be_compared_says_why():
    true, nothing = speech_like(), np.full(200, np.nan, np.float32)
    lost = agreement(true, nothing)
    assert lost.correlation is None and lost.misses == 200 and "any rendered frame" in lost.reason
    blind = agreement(nothing, true)
    assert blind.correlation is None and blind.true_misses == 200 and "true frames" in blind.reason
    few = LEAST_FRAMES - 1
    assert "only" in agreement(true[:few], true[:few]).reason
    assert agreement(true[:LEAST_FRAMES], true[:LEAST_FRAMES]).best_lag == 0


def test_a_mouth_that_never_moves_agrees_with_nothing():
    found = agreement(speech_like(), np.full(200, 0.1, np.float32))
    assert found.correlation == 0 and found.best_lag == 0 and found.motion < 1e-6
    assert "never moves" in agreement(np.full(200, 0.1, np.float32), speech_like()).reason


def test_frames_without_a_true_face_are_reported_and_not_compared():
    true, rendered = speech_like(), speech_like()
    true[20:30], rendered[20:30] = np.nan, 5.0
    found = agreement(true, rendered)
    assert found.true_misses == 10 and found.frames == 190
    assert found.correlation == pytest.approx(1, abs=1e-5)


def test_shuffled_sound_is_every_other_frame_once_and_the_same_for_a_seed():
    frames = np.arange(1007, 1259)
    heard = shuffled(frames)
    assert sorted(heard) == frames.tolist() and not (heard == frames).any()
    assert (heard == shuffled(frames)).all() and not (heard == shuffled(frames, 1)).all()
    assert shuffled(frames[:1]).tolist() == [1007]
    true = speech_like(252)
    assert abs(agreement(true, true[heard - 1007]).correlation) < 0.2


def reader() -> LipReader:
    return had(LipReader)


def test_a_picture_without_a_face_is_a_miss():
    noise = np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3)).astype(np.uint8)
    assert np.isnan(reader().apertures(noise)).all()


@pytest.mark.shared
def test_apertures_of_a_small_picture_are_those_of_the_large_one(shared_dir):
    from PIL import Image

    from being.media import read_frames

    large = list(itertools.islice(read_frames(shared_dir / "clips/address_fr_50s.mp4"), 250, 350))
    small = [np.asarray(Image.fromarray(f).resize((256, 256), Image.Resampling.BOX)) for f in large]
    find = reader()
    found = agreement(find.apertures(np.stack(large)), find.apertures(np.stack(small)))
    assert found.misses == 0 and found.true_misses == 0 and found.best_lag == 0
    assert found.correlation > 0.99
