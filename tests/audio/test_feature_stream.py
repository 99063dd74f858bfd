"""Streamed features: any chunking gives the same, as long as the sound, never later than their
look-ahead says.
"""

from __future__ import annotations

import numpy as np
import pytest
from needs import had

from being.audio import encoders, feature_stream, feature_windows
from being.conventions import FEATURE_RATE, FPS, SAMPLE_RATE
from being.errors import InputRejected, UsageError

STEP = encoders.SAMPLES_PER_STEP


class Energy(encoders.PieceEncoder):
    """Every step of a piece: the mean of its own 20 ms, the piece's mean (all that was heard), and
    a one.
    """

    name, width = "energy", 3

    def encode_pieces(self, sounds):
        steps = sounds.reshape(len(sounds), -1, STEP).mean(2)
        heard = np.broadcast_to(sounds.mean(1, keepdims=True), steps.shape)
        return np.stack([steps, heard, np.ones_like(steps)], 2).astype(np.float32)


@pytest.fixture(autouse=True)
def energy(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "energy", Energy)
    encoders.encoder.cache_clear()
    yield
    encoders.encoder.cache_clear()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def in_chunks(stream, sound: np.ndarray, seed: int) -> np.ndarray:
    """What comes out of a stream given `sound` in chunks of random sizes, some of them empty, and
    its end.
    """
    rng, out, start = np.random.default_rng(seed), [], 0
    while start < len(sound):
        count = int(rng.choice([0, 1, 79, 320, 641, 3000, 20_000]))
        out.append(stream.push(sound[start : start + count]))
        start += count
    return np.concatenate([*out, stream.finish()])


@pytest.mark.parametrize("latency", sorted(feature_stream.LATENCIES))
@pytest.mark.parametrize("samples", [1, 160, 640, 641, 6_400, 100_001])
def test_any_chunking_gives_the_features_of_the_whole_and_two_steps_a_frame(latency, samples):
    sound, name = noise(samples), f"energy@{latency}"
    frames = feature_windows.frame_count(sound)
    whole = encoders.encoder(name).encode_clip(np.pad(sound, (0, frames * 640 - samples)))
    expected = feature_windows.windows(
        feature_windows.encode(sound, frames, name), np.arange(frames)
    )
    for seed in range(3):
        steps = in_chunks(feature_stream.StreamEncoder(name), sound, seed)
        assert steps.shape == (2 * frames, 3) and steps.dtype == np.float32
        assert np.allclose(steps, whole, atol=1e-6)
        windows = in_chunks(feature_stream.StreamWindows("energy", latency), sound, seed)
        assert windows.shape == (frames, 8, 3, 16) and np.allclose(windows, expected, atol=1e-6)


@pytest.mark.parametrize("latency", sorted(feature_stream.LATENCIES))
def test_a_frame_comes_out_as_soon_as_its_look_ahead_has_come_in_and_hears_nothing_later(latency):
    sound = noise(2 * SAMPLE_RATE)
    stream, seconds = (
        feature_stream.StreamWindows("energy", latency),
        feature_stream.LATENCIES[latency].seconds,
    )
    assert stream.seconds == pytest.approx(seconds)
    done = 0
    for count in range(0, len(sound), 160):  # 10 ms at a time
        done += len(stream.push(sound[count : count + 160]))
        heard = (count + 160) / SAMPLE_RATE
        assert done == max(0, int(np.floor((heard - seconds) * FPS + 1e-6)) + 1), heard
    changed = sound.copy()
    changed[SAMPLE_RATE:] = 0
    both = [feature_windows.encode(x, 50, f"energy@{latency}") for x in (sound, changed)]
    same = feature_windows.windows(both[0], range(50)), feature_windows.windows(both[1], range(50))
    differs = np.flatnonzero(np.abs(same[0] - same[1]).reshape(50, -1).max(1))
    assert (
        differs[0] > (1 - seconds) * FPS - 1e-6
    )  # no frame whose look-ahead ends before 1 s heard what came after


def test_the_shift_moves_the_windows_into_the_past_by_whole_steps():
    low = feature_stream.LATENCIES["low"]
    sound = noise(2 * SAMPLE_RATE)
    plain, moved = (
        feature_windows.encode(sound, 50, name)[..., 0] for name in ("energy", "energy@low")
    )
    frames = low.shift // feature_stream.HOP
    assert np.allclose(moved[frames:], plain[: 50 - frames], atol=1e-6)
    assert (
        not moved[0, : 8 + low.shift].any() and moved[49].all()
    )  # nothing before the sound, sound to the last row


