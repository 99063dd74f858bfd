"""The phoneme conformer: equal to hama's own runtime, aligned in time, stable on long audio."""

from __future__ import annotations

import struct
import sys
import time

import numpy as np
import pytest
import torch
from needs import load_or_skip

from being import assets
from being.audio import clip_features, encoders, feature_windows, phoneme_conformer
from being.conventions import FEATURE_RATE
from being.errors import EnvironmentFault

RATE = 16_000
WIDTH = 146  # hidden states and articulation
# hama 1.7.0's own runtime on `chirp()`: log-probabilities of steps 0, 20, 50, 100 and symbols 0,
# 10, 100, 190.
HAMA_GOLDEN = [
    [-26.0855, -5.9254, -13.3963, -0.0450],
    [-32.0332, -10.7099, -18.7462, -0.0014],
    [-32.7313, -11.4004, -17.9825, -0.0031],
    [-26.5253, -9.5787, -15.1436, -0.0052],
]
# Hidden states of `chirp()` as first measured: steps 0, 25, 50, 99 and channels 0, 40, 80, 143.
HIDDEN_GOLDEN = [
    [1.0970, 0.5473, 0.7570, 1.6294],
    [-0.8563, -0.5476, 0.1762, -0.0726],
    [-1.2349, -0.3831, 0.6618, 0.2501],
    [0.4492, -0.3636, 0.8279, 0.8000],
]


def chirp() -> np.ndarray:
    """Two seconds of a rising tone that swells four times a second."""
    t = np.arange(2 * RATE) / RATE
    return (
        0.3 * np.sin(2 * np.pi * (150 * t + 400 * t**2)) * (1 + np.sin(2 * np.pi * 4 * t)) / 2
    ).astype(np.float32)


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose colour and level change as quickly as speech does."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE)
    noise = rng.normal(size=count)
    smooth = np.convolve(noise, np.ones(12) / 3, "same")
    knots = np.arange(0, count + 2000, 2000)
    mix, level = (
        np.interp(np.arange(count), knots, rng.uniform(0, 1, len(knots))) for _ in range(2)
    )
    return (0.1 * level * (mix * noise + (1 - mix) * smooth)).astype(np.float32)


@pytest.fixture(scope="module")
def hama() -> encoders.HamaEncoder:
    return load_or_skip(lambda: encoders.load_encoder("hama"))


def test_log_probabilities_equal_the_original_runtime(hama):
    with torch.inference_mode():
        got = hama.model.log_probabilities(torch.from_numpy(chirp())[None])[0]
    assert got.shape == (101, 191)
    assert np.allclose(got[[0, 20, 50, 100]][:, [0, 10, 100, 190]], HAMA_GOLDEN, atol=5e-3)
    assert np.allclose(got.exp().sum(1), 1, atol=1e-5)


def test_hidden_states_are_those_measured(hama):
    got = hama.encode_clip(chirp())
    assert got.shape == (100, WIDTH) and got.dtype == np.float32
    assert np.allclose(got[[0, 25, 50, 99]][:, [0, 40, 80, 143]], HIDDEN_GOLDEN, atol=1e-3)


def test_steps_are_at_the_time_of_the_audio_that_they_describe(hama):
    """A 10 ms burst changes the states around its own time, to better than half a video frame, at
    both ends too.
    """
    rng = np.random.default_rng(0)
    quiet = (0.003 * rng.standard_normal(5 * RATE)).astype(np.float32)
    base = hama.encode_clip(quiet)
    times = (np.arange(len(base)) + 0.5) / FEATURE_RATE
    offsets = []
    for moment in (0.14, 0.5, 2.0, 2.51, 4.5, 4.86):
        audio = quiet.copy()
        first = int(moment * RATE) - 80
        audio[first : first + 160] += 0.3 * rng.standard_normal(160).astype(np.float32)
        change = np.square(hama.encode_clip(audio) - base).sum(1) * (np.abs(times - moment) < 0.12)
        offsets.append((change * times).sum() / change.sum() - moment)
    assert np.abs(offsets).max() < 0.02 and abs(np.mean(offsets)) < 0.01, offsets


def test_long_audio_in_pieces_agrees_with_one_pass(hama):
    audio = babble(24)
    pieces = hama.encode_clip(audio)
    with torch.inference_mode():
        whole = hama.encode_pieces(audio[None])[0]
    assert pieces.shape == whole.shape == (1200, WIDTH)
    assert np.corrcoef(pieces.ravel(), whole.ravel())[0, 1] > 0.99
    error = np.linalg.norm(pieces - whole, axis=1) / np.linalg.norm(whole, axis=1)
    border = np.r_[390:410, 790:810]
    assert error.mean() < 0.12 and error[border].mean() < 2 * error.mean() + 0.02
    for seconds in (9.0, 9.02, 17.3):  # one piece, a last piece that is merged, three pieces
        assert hama.encode_clip(audio[: int(seconds * RATE)]).shape == (
            int(np.ceil(seconds * 50 - 1e-9)),
            WIDTH,
        )


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_memory_does_not_grow_with_length_and_speed_is_many_times_real_time(hama):
    import resource

    audio = babble(30)
    hama.encode_clip(audio)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    states = hama.encode_clip(np.tile(audio, 4))
    took = time.process_time() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert states.shape == (6000, WIDTH)
    assert grown < 60_000, f"{grown / 1024:.0f} MiB more for 120 s of audio"
    assert took < 120 / 20, f"{120 / took:.0f} times real time"  # 240 on a quiet core


