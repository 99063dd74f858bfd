"""The causal conformer for many streams at once gives what it gives for one stream in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from being.audio.causal_conformer import shipped_weights
from being.audio.causal_encoder import CausalEncoder
from being.audio.conformer_batch import ConformerBatch
from being.audio.sound_chunks import CHUNK_SAMPLES, FIRST_OUT, ChunkCutter
from being.conventions import SAMPLE_RATE


def noise(seconds: float, seed: int) -> np.ndarray:
    """Noise whose loudness changes every 10 ms."""
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE)
    loudness = np.repeat(rng.random(count // 160 + 1), 160)[:count]
    return (rng.normal(0, 0.2, count) * loudness).astype(np.float32)


SOUNDS = [noise(2.5, 1), noise(1.2, 2)[:19_333], noise(0.6, 3), np.zeros(641)]


def chunks_of(sound: np.ndarray) -> ChunkCutter:
    """All chunks of a sound, with silence after it."""
    cutter = ChunkCutter()
    cutter.push(sound.astype(np.float32))
    cutter.pad(cutter.frames + 3)
    return cutter


def batched_steps(batch: ConformerBatch, delays: list[int]) -> list[np.ndarray]:
    """The steps of the sounds, each begun `delay` calls after the first call."""
    cutters = [chunks_of(sound) for sound in SOUNDS]
    made: list[list[np.ndarray]] = [[] for _ in SOUNDS]
    for turn in range(max(c.complete + d for c, d in zip(cutters, delays, strict=True))):
        going = [
            i for i, c in enumerate(cutters) if delays[i] <= turn and turn - delays[i] < c.complete
        ]
        numbers = [turn - delays[i] for i in going]
        samples = [cutters[i].samples(k, k + 1) for i, k in zip(going, numbers, strict=True)]
        steps = batch.push(
            torch.tensor(going), torch.tensor(numbers), torch.from_numpy(np.stack(samples))
        )
        for i, own in zip(going, steps.numpy(), strict=True):
            made[i].append(own)
    return [np.concatenate(own)[-FIRST_OUT:] for own in made]


@pytest.fixture(scope="module")
def batch() -> ConformerBatch:
    return ConformerBatch(shipped_weights(), len(SOUNDS) + 1, "cpu")


def test_streams_in_one_batch_have_the_steps_of_each_alone(batch: ConformerBatch) -> None:
    # Twice, begun at other moments: nothing of the first streams is left in the second ones.
    for delays in ([0, 3, 0, 7], [9, 0, 4, 0]):
        for sound, made in zip(SOUNDS, batched_steps(batch, delays), strict=True):
            stream = CausalEncoder().steps()
            expected = np.concatenate([stream.push(sound), stream.finish()])
            made = made[: len(expected)]
            assert made.shape == expected.shape
            # Steps are up to 8 large: 1e-5 of that is some rounding of float32.
            assert np.abs(made - expected).max() < 2e-5


def test_a_chunk_of_a_batch_equals_the_same_chunk_alone(batch: ConformerBatch) -> None:
    single = ConformerBatch(shipped_weights(), 1, "cpu")
    cutters = [chunks_of(sound) for sound in SOUNDS]
    for k in range(5):
        samples = torch.from_numpy(np.stack([cutter.samples(k, k + 1) for cutter in cutters]))
        chunk = torch.full((len(SOUNDS),), k)
        made = batch.push(torch.arange(len(SOUNDS)), chunk, samples)
        alone = single.push(torch.tensor([0]), chunk[:1], samples[1:2])
        if k >= -FIRST_OUT // 2:  # before, they are steps of no meaning
            assert (made[1] - alone[0]).abs().max() < 1e-5


def test_chunks_are_cut_from_sound_of_any_size_and_can_be_given_again() -> None:
    sound = np.arange(1, 5001, dtype=np.float32)
    cutter = ChunkCutter()
    for part in np.array_split(sound, [1, 700, 701, 3000]):
        cutter.push(part)
    assert cutter.frames == 8 and cutter.complete == 8
    first = cutter.samples(0, 1)
    assert first.size == CHUNK_SAMPLES and not first[:520].any() and first[520] == 1
    several = cutter.samples(2, 5)
    np.testing.assert_array_equal(several[640 : 640 + CHUNK_SAMPLES], cutter.samples(3, 4))
    cutter.forget(4)
    np.testing.assert_array_equal(cutter.samples(4, 5), several[1280:])
    with pytest.raises(AssertionError):
        cutter.samples(3, 4)
    cutter.pad(13)
    assert cutter.complete == 13 and not cutter.samples(12, 13)[:520].any()
