"""Streamed features: equal to those of the whole file, and available after the look-ahead."""

from __future__ import annotations

import numpy as np
import pytest
from needs import load_or_skip

from being.audio import (
    bounded_encoder,
    clip_features,
    encoder_interface,
    encoder_names,
    encoders,
    feature_stream,
    feature_windows,
)
from being.conventions import ATTENTION_FUTURE, FEATURE_RATE, FPS, SAMPLE_RATE, SAMPLES_PER_STEP
from being.errors import InputRejected, UsageError

STEP = SAMPLES_PER_STEP


class Energy(encoder_interface.PieceEncoder):
    """A stand-in. Channels of a step: the mean of its 20 ms, the mean of the whole piece, and
    a one.
    """

    name, width = "energy", 3

    def encode_pieces(self, pieces):
        steps = pieces.reshape(len(pieces), -1, STEP).mean(2)
        whole = np.broadcast_to(pieces.mean(1, keepdims=True), steps.shape)
        return np.stack([steps, whole, np.ones_like(steps)], 2).astype(np.float32)


@pytest.fixture(autouse=True)
def energy(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "energy", Energy)
    encoders.load_encoder.cache_clear()
    yield
    encoders.load_encoder.cache_clear()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def in_chunks(stream, audio: np.ndarray, seed: int) -> np.ndarray:
    """The output of a stream for `audio` in chunks of random sizes, some of them empty, and
    its end.
    """
    rng, out, start = np.random.default_rng(seed), [], 0
    while start < len(audio):
        count = int(rng.choice([0, 1, 79, 320, 641, 3000, 20_000]))
        out.append(stream.push(audio[start : start + count]))
        start += count
    return np.concatenate([*out, stream.finish()])


@pytest.mark.parametrize("latency", sorted(encoder_names.LATENCIES))
@pytest.mark.parametrize("samples", [1, 160, 640, 641, 6_400, 100_001])
def test_any_chunking_gives_the_features_of_the_whole_file(latency, samples):
    audio, name = noise(samples), f"energy@{latency}"
    frames = feature_windows.frame_count(audio)
    whole = encoders.load_encoder(name).encode_clip(np.pad(audio, (0, frames * 640 - samples)))
    features = clip_features.encode_frames(audio, frames, name)
    blocks = np.concatenate(list(feature_stream.feature_blocks(audio, name)))
    assert np.array_equal(blocks, features)
    for seed in range(3):
        steps = in_chunks(feature_stream.StepStream(name), audio, seed)
        assert steps.shape == (2 * frames, 3) and steps.dtype == np.float32
        assert np.allclose(steps, whole, atol=1e-6)
        rows = in_chunks(feature_stream.FeatureStream("energy", latency), audio, seed)
        assert rows.shape == (frames, 16, 3) and rows.dtype == np.float32
        assert np.allclose(rows, features, atol=1e-6)


def test_a_stream_gives_the_hidden_states_alone_where_their_width_is_asked_for(monkeypatch):
    monkeypatch.setattr(Energy, "hidden_width", 2)
    audio = noise(20_000)
    for width, expected in ((None, 3), (2, 2), (3, 3)):
        stream = feature_stream.FeatureStream("energy@low", width=width)
        rows = in_chunks(stream, audio, 0)
        blocks = np.concatenate(list(feature_stream.feature_blocks(audio, "energy@low", width)))
        assert stream.width == expected and rows.shape == blocks.shape
        assert np.allclose(rows, blocks, atol=1e-6)


def test_a_stream_without_audio_gives_one_row_of_zeros():
    assert not feature_stream.FeatureStream("energy").finish().any()
    assert feature_stream.FeatureStream("energy").finish().shape == (1, 16, 3)


@pytest.mark.parametrize("latency", sorted(encoder_names.LATENCIES))
def test_a_frame_can_be_rendered_after_its_look_ahead_and_reads_no_later_audio(latency):
    audio = noise(2 * SAMPLE_RATE)
    stream = feature_stream.FeatureStream("energy", latency)
    seconds = encoder_names.LATENCIES[latency].seconds
    assert stream.seconds == pytest.approx(seconds)
    rows = 0
    for count in range(0, len(audio), 160):  # 10 ms at a time
        rows += len(stream.push(audio[count : count + 160]))
        received = (count + 160) / SAMPLE_RATE
        renderable = max(0, rows - ATTENTION_FUTURE)
        expected = max(0, int(np.floor((received - seconds) * FPS + 1e-6)) + 1)
        assert renderable == expected, received

    # No frame whose look-ahead ends before 1 s depends on the audio after it.
    changed = audio.copy()
    changed[SAMPLE_RATE:] = 0
    both = [clip_features.encode_frames(x, 50, f"energy@{latency}") for x in (audio, changed)]
    windows = [feature_windows.attention_windows(x, range(50)) for x in both]
    differs = np.flatnonzero(np.abs(windows[0] - windows[1]).reshape(50, -1).max(1))
    assert differs[0] > (1 - seconds) * FPS - 1e-6