STRANGE = {
    "silence": np.zeros(RATE),
    "6 ms": np.zeros(100),
    "constant": np.ones(2 * RATE),
    "clipped": babble(1.0) * 100,
    "tone": np.sin(np.arange(RATE) * 0.2),
}


@pytest.mark.parametrize("audio", STRANGE.values(), ids=STRANGE.keys())
def test_unusual_audio_gives_finite_features(hama, audio):
    frames = feature_windows.frame_count(audio)
    got = clip_features.encode_frames(audio, frames)
    assert got.shape == (frames, 16, WIDTH) and np.isfinite(got).all() and np.abs(got).max() < 50


def test_louder_and_quieter_speech_gives_similar_states(hama):
    audio = babble(4)
    base = hama.encode_clip(audio)
    for gain in (0.3, 3.0):
        assert np.corrcoef(base.ravel(), hama.encode_clip(audio * gain).ravel())[0, 1] > 0.8


def test_a_damaged_weight_file_is_refused_and_never_read_out_of_bounds(tmp_path):
    def entry(name: bytes, kind: int, shape: tuple[int, ...], offset: int, size: int) -> bytes:
        head = struct.pack("<H", len(name)) + name + struct.pack("<BB", kind, len(shape))
        return head + struct.pack(f"<{len(shape)}IQQ", *shape, offset, size)

    def write(
        *entries: bytes, data: bytes = bytes(64), count: int | None = None, magic: bytes = b"HAMAPK"
    ) -> str:
        head = (
            magic
            + b"\x01\x02"
            + struct.pack("<I", len(entries) if count is None else count)
            + b"".join(entries)
        )
        path = tmp_path / "weights.hama"
        path.write_bytes(head + bytes(-len(head) % 16) + data)
        return path

    good = np.arange(6, dtype="<f4").tobytes() + np.arange(4, dtype="<f2").tobytes()
    read = phoneme_conformer.read_tensors(
        write(entry(b"a", 0, (2, 3), 0, 24), entry(b"b", 1, (4,), 24, 8), data=good)
    )
    assert np.array_equal(read["a"], np.arange(6).reshape(2, 3)) and np.array_equal(
        read["b"], np.arange(4)
    )
    bad = [
        dict(magic=b"HAMAXX"),
        dict(count=5),
        dict(count=2**31),
        dict(entries=[entry(b"a", 0, (4,), 60, 16)]),
        dict(entries=[entry(b"a", 0, (4,), 0, 12)]),
        dict(entries=[entry(b"a", 7, (4,), 0, 16)]),
        dict(entries=[entry(b"a", 0, (2**31, 2**31, 4), 0, 16)]),
        dict(entries=[entry(b"\xff\xfe", 0, (4,), 0, 16)]),
        dict(entries=[entry(b"a", 0, (4,), 2**63, 16)]),
    ]
    for case in bad:
        path = write(*case.pop("entries", [entry(b"a", 0, (4,), 0, 16)]), **case)
        with pytest.raises(EnvironmentFault, match="not a readable"):
            phoneme_conformer.read_tensors(path)
    path.write_bytes(b"HAMA")
    with pytest.raises(EnvironmentFault):
        phoneme_conformer.read_tensors(path)
    with pytest.raises(EnvironmentFault, match="another network"):
        phoneme_conformer.load_conformer(write(entry(b"stft_real_kernel", 0, (4,), 0, 16)))


@pytest.mark.slow
def test_speech_through_the_original_runtime_gives_the_same_probabilities(hama, shared_dir):
    asr = pytest.importorskip("hama.asr")
    from being import media

    audio = media.read_audio(shared_dir / "audio" / "speech_en_11s.flac")
    model = asr.ASRModel(assets.fetch("hama"))
    own = model.session.run(
        [model._log_probs_output_name, model._out_lengths_output_name],
        {
            model._waveform_input_name: audio[None],
            model._waveform_lengths_input_name: np.array([audio.size]),
        },
    )[0][0]
    with torch.inference_mode():
        got = hama.model.log_probabilities(torch.from_numpy(audio)[None])[0].numpy()
    assert np.abs(np.exp(own) - np.exp(got)).sum(1).mean() < 1e-4
    assert (own.argmax(1) == got.argmax(1)).mean() > 0.999
