"""Speech features in the render process: sessions in one batch, utterances that end or are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from being.audio.causal_conformer import shipped_weights
from being.audio.encoder_names import CAUSAL
from being.bench.avatars import random_voice
from being.conventions import SAMPLE_RATE
from being.inference.mouth_batch import MouthBatch, MouthBatchRunner
from being.inference.mouth_stream import live_stream
from being.inference.mouth_streams import MouthStreams
from being.model.voice_to_mouth import VoiceToMouth
from being.session.batched_features import BatchedFeatures
from being.session.feature_worker import FeatureWorker, MouthRunner

SESSIONS = 3


@pytest.fixture(scope="module")
def voice() -> VoiceToMouth:
    return random_voice(shipped_weights().width + 2, centres=40)


@pytest.fixture(scope="module", params=["torch", "numpy"])
def runner(voice: VoiceToMouth, request: pytest.FixtureRequest) -> MouthRunner:
    """That of the render process, and that of a front."""
    if request.param == "numpy":
        return MouthStreams(shipped_weights(), voice, SESSIONS)
    return MouthBatchRunner(MouthBatch(shipped_weights(), voice, SESSIONS + 1, "cpu"))


@pytest.fixture
def worker(runner: MouthRunner) -> FeatureWorker:
    return FeatureWorker(runner)


class Place:
    """The place of a session, without a process between. Implements `SoundPlace`."""

    def __init__(self, worker: FeatureWorker, name: str):
        self.worker, self.name, self.number = worker, name, 0
        self.receive_code: Callable[[int, int, np.ndarray], None]
        self.lost = False
        worker.open(name)

    def new_utterance(self) -> int:
        self.number += 1
        self.send_sound(self.number, 0, 0, np.zeros(0, np.float32))
        return self.number

    def send_sound(self, utterance: int, first: int, frames: int, samples: np.ndarray) -> None:
        if not self.lost:
            self.worker.put(self.name, utterance, first, frames, samples)


def tick(worker: FeatureWorker, places: list[Place]) -> None:
    """Compute all that waits."""
    by_name = {place.name: place for place in places}
    while worker.busy:
        for made in worker.tick():
            by_name[str(made.session)].receive_code(made.utterance, made.frame, made.code)


def sound(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype("f4")


def expected_rows(voice: VoiceToMouth, samples: np.ndarray) -> np.ndarray:
    stream = live_stream(CAUSAL, voice, voice.width)
    return np.concatenate([stream.push(samples), stream.finish()])


async def deliver_calls() -> None:
    """Let the loop run what other threads asked it for."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_sessions_get_the_rows_of_their_own_sound(
    worker: FeatureWorker, voice: VoiceToMouth
) -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        places = [Place(worker, str(k)) for k in range(SESSIONS)]
        sounds = [sound(0.9 + 0.21 * k, k) for k in range(SESSIONS)]
        for _ in range(2):  # two utterances, one after the other
            rows: list[list[np.ndarray]] = [[] for _ in places]
            sources = [
                BatchedFeatures(place, len(voice.units), loop, own.append)
                for place, own in zip(places, rows, strict=True)
            ]
            for source, samples in zip(sources, sounds, strict=True):
                for part in np.array_split(samples, 9):
                    assert not len(source.push(part))
                source.finish()
            before = worker.batches, worker.chunks
            await deliver_calls()
            tick(worker, places)
            assert worker.chunks - before[1] > 2 * (worker.batches - before[0])
            for own, samples in zip(rows, sounds, strict=True):
                made, expected = np.concatenate(own), expected_rows(voice, samples)
                assert made.shape == expected.shape
                assert np.abs(made - expected).max() < 0.02 * expected.std()
            for source in sources:
                source.close()

    asyncio.run(talk())


def test_a_row_comes_with_its_look_ahead(worker: FeatureWorker, voice: VoiceToMouth) -> None:
    async def talk() -> None:
        place, rows = Place(worker, "a"), []
        source = BatchedFeatures(place, len(voice.units), asyncio.get_running_loop(), rows.append)
        for _ in range(11):  # 220 ms: not yet 240
            source.push(sound(0.02, 1))
        await deliver_calls()
        tick(worker, [place])
        assert not rows and source.seconds == pytest.approx(0.24)
        source.push(sound(0.02, 1))
        await deliver_calls()
        tick(worker, [place])
        assert len(rows) == 1

    asyncio.run(talk())


def test_nothing_of_an_utterance_that_was_cut_is_computed_or_delivered(
    worker: FeatureWorker, voice: VoiceToMouth
) -> None:
    async def talk() -> None:
        place, rows = Place(worker, "a"), []
        loop = asyncio.get_running_loop()
        source = BatchedFeatures(place, len(voice.units), loop, rows.append)
        source.push(sound(1.0, 1))
        await deliver_calls()
        receive = place.receive_code
        made = worker.tick() + worker.tick()
        source.close()
        assert not worker._ready  # what waited is thrown away
        chunks = worker.chunks
        for code in made + worker.tick() + worker.tick():
            receive(code.utterance, code.frame, code.code)
        assert not rows and worker.chunks == chunks
        worker.close("a")
        worker.close("a")
        worker.put("a", 9, 0, 0, np.zeros(1040, np.float32))
        assert not worker.busy

    asyncio.run(talk())


def test_after_a_new_render_process_the_missing_rows_come(
    worker: FeatureWorker, voice: VoiceToMouth
) -> None:
    async def talk() -> None:
        place, rows = Place(worker, "a"), []
        samples = sound(1.5, 4)
        source = BatchedFeatures(place, len(voice.units), asyncio.get_running_loop(), rows.append)
        source.push(samples[:12_000])
        await deliver_calls()
        tick(worker, [place])
        came = len(rows)
        assert came > 10
        place.lost = True
        source.push(samples[12_000:])
        source.finish()
        await deliver_calls()
        tick(worker, [place])
        assert len(rows) == came
        place.lost = False
        worker.close("a")
        worker.open("a")
        source.restart()
        tick(worker, [place])
        expected = expected_rows(voice, samples)
        assert len(rows) == len(expected)
        np.testing.assert_allclose(np.concatenate(rows[:came]), expected[:came], atol=0.1)

    asyncio.run(talk())
