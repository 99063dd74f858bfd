"""The causal conformer: equal to the network that was trained, in chunks of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from needs import load_or_skip

from being.audio import causal_conformer, causal_encoder, clip_features, encoders, feature_stream
from being.audio.causal_conformer import AHEAD, MEMORY, CausalConformer, ConformerWeights
from being.audio.phoneme_conformer import Conformer
from being.conventions import ATTENTION_FUTURE, FPS, SAMPLE_RATE
from being.errors import EnvironmentFault, UsageError
from being.media.resampling import resample
from being.reading.tensors import load_tensor_arrays
from being.tts import speak
from scripts.distil.student import Student

NAME = "hama-causal"
NEEDED = sum(AHEAD) * 320 + 200  # samples after a step's own
BYTES_MAX = 2_000_000


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose level and colour change ten times a second, float32 [T]."""
    rng = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    noise = rng.normal(size=count)
    smooth = np.convolve(noise, np.ones(8) / 8, "same")
    share, level = (np.repeat(rng.uniform(0, 1, count // 1600 + 1), 1600)[:count] for _ in range(2))
    return (0.2 * level * (share * noise + (1 - share) * smooth)).astype(np.float32)


@pytest.fixture(scope="module")
def student() -> Student:
    """A student of a random conformer."""
    torch.manual_seed(0)
    teacher = Conformer()
    made = Student(teacher).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim == 1:
            parameter += 0.1 * torch.randn(parameter.shape)
    return made


@pytest.fixture(scope="module")
def state(student: Student) -> dict[str, np.ndarray]:
    """Its state dict, with a mel bank of triangles."""
    bank = np.maximum(0, 1 - np.abs(np.arange(201) / 2.5 - np.arange(80)[:, None]) / 2)
    arrays = {name: value.numpy() for name, value in student.state_dict().items()}
    return arrays | {"mel": bank.astype(np.float32)}


def mel_of(samples: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Log-mel frames [80, J] of samples with 200 zeros before them, by another formula."""
    padded = np.pad(samples.astype(np.float64), (200, 0))
    count = (len(padded) - 400) // 160 + 1
    time = np.arange(400)
    frames = np.stack([padded[160 * j : 160 * j + 400] for j in range(count)])
    frames = frames * np.sin(np.pi * time / 400) ** 2
    waves = np.exp(-2j * np.pi * np.outer(time, np.arange(201)) / 400)
    return np.log(np.maximum(bank @ (np.abs(frames @ waves) ** 2).T, 1e-10))


def test_numpy_gives_the_steps_of_the_trained_network(
    student: Student, state: dict[str, np.ndarray]
) -> None:
    samples = speech_like(4)
    steps = CausalConformer(ConformerWeights.of(state)).push(samples)
    assert len(steps) == (len(samples) - NEEDED) // 320 > MEMORY + 50

    # The torch network sees zeros where the stream does not know the end yet.
    mel = mel_of(samples, state["mel"])[:, : 2 * (len(samples) // 320 - 1) + 1]
    hidden, articulation = student(torch.from_numpy(mel).float()[None])
    expected = torch.cat([hidden, 8 * torch.sigmoid(articulation)], 2)[0].numpy()
    assert np.abs(steps - expected[: len(steps)]).max() < 2e-3
    assert expected.std() > 0.5


def test_the_teachers_weights_are_where_the_student_starts() -> None:
    teacher = Conformer()
    student = Student(teacher)
    assert torch.equal(student.blocks[1].ffn2.fc1.weight, teacher.blocks[1].ffn2.fc1.weight)
    assert torch.equal(student.subsample.weight, teacher.subsample.weight)


def test_chunks_of_any_size_give_the_same_steps(state: dict[str, np.ndarray]) -> None:
    weights, samples = ConformerWeights.of(state), speech_like(4)
    whole = CausalConformer(weights).push(samples)
    for seed in range(3):
        rng, stream, parts, at = np.random.default_rng(seed), CausalConformer(weights), [], 0
        while at < len(samples):
            count = int(rng.choice([0, 1, 79, 160, 320, 640, 641, 5000]))
            parts.append(stream.push(samples[at : at + count]))
            at += count
        steps = np.concatenate(parts)
        assert steps.shape == whole.shape
        assert np.abs(steps - whole).max() < 1e-4


def test_a_step_comes_with_its_look_ahead_and_reads_no_later_audio(
    state: dict[str, np.ndarray],
) -> None:
    weights, samples = ConformerWeights.of(state), speech_like(1.5)
    whole = CausalConformer(weights).push(samples)
    stream, count = CausalConformer(weights), 0
    for at in range(0, len(samples), 100):
        count += len(stream.push(samples[at : at + 100]))
        assert count == max(0, (at + len(samples[at : at + 100]) - NEEDED) // 320)

    changed = samples.copy()
    changed[SAMPLE_RATE:] = 0.3
    other = CausalConformer(weights).push(changed)
    same = (SAMPLE_RATE - NEEDED) // 320
    assert np.abs(other[:same] - whole[:same]).max() < 1e-5
    assert np.abs(other[same + 3] - whole[same + 3]).max() > 1e-3


def test_a_step_forgets_what_lies_beyond_its_memory(state: dict[str, np.ndarray]) -> None:
    weights = ConformerWeights.of(state)
    first, later = speech_like(2, 1), speech_like(8, 2)
    a = CausalConformer(weights).push(np.concatenate([first, later]))
    b = CausalConformer(weights).push(np.concatenate([0 * first, later]))
    # Two layers of attention, the convolutions and the head reach back less than 6 s.
    assert np.abs(a[-50:] - b[-50:]).max() < 1e-4
    assert np.abs(a[120] - b[120]).max() > 1e-3


def test_a_long_stream_keeps_no_more_than_a_short_one(state: dict[str, np.ndarray]) -> None:
    stream, sizes = CausalConformer(ConformerWeights.of(state)), []
    for _ in range(4):
        stream.push(speech_like(3))
        blocks = [[len(block._tail), block._keys.shape[1]] for block in stream._blocks]
        sizes.append([len(stream._frames), len(stream._hidden), *np.ravel(blocks)])
    assert sizes[1] == sizes[3]


def test_int8_matrices_stay_near_the_float_ones(state: dict[str, np.ndarray]) -> None:
    back = causal_conformer.expand(causal_conformer.compress(state))
    assert back.keys() == state.keys()
    for name, value in state.items():
        rows = np.abs(value.reshape(len(value), -1)).max(1)
        apart = np.abs(back[name] - value).reshape(len(value), -1).max(1)
        assert (apart <= rows / 254 * 1.001 + 1e-9).all(), name


def test_the_shipped_weights_are_small_and_damage_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert causal_conformer.WEIGHTS.stat().st_size <= BYTES_MAX
    assert causal_conformer.shipped_weights().width == 144

    arrays = load_tensor_arrays(causal_conformer.WEIGHTS)
    del arrays["head.weight"]
    from safetensors.numpy import save_file

    save_file(arrays, tmp_path / "weights.safetensors")
    monkeypatch.setattr(causal_conformer, "WEIGHTS", tmp_path / "weights.safetensors")
    causal_conformer.shipped_weights.cache_clear()
    with pytest.raises(EnvironmentFault, match="no causal conformer"):
        causal_conformer.shipped_weights()
    causal_conformer.shipped_weights.cache_clear()


@pytest.mark.parametrize("samples", [1, 640, 641, 6_400, 60_001])
def test_streamed_features_are_those_of_the_file(samples: int) -> None:
    audio = speech_like(4)[:samples]
    frames = -(-samples // 640)
    features = clip_features.encode_frames(audio, frames, NAME)
    blocks = np.concatenate(list(feature_stream.feature_blocks(audio, NAME)))
    assert blocks.shape == features.shape == (frames, 16, 146)
    for size in (160, 640, 7000):
        stream = feature_stream.FeatureStream(NAME)
        parts = [stream.push(audio[k : k + size]) for k in range(0, samples, size)]
        rows = np.concatenate([*parts, stream.finish()])
        assert np.abs(rows - blocks).max() < 1e-3
    assert np.abs(features - blocks).max() < 1e-3


def test_a_frame_can_be_rendered_within_its_look_ahead() -> None:
    stream, audio, rows = feature_stream.FeatureStream(NAME), speech_like(2), 0
    assert stream.seconds == pytest.approx(0.24)
    for at in range(0, len(audio), 160):
        rows += len(stream.push(audio[at : at + 160]))
        due = int(((at + 160) / SAMPLE_RATE - stream.seconds) * FPS + 1e-6) + 1
        if (at + 160) / SAMPLE_RATE >= stream.seconds:
            assert rows - ATTENTION_FUTURE >= due


def test_it_has_a_latency_of_its_own() -> None:
    for make in (
        lambda: feature_stream.FeatureStream(NAME, "low"),
        lambda: feature_stream.FeatureStream(f"{NAME}@low"),
        lambda: encoders.load_encoder(f"{NAME}@stream"),
    ):
        with pytest.raises(UsageError, match="look-ahead of its own"):
            make()


def test_it_gives_what_the_conformer_gives_of_a_voice() -> None:
    """Hidden states near those of the whole clip, nearer than with audio cut off; closures."""
    hama = load_or_skip(lambda: encoders.load_encoder("hama"))
    said = speak("Papa and mama bought a bottle of milk. My father parked the car.", "hibari")
    speech = resample(said.samples, said.rate, SAMPLE_RATE)
    whole = hama.encode_clip(speech)
    near = encoders.load_encoder(NAME).encode_clip(speech)
    cut = encoders.load_encoder("hama@low").encode_clip(speech)
    power = np.square(whole[:, :144]).sum()
    distance, other = (np.square(x[:, :144] - whole[:, :144]).sum() / power for x in (near, cut))
    assert distance < 0.08 and distance < other, (distance, other)
    for channel in (144, 145):
        assert np.corrcoef(near[:, channel], whole[:, channel])[0, 1] > 0.8
    assert causal_encoder.CausalEncoder().width == hama.width
