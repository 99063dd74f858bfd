"""The lip measures: correlation, sign of the lag, missed faces, shuffled audio, landmarks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from needs import load_or_skip

from being.eval.face_lengths import jitter, landmark_distance, lip_width
from being.eval.lips import (
    MAX_LAG,
    MIN_FRAMES,
    correlation_at,
    decorrelated_order,
    lip_agreement,
    lip_figures,
    shuffled_frames,
)
from being.face.face_reader import FaceReader
from being.face.landmarks import Landmarks, lip_aperture
from being.face.topology import EYE_OUTER_LEFT, EYE_OUTER_RIGHT


def speech_like(frames: int = 200, seed: int = 0) -> np.ndarray:
    """A random aperture series [F] whose neighbours resemble each other for a few frames."""
    noise = np.random.default_rng(seed).normal(size=frames + 4)
    return (0.1 + 0.03 * np.convolve(noise, [0.2, 0.6, 1.0, 0.6, 0.2], "valid")).astype(np.float32)


def test_the_same_series_agrees_fully_at_lag_zero():
    found = lip_agreement(speech_like(), 0.5 * speech_like() + 0.02)
    assert found.correlation == pytest.approx(1, abs=1e-5) and found.best_lag == 0
    assert found.motion == pytest.approx(0.5, abs=1e-4), "a mouth that opens half as far"
    assert (found.frames, found.misses, found.true_misses, found.reason) == (200, 0, 0, "")


@pytest.mark.parametrize("late", [-MAX_LAG, -3, 2, MAX_LAG])
def test_a_mouth_that_comes_late_has_a_positive_lag(late):
    long = speech_like(300)
    found = lip_agreement(long[50:250], long[50 - late : 250 - late])
    assert found.best_lag == late
    assert found.best_correlation == pytest.approx(1, abs=1e-5)
    assert found.correlation < 0.9


def test_a_mouth_behind_the_truth_has_a_positive_lag_and_one_ahead_a_negative_lag():
    """The mouth opens once, for three frames: the sign can be read off the series."""
    true = np.zeros(40, np.float32)
    true[19:22] = [0.5, 1.0, 0.5]
    behind, ahead = np.roll(true, 2), np.roll(true, -2)
    assert (true.argmax(), behind.argmax(), ahead.argmax()) == (20, 22, 18)

    assert lip_agreement(true, behind).best_lag == 2
    assert lip_agreement(true, ahead).best_lag == -2
    assert correlation_at(true, behind, 2) == pytest.approx(1)
    assert correlation_at(true, ahead, -2) == pytest.approx(1)
    assert correlation_at(true, behind, -2) < 0.1 and correlation_at(true, ahead, 2) < 0.1


def test_correlation_is_pearsons():
    one, other = speech_like(), 0.5 * speech_like() + speech_like(seed=1)
    assert correlation_at(one, other, 0) == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)
    assert correlation_at(one, other, 4) == pytest.approx(
        np.corrcoef(one[:-4], other[4:])[0, 1], abs=1e-6
    )
    assert correlation_at(one, other, -4) == pytest.approx(
        np.corrcoef(one[4:], other[:-4])[0, 1], abs=1e-6
    )


def test_missed_frames_are_counted_and_only_lower_the_figure():
    true = speech_like()
    rendered = true + 0.5 * speech_like(seed=1)
    order, last = (
        np.random.default_rng(2).permutation(len(true)),
        lip_agreement(true, rendered).correlation,
    )
    for share in (0.1, 0.4, 0.8):
        missed = rendered.copy()
        missed[order[: round(share * len(true))]] = np.nan
        found = lip_agreement(true, missed)
        kept = np.isfinite(missed)
        assert found.misses == round(share * len(true)) and found.frames == len(true)
        assert found.correlation < np.corrcoef(true[kept], rendered[kept])[0, 1], (
            "dropping misses would flatter"
        )
        assert found.correlation < last
        last = found.correlation


def test_what_cannot_be_compared_says_why():
    true, nothing = speech_like(), np.full(200, np.nan, np.float32)
    lost = lip_agreement(true, nothing)
    assert lost.correlation is None and lost.misses == 200 and "any rendered frame" in lost.reason
    blind = lip_agreement(nothing, true)
    assert blind.correlation is None and blind.true_misses == 200 and "true frames" in blind.reason
    few = MIN_FRAMES - 1
    assert "only" in lip_agreement(true[:few], true[:few]).reason
    assert lip_agreement(true[:MIN_FRAMES], true[:MIN_FRAMES]).best_lag == 0


def test_a_mouth_that_never_moves_agrees_with_nothing():
    found = lip_agreement(speech_like(), np.full(200, 0.1, np.float32))
    assert found.correlation == 0 and found.best_lag == 0 and found.motion < 1e-6
    assert "never moves" in lip_agreement(np.full(200, 0.1, np.float32), speech_like()).reason


def test_frames_without_a_true_face_are_reported_and_not_compared():
    true, rendered = speech_like(), speech_like()
    true[20:30], rendered[20:30] = np.nan, 5.0
    found = lip_agreement(true, rendered)
    assert found.true_misses == 10 and found.frames == 190
    assert found.correlation == pytest.approx(1, abs=1e-5)


def test_shuffled_audio_uses_every_frame_once_and_is_the_same_for_a_seed():
    frames = np.arange(1007, 1259)
    shuffled = shuffled_frames(frames)
    assert sorted(shuffled) == frames.tolist() and not (shuffled == frames).any()
    assert (shuffled == shuffled_frames(frames)).all() and not (
        shuffled == shuffled_frames(frames, 1)
    ).all()
    assert shuffled_frames(frames[:1]).tolist() == [1007]
    true = speech_like(252)
    assert abs(lip_agreement(true, true[shuffled - 1007]).correlation) < 0.2


def test_the_order_used_is_the_one_in_which_the_truth_correlates_least_with_itself():
    frames = np.arange(1000, 1100)
    true = np.sin(np.arange(100) / 3.0) + np.linspace(0, 2, 100)
    shuffled, own = decorrelated_order(frames, true)
    assert sorted(shuffled) == list(frames) and (shuffled != frames).all()
    assert own == correlation_at(true, true[shuffled - 1000], 0)
    drawn = [
        abs(np.corrcoef(true, true[shuffled_frames(np.arange(100), seed)])[0, 1])
        for seed in range(64)
    ]
    assert abs(own) == pytest.approx(min(drawn)) and max(drawn) > 0.15, (
        "one order alone may go far by chance"
    )
    gaps = true.copy()
    gaps[10:20] = np.nan
    assert np.isfinite(decorrelated_order(frames, gaps)[1])
    assert decorrelated_order(frames, np.full(100, np.nan))[1] is None and sorted(
        decorrelated_order(frames, gaps * np.nan)[0]
    ) == list(frames)


def faces(frames: int = 60, seed: int = 0) -> Landmarks:
    """A face of random points that moves and talks, as landmarks in px at 512."""
    rng = np.random.default_rng(seed)
    points = np.tile(rng.uniform(100, 400, (478, 3)), (frames, 1, 1)).astype(np.float32)
    points[:, EYE_OUTER_RIGHT, :2], points[:, EYE_OUTER_LEFT, :2] = (200, 200), (300, 200)
    points[:, 14, :2] = points[:, 13, :2] + np.stack(
        [np.zeros(frames), 200 * speech_like(frames, seed)], 1
    )
    points[..., :2] += rng.normal(size=(frames, 1, 2)).cumsum(0)
    return Landmarks(points, np.zeros((frames, 52), np.float32), np.ones(frames, np.float32))


def moved(face: Landmarks, points: np.ndarray) -> Landmarks:
    return Landmarks(points.astype(np.float32), face.blendshapes, face.confidence)


def test_a_face_against_itself_and_against_itself_moved():
    face = faces()
    figures, series = lip_figures(face, face)
    assert (
        figures["correlation"] == pytest.approx(1)
        and figures["best_lag"] == 0
        and figures["lmd"] == 0
    )
    assert figures["motion"] == 1 and np.ptp(series["aperture.true"]) > 0.05
    apart, _ = lip_figures(face, moved(face, face.points + [7, -3, 0]))
    assert apart["lmd"] == pytest.approx(0, abs=1e-4) and apart["correlation"] == pytest.approx(
        1, abs=1e-5
    )


def test_lmd_is_the_mean_distance_of_the_lip_points_in_shape():
    face = faces()
    wider = face.points.copy()
    lips = wider[
        :, [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87]
    ]
    middle = lips[..., :2].mean(1, keepdims=True)
    spread = np.linalg.norm(lips[..., :2] - middle, axis=-1).mean(1)
    wider[..., :2] = middle + 1.1 * (wider[..., :2] - middle)
    assert landmark_distance(face.points, wider) == pytest.approx(0.1 * spread, rel=1e-3)


def test_a_face_k_frames_late_has_lag_k():
    face = faces(120)
    for late in (-4, 3):
        shown = np.arange(20, 100)
        figures, _ = lip_figures(face[shown], face[shown - late])
        assert figures["best_lag"] == late and figures["best_correlation"] == pytest.approx(
            1, abs=1e-4
        )


def test_aperture_and_width_do_not_depend_on_size_and_place():
    face = faces().points
    for measure in (lip_aperture, lip_width):
        assert measure(2 * face + 30) == pytest.approx(measure(face), rel=1e-4)


def test_jitter_is_the_second_difference_and_stops_at_breaks():
    frames = np.arange(40, dtype=np.float32)
    points = np.zeros((40, 478, 3), np.float32)
    points[..., 0] = (0.5 * 0.3 * frames**2)[:, None]  # constant acceleration
    found = jitter(points)
    assert np.isnan(found[[0, -1]]).all() and found[1:-1] == pytest.approx(0.3, abs=1e-3)
    points[20:] += 100
    cut = jitter(points, (frames >= 20).astype(int))
    assert np.isnan(cut[[19, 20]]).all() and np.nanmax(cut) == pytest.approx(0.3, abs=1e-3)


def reader() -> FaceReader:
    return load_or_skip(FaceReader)


def test_a_picture_without_a_face_is_a_miss():
    noise = np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3)).astype(np.uint8)
    (found,) = reader().read(noise)
    assert not found.found.any() and np.isnan(lip_aperture(found.points)).all()


def test_the_aperture_of_a_drawn_face_is_the_drawn_one():
    from drawn_face import talking_head

    pictures, _, points = talking_head(50, 512)
    small = np.stack([picture[::2, ::2] for picture in pictures])
    large, halved = reader().read(np.stack(pictures), small)
    drawn = lip_aperture(points)
    for found in (large, halved):
        figures = lip_agreement(drawn, lip_aperture(found.points))
        assert figures.misses == 0 and figures.best_lag == 0 and figures.correlation > 0.97
    nose = halved.points[:, 1, :2] - large.points[:, 1, :2]
    assert np.abs(nose).max() < 3, "both in px of a 512 px picture"


@pytest.mark.shared
def test_apertures_of_a_small_picture_are_those_of_the_large_one(shared_dir):
    from PIL import Image

    from being.media import read_frames

    large = list(itertools.islice(read_frames(shared_dir / "clips/address_fr_50s.mp4"), 250, 350))
    small = [np.asarray(Image.fromarray(f).resize((256, 256), Image.Resampling.BOX)) for f in large]
    one, other = (
        lip_aperture(found.points) for found in reader().read(np.stack(large), np.stack(small))
    )
    found = lip_agreement(one, other)
    assert found.misses == 0 and found.true_misses == 0 and found.best_lag == 0
    assert found.correlation > 0.99