def test_latencies_keep_what_they_promise():
    assert (
        feature_stream.LATENCIES["stream"].seconds <= 0.5
        and feature_stream.LATENCIES["low"].seconds <= 0.24
    )
    assert all(
        latency.shift % feature_stream.HOP == 0 for latency in feature_stream.LATENCIES.values()
    )


def test_kept_sound_does_not_grow():
    stream = feature_stream.StreamWindows("energy", "low")
    for _ in range(60):
        stream.push(noise(SAMPLE_RATE))
        assert (
            len(stream.encoder._sound) < (feature_stream.PAST + 20) * STEP
            and len(stream._cut._rows) < 64
        )


def test_names_are_checked_and_damaged_sound_is_refused():
    for bad in ("energy@slow", "no-such@low"):
        with pytest.raises(UsageError):
            feature_stream.StreamEncoder(bad)
    with pytest.raises(UsageError, match="besides"):
        feature_stream.StreamEncoder("energy@low", "stream")
    with pytest.raises(UsageError, match="no streaming form"):
        feature_stream.StreamEncoder("deepspeech", "low")
    with pytest.raises(UsageError, match="twice"):
        encoders.named("hama@low", "stream")
    assert encoders.named("hama", "low") == "hama@low" and encoders.named("hama", "whole") == "hama"
    with pytest.raises(InputRejected, match="not finite"):
        feature_stream.StreamEncoder("energy").push(np.array([0, np.nan], np.float32))


def test_the_phoneme_encoder_streams_and_nears_the_whole_clip_with_its_look_ahead(monkeypatch):
    hama = had(lambda: encoders.encoder("hama"))
    rng = np.random.default_rng(0)
    level = np.interp(
        np.arange(2 * SAMPLE_RATE),
        np.arange(0, 2 * SAMPLE_RATE + 2000, 2000),
        rng.uniform(0, 1, 17),
    )
    sound = (0.1 * level * rng.normal(size=2 * SAMPLE_RATE)).astype(np.float32)
    whole = hama.encode_clip(sound)
    streamed = in_chunks(feature_stream.StreamEncoder("hama", "stream"), sound, 0)
    assert np.allclose(streamed, encoders.encoder("hama@stream").encode_clip(sound), atol=1e-4)
    errors = []
    for ahead in (2, 11, 50):
        bounded = feature_stream.BoundedEncoder(hama, feature_stream.Latency("", ahead, 0))
        steps = bounded.encode_clip(sound)
        errors.append(
            float((np.linalg.norm(steps - whole, axis=1) / np.linalg.norm(whole, axis=1)).mean())
        )
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1, errors
    assert len(whole) == 2 * FEATURE_RATE


@pytest.mark.parametrize("name", ["energy", "energy@stream", "energy@low"])
@pytest.mark.parametrize("samples", [160, 641, 16_000, 500_001])
def test_blocks_of_features_are_those_of_the_whole_sound(name, samples):
    sound = noise(samples) * 3  # some of it over full scale
    frames = feature_windows.frame_count(sound)
    blocks = list(feature_stream.feature_blocks(sound, name))
    expected = feature_windows.encode(sound, frames, name)
    assert np.allclose(np.concatenate(blocks), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "seconds"), [("energy", 7200), ("energy@low", 300)])
def test_memory_does_not_grow_with_length(name, seconds):
    """The sound itself takes none here: one number stands for all samples."""
    import tracemalloc

    sound = np.broadcast_to(np.float32(0.25), seconds * SAMPLE_RATE)
    tracemalloc.start()
    frames = 0
    for block in feature_stream.feature_blocks(sound, name):
        frames += len(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == seconds * FPS and peak < 64e6, (frames, peak)


def test_blocks_refuse_damaged_sound_before_the_first_one():
    sound = noise(SAMPLE_RATE)
    sound[-1] = np.inf
    for bad, match in ((sound, "not finite"), (sound[:0], "no samples")):
        with pytest.raises(InputRejected, match=match):
            next(feature_stream.feature_blocks(bad, "energy"))
    with pytest.raises(UsageError, match="not computed"):
        next(feature_stream.feature_blocks(sound[:-1], "deepspeech"))
