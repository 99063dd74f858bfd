"""An avatar that speaks in this process: sound goes in, sound and pictures come out in step.

The adapters for agent frameworks stand on it. It needs no server: one engine, one session.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from being.conventions import FPS
from being.inference.engine import Engine
from being.inference.i420 import VIDEO_COLOURS, i420_bytes
from being.provenance.mark import identity_of
from being.provenance.watermark import Watermark
from being.session.avatar_facts import AvatarFacts
from being.session.engine_facts import avatar_facts
from being.session.live_session import FrameOrder, LiveSession, Moment
from being.session.render_worker import PictureJob, RenderWorker
from being.session.speech_source import FeatureSource, SpeechSource
from being.session.timeline import RATE, Clock, SystemClock
from being.session.utterance import SpeechBlock, Utterance

SESSION = "player"
LONGEST_SLEEP_S, SHORTEST_SLEEP_S = 0.01, 0.001


@dataclass(frozen=True)
class Shown:
    """40 ms of the avatar."""

    epoch: int  # rises with each interrupt
    at: int  # samples at 24 kHz since the start
    samples: np.ndarray | None  # int16 [960] at 24 kHz; None: silence
    picture: np.ndarray | None  # I420, uint8 [1.5 S^2]; None: it would be late, the last one stays
    speaking: bool


@dataclass(frozen=True)
class SegmentEnd:
    """All sound of a segment was given."""

    epoch: int


@dataclass
class _Segment:
    """Sound between two ends, as one utterance."""

    rate: int
    source: SpeechSource
    waiting: deque[np.ndarray] = field(default_factory=deque)  # float32, for the speech thread
    ended: bool = False  # no more sound comes
    finishing: bool = False  # the speech thread knows it
    utterance: Utterance | None = None  # once it is its turn


class AvatarPlayer:
    """One live avatar; see the module. All methods belong to one event loop."""

    rate = RATE  # Hz of the sound that comes out
    fps = FPS

    def __init__(
        self,
        engine: Engine,
        clock: Clock | None = None,
        features: Callable[[], FeatureSource] | None = None,
        facts: AvatarFacts | None = None,
        watermark: bool = True,
    ):
        """features, facts: of the avatar; others serve tests. watermark: the pictures say invisibly
        that they are AI-generated. Raises as `avatar_facts`.
        """
        mark = Watermark(identity_of(engine.avatar.manifest)) if watermark else None
        self.facts = avatar_facts(engine, "avatar", mark) if facts is None else facts
        self.size = self.facts.size  # px of a picture's side
        self._features = self.facts.stream if features is None else features
        self._clock: Clock = clock or SystemClock()
        self._worker = RenderWorker(engine, mark)
        self._worker.open(SESSION, self.facts.silent_row)
        self.session = LiveSession(
            self.facts.motion, self.facts.silent_row, self._clock.now(), 0, None, self.facts.offsets
        )
        self._segments: deque[_Segment] = deque()  # the first one is spoken
        self._speech = ThreadPoolExecutor(1, "speech")
        self._pictures = ThreadPoolExecutor(1, "pictures")
        self._closed = False

    def push(self, samples: np.ndarray, rate: int) -> None:
        """More sound, int16 or float32 [n] mono at `rate` Hz. It opens a segment if none is open.

        Call it in the running event loop.
        """
        if samples.dtype == np.int16:
            samples = samples.astype(np.float32) / 32768
        assert samples.ndim == 1 and samples.dtype == np.float32, (samples.shape, samples.dtype)
        last = self._segments[-1] if self._segments else None
        if last is None or last.ended or last.rate != rate:
            if last is not None:
                last.ended = True
            silent_step = self.facts.silent_row[len(self.facts.silent_row) // 2]
            last = _Segment(rate, SpeechSource(self._features(), rate, silent_step))
            self._segments.append(last)
        last.waiting.append(samples)
        self._feed()

    def end(self) -> None:
        """The segment gets no more sound."""
        if self._segments:
            self._segments[-1].ended = True
            self._feed()

    def interrupt(self) -> float:
        """Forget all sound; nothing of it comes out any more.

        The seconds of the segment that had been audible, by this object's own clock.
        """
        self._segments.clear()
        event = self.session.interrupt(self._clock.now())
        return float(event["heard"]["seconds"])

    @property
    def pending(self) -> bool:
        """Whether sound is there that has not come out."""
        return bool(self._segments)

    @property
    def epoch(self) -> int:
        """The number of interrupts so far."""
        return self.session.epoch

    async def play(self) -> AsyncIterator[Shown | SegmentEnd]:
        """What is to be heard and seen, in real time, until `close`."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            for item in self.session.advance(self._clock.now()):
                if isinstance(item, Moment):
                    picture = None
                    if item.order is not None and item.epoch == self.epoch:
                        picture = await loop.run_in_executor(
                            self._pictures, self._render, item.order
                        )
                    elif item.order is not None:
                        # Its rows never reach the renderer.
                        self.session.forget_rows()
                    if item.epoch == self.epoch:
                        yield Shown(item.epoch, item.at, item.samples, picture, item.speaking)
                elif item["type"] == "speaking_ended" and item["epoch"] == self.epoch:
                    self._next_segment()
                    yield SegmentEnd(item["epoch"])
            due = self.session.playback.seconds_to_due(self._clock.now())
            await asyncio.sleep(min(LONGEST_SLEEP_S, max(SHORTEST_SLEEP_S, due)))

    def close(self) -> None:
        """End `play` and the threads. The engine stays the caller's."""
        self._closed = True
        self._speech.shutdown(wait=False, cancel_futures=True)
        self._pictures.shutdown(wait=True, cancel_futures=True)
        self._worker.close(SESSION)

    def _next_segment(self) -> None:
        if self._segments:
            self._segments.popleft()
        self._feed()

    def _feed(self) -> None:
        """Give the sound of the first segment to the speech thread."""
        if not self._segments or self._closed:
            return
        segment = self._segments[0]
        if segment.utterance is None:
            if self.session.utterance is not None:
                return
            segment.utterance = self.session.open_utterance("segment", streamed=True)
        utterance, loop = segment.utterance, asyncio.get_running_loop()
        while segment.waiting:
            samples = segment.waiting.popleft()
            self._speech.submit(self._make, segment, samples, utterance, loop)
        if segment.ended and not segment.finishing:
            segment.finishing = True
            self._speech.submit(self._make, segment, None, utterance, loop)

    def _make(
        self,
        segment: _Segment,
        samples: np.ndarray | None,
        utterance: Utterance,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Make speech features in the speech thread; samples None: the segment has ended."""

        def deliver(block: SpeechBlock, ends: bool) -> None:
            self.session.add_speech(utterance, block)
            if ends:
                self.session.end_utterance(utterance)

        if self.session.utterance is not utterance or not utterance.open:
            return  # it was interrupted meanwhile
        blocks = segment.source.finish() if samples is None else segment.source.push(samples)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            for number, block in enumerate(blocks):
                loop.call_soon_threadsafe(deliver, block, samples is None and number == 0)

    def _render(self, order: FrameOrder) -> np.ndarray:
        """The picture of an order, in the picture thread."""
        out = np.empty(i420_bytes(self.size), np.uint8)
        self._worker.put(PictureJob(SESSION, order, out, VIDEO_COLOURS, 0))
        while self._worker.busy:
            self._worker.tick()
        return out