def test_the_shift_moves_the_windows_into_the_past_by_whole_steps():
    low = encoder_names.LATENCIES["low"]
    audio = noise(2 * SAMPLE_RATE)
    plain, moved = (
        clip_features.encode_frames(audio, 50, name)[..., 0] for name in ("energy", "energy@low")
    )
    frames = low.shift // bounded_encoder.HOP_STEPS
    assert np.allclose(moved[frames:], plain[: 50 - frames], atol=1e-6)
    assert not moved[0, : 8 + low.shift].any() and moved[49].all()


def test_latencies_have_the_documented_look_ahead():
    assert (
        encoder_names.LATENCIES["stream"].seconds <= 0.5
        and encoder_names.LATENCIES["low"].seconds <= 0.24
    )
    assert all(
        latency.shift % bounded_encoder.HOP_STEPS == 0
        for latency in encoder_names.LATENCIES.values()
    )


def test_memory_of_a_stream_does_not_grow():
    stream = feature_stream.FeatureStream("energy", "low")
    for _ in range(60):
        stream.push(noise(SAMPLE_RATE))
        assert len(stream._stream._samples) < (bounded_encoder.PAST_STEPS + 20) * STEP
        assert len(stream._cutter._rows) < 64


def test_names_are_checked_and_damaged_audio_is_refused():
    for bad in ("energy@slow", "no-such@low"):
        with pytest.raises(UsageError):
            feature_stream.StepStream(bad)
    with pytest.raises(UsageError, match="also given"):
        feature_stream.StepStream("energy@low", "stream")
    with pytest.raises(UsageError, match="no streaming form"):
        feature_stream.StepStream("deepspeech", "low")
    with pytest.raises(UsageError, match="twice"):
        encoder_names.name_with_latency("hama@low", "stream")
    assert (
        encoder_names.name_with_latency("hama", "low") == "hama@low"
        and encoder_names.name_with_latency("hama", "whole") == "hama"
    )
    with pytest.raises(InputRejected, match="not finite"):
        feature_stream.StepStream("energy").push(np.array([0, np.nan], np.float32))


def test_the_default_encoder_streams_and_longer_look_ahead_is_nearer_to_the_whole_clip(monkeypatch):
    hama = load_or_skip(lambda: encoders.load_encoder("hama"))
    rng = np.random.default_rng(0)
    level = np.interp(
        np.arange(2 * SAMPLE_RATE),
        np.arange(0, 2 * SAMPLE_RATE + 2000, 2000),
        rng.uniform(0, 1, 17),
    )
    audio = (0.1 * level * rng.normal(size=2 * SAMPLE_RATE)).astype(np.float32)
    whole = hama.encode_clip(audio)
    streamed = in_chunks(feature_stream.StepStream("hama", "stream"), audio, 0)
    assert np.allclose(streamed, encoders.load_encoder("hama@stream").encode_clip(audio), atol=1e-4)
    errors = []
    for ahead in (2, 11, 50):
        bounded = bounded_encoder.BoundedEncoder(hama, encoder_names.Latency("", ahead, 0))
        steps = bounded.encode_clip(audio)
        errors.append(
            float((np.linalg.norm(steps - whole, axis=1) / np.linalg.norm(whole, axis=1)).mean())
        )
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1, errors
    assert len(whole) == 2 * FEATURE_RATE


@pytest.mark.parametrize("name", ["energy", "energy@stream", "energy@low"])
@pytest.mark.parametrize("samples", [160, 641, 16_000, 500_001])
def test_blocks_of_features_are_those_of_the_whole_audio(name, samples):
    audio = noise(samples) * 3  # some of it over full scale
    frames = feature_windows.frame_count(audio)
    blocks = list(feature_stream.feature_blocks(audio, name))
    expected = clip_features.encode_frames(audio, frames, name)
    assert np.allclose(np.concatenate(blocks), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "seconds"), [("energy", 7200), ("energy@low", 300)])
def test_memory_does_not_grow_with_length(name, seconds):
    """The audio itself takes no memory here: all samples are one number."""
    import tracemalloc

    audio = np.broadcast_to(np.float32(0.25), seconds * SAMPLE_RATE)
    tracemalloc.start()
    frames = 0
    for block in feature_stream.feature_blocks(audio, name):
        frames += len(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == seconds * FPS and peak < 64e6, (frames, peak)


def test_blocks_refuse_damaged_audio_before_the_first_one():
    audio = noise(SAMPLE_RATE)
    audio[-1] = np.inf
    for bad, match in ((audio, "not finite"), (audio[:0], "no samples")):
        with pytest.raises(InputRejected, match=match):
            next(feature_stream.feature_blocks(bad, "energy"))
    with pytest.raises(UsageError, match="not computed"):
        next(feature_stream.feature_blocks(audio[:-1], "deepspeech"))
