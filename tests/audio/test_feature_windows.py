"""Feature windows: centred on their frame, with true neighbours, zero only at the clip's ends."""

from __future__ import annotations

import numpy as np
import pytest

from being.audio import clip_features, encoder_interface, encoders, feature_windows
from being.conventions import (
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    FEATURE_RATE,
    FEATURE_WINDOW,
    FPS,
    SAMPLES_PER_FRAME,
    SAMPLES_PER_STEP,
)
from being.errors import InputRejected, UsageError

SAMPLES = SAMPLES_PER_STEP


class StandIn(encoder_interface.PieceEncoder):
    """A stand-in: each step holds the energy and the mean of exactly its 20 ms of audio."""

    name, width = "stand_in", 2

    def encode_clip(self, samples):
        steps = -(-samples.size // SAMPLES)
        parts = np.pad(samples, (0, steps * SAMPLES - samples.size)).reshape(steps, SAMPLES)
        return np.stack([np.square(parts).sum(1), parts.mean(1)], axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "stand_in", StandIn)


def step_times(frame: int) -> np.ndarray:
    """Middle of the 16 steps of a frame's window, s."""
    return frame / FPS + (np.arange(FEATURE_WINDOW) - (FEATURE_WINDOW - 1) / 2) / FEATURE_RATE


@pytest.mark.parametrize("frames", [1, 2, 5, 50])
def test_a_click_appears_at_its_own_time_in_every_window_that_reaches_it(frames):
    for click in {0, frames // 2, frames - 1}:
        audio = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
        audio[click * SAMPLES_PER_FRAME + 5] = 1
        got = clip_features.encode_frames(audio, frames, "stand_in")
        assert (
            got.shape == (frames, FEATURE_WINDOW, 2)
            and got.dtype == np.float32
            and got.flags["C_CONTIGUOUS"]
        )
        for frame in range(frames):
            centre = step_times(frame) - 0.5 / FEATURE_RATE  # start of each step
            expected = np.abs(centre - click / FPS) < 1e-6
            assert np.array_equal(got[frame, :, 0] > 0, expected), (click, frame)


def test_the_window_of_a_frame_is_centred_on_its_time_at_both_ends():
    frames = 100
    audio = (
        np.arange(frames * SAMPLES_PER_FRAME, dtype=np.float32) / 1e6
    )  # its value tells the time
    got = clip_features.encode_frames(audio, frames, "stand_in")[..., 1] * 1e6 / 16_000
    for frame in (4, 50, frames - 4):  # whole windows
        assert got[frame].mean() == pytest.approx(frame / FPS, abs=1e-4)
    for frame, inside in (
        (0, slice(8, 16)),
        (frames - 1, slice(0, 10)),
    ):  # cut by an end: zeros outside
        assert np.allclose(got[frame][inside], step_times(frame)[inside], atol=1e-4)
        assert np.count_nonzero(got[frame]) == inside.stop - inside.start


def test_short_audio_is_extended_with_silence_and_long_audio_used_as_far_as_windows_reach():
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1, 1, 20 * SAMPLES_PER_FRAME).astype(np.float32)
    whole = clip_features.encode_frames(audio, 20, "stand_in")
    short = clip_features.encode_frames(audio, 10, "stand_in")
    assert np.array_equal(short, whole[:10])
    longer = clip_features.encode_frames(audio, 23, "stand_in")
    assert (
        np.array_equal(longer[:17], whole[:17])
        and longer.shape[0] == 23
        and not longer[22, 4:].any()
    )
    assert clip_features.encode_frames(audio[:160], 1, "stand_in").shape == (1, 16, 2)  # 10 ms
    for count in (1, 639, 640, 641, 64_000):
        assert feature_windows.frame_count(np.zeros(count)) == max(1, -(-count // 640))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_attention_windows_hold_true_neighbours_and_zeros_outside_the_clip(kind):
    import torch

    source = np.random.default_rng(1).normal(size=(12, FEATURE_WINDOW, 3)).astype(np.float32)
    data = source if kind == "numpy" else torch.from_numpy(source)
    indices = [0, 3, 4, 6, 9, 11]
    got = feature_windows.attention_windows(
        data, indices if kind == "numpy" else torch.tensor(indices)
    )
    assert type(got) is type(data) and tuple(got.shape) == (6, ATTENTION_WINDOW, 3, FEATURE_WINDOW)
    got = np.asarray(got)
    for row, index in enumerate(indices):
        for position in range(ATTENTION_WINDOW):
            frame = index - ATTENTION_PAST + position
            expected = source[frame].T if 0 <= frame < 12 else np.zeros((3, FEATURE_WINDOW))
            assert np.array_equal(got[row, position], expected), (index, frame)


def test_bad_audio_and_unknown_encoders_are_refused_with_the_reason():
    for bad in (np.zeros(0, np.float32), np.full(1000, np.nan, np.float32)):
        with pytest.raises(InputRejected):
            clip_features.encode_frames(bad, 5, "stand_in")
    with pytest.raises(UsageError, match="hama"):
        clip_features.encode_frames(np.zeros(1000, np.float32), 5, "hamma")
