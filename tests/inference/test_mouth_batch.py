"""Mouth codes of many streams in one batch are those of each stream alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from being.audio.causal_conformer import shipped_weights
from being.audio.encoder_names import CAUSAL
from being.audio.sound_chunks import ChunkCutter
from being.bench.avatars import random_voice
from being.conventions import SAMPLE_RATE
from being.data.mouth import CODE_GAIN, code_rows
from being.inference.mouth_batch import MouthBatch, MouthBatchRunner
from being.inference.mouth_stream import CODE_DELAY, live_stream
from being.inference.mouth_streams import MouthStreams
from being.model.voice_to_mouth import CodeState, VoiceToMouth

STREAMS = 3
SECONDS = (2.0, 1.3, 0.07)


@pytest.fixture(scope="module")
def voice() -> VoiceToMouth:
    """A mapping whose quantiles are even, so that it enlarges no rounding, and that closes lips."""
    made = random_voice(shipped_weights().width + 2, centres=60)
    even = np.tile(np.linspace(-1, 1, 15, dtype=np.float32), (len(made.units), 1))
    readout = np.random.default_rng(1).normal(0, 0.5, made.width + 1).astype(np.float32)
    channels = len(made.units)
    return replace(
        made,
        predicted_quantiles=even,
        true_quantiles=0.7 * even,
        closure_step=16,
        closing=np.linspace(0, 1, channels, dtype=np.float32),
        face_share=np.linspace(0.7, 1.1, channels, dtype=np.float32),
        pause_readout=readout,
        pause_wait=3,
        speed=np.full(channels, 0.3, np.float32),
    )


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.random(300), 160)
    return [
        (rng.normal(0, 0.2, int(s * SAMPLE_RATE)) * loudness[: int(s * SAMPLE_RATE)]).astype("f4")
        for s in SECONDS
    ]


def single_rows(voice: VoiceToMouth, sound: np.ndarray) -> np.ndarray:
    stream = live_stream(CAUSAL, voice, voice.width)
    return np.concatenate([stream.push(sound), stream.finish()])


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_codes_are_those_of_each_stream_alone(
    voice: VoiceToMouth, sounds: list[np.ndarray], kind: str
) -> None:
    runner: Any = MouthStreams(shipped_weights(), voice, STREAMS)
    if kind == "torch":
        runner = MouthBatchRunner(MouthBatch(shipped_weights(), voice, STREAMS + 1, "cpu"))
    runner.warm_up(STREAMS)
    cutters = []
    for sound in sounds:
        cutters.append(ChunkCutter())
        cutters[-1].push(sound)
        cutters[-1].pad(cutters[-1].frames + CODE_DELAY)
    codes: list[list[np.ndarray]] = [[] for _ in sounds]
    states = [CodeState() for _ in sounds]
    for k in range(max(cutter.complete for cutter in cutters)):
        going = [i for i, cutter in enumerate(cutters) if k < cutter.complete]
        pending = runner.submit(
            np.array(going),
            np.full(len(going), k),
            np.array([cutters[i].frames for i in going]),
            np.stack([cutters[i].samples(k, k + 1) for i in going]),
        )
        assert pending.ready
        if k >= CODE_DELAY:
            index = list(range(len(going)))
            made, after = runner.follow(pending, index, [states[i] for i in going])
            for i, code, state in zip(going, made, after, strict=True):
                codes[i].append(code)
                states[i] = state
    spreads = []
    for sound, own in zip(sounds, codes, strict=True):
        expected = single_rows(voice, sound)
        made = code_rows(np.stack(own))
        assert made.shape == expected.shape
        assert np.abs(made - expected).max() < 1e-5 * CODE_GAIN
        spreads.append(expected.std())
    assert max(spreads) > 0.1  # they move with the sound
