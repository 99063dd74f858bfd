"""The feature worker: speech features of all sessions of one avatar, one batch a tick.

It serves avatars that read the mouth code of the live encoder: in the render process on a GPU
(`inference.mouth_batch`), and in front processes for clients that draw by themselves
(`inference.mouth_streams`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from being.audio.sound_chunks import CHUNK_SAMPLES, chunk_of
from being.conventions import SAMPLES_PER_FRAME
from being.inference.mouth_stream import CODE_DELAY, MOST_STREAMS
from being.model.voice_to_mouth import CodeState

MAX_BATCH = MOST_STREAMS  # sessions
MAX_PENDING = 2  # batches that are computed or not read yet


class Pending(Protocol):
    """Codes that are being computed."""

    @property
    def ready(self) -> bool:
        """Whether they are there."""


class MouthRunner(Protocol):
    """Computes codes of many streams, n frames of each a call."""

    @property
    def most_chunks(self) -> int:
        """The most n."""

    @property
    def streams(self) -> int:
        """The most streams."""

    def warm_up(self, streams: int) -> None:
        """Prepare for batches of up to `streams` streams. No stream may be in use."""

    def submit(
        self, streams: np.ndarray, chunks: np.ndarray, frames: np.ndarray, samples: np.ndarray
    ) -> Any:
        """Start to compute the codes after each of n chunks of each stream; a `Pending`.

        streams: int64 [B], distinct; chunks: int64 [B], numbers k of the first chunk of each, in
        order from 0 on; frames: int64 [B], of each stream in all, or ENDLESS; samples: float32
        [B, 1040 + 640 (n - 1)].
        """

    def follow(
        self, made: Any, index: list[int], states: list[CodeState]
    ) -> tuple[np.ndarray, list[CodeState]]:
        """Codes float32 [i, K] of frames, and the states after them.

        made: of `submit`, is waited for; index: rows of it, of the n B of which B are of the frames
        k - CODE_DELAY, the next B of those after them; states: of these streams, after the frame
        before, `CodeState()` at first.
        """

    def close(self) -> None:
        """Free the memory of the device."""


@dataclass(frozen=True)
class MadeCode:
    """The mouth code of one frame of a session."""

    session: Hashable
    utterance: int  # number, of the caller
    frame: int  # of the utterance
    code: np.ndarray  # float32 [K]


@dataclass
class _Stream:
    """The utterance of a session."""

    place: int  # in the batch
    utterance: int = -1
    state: CodeState = CodeState()  # after the last code of the utterance
    # Chunks that wait: number, frames of the utterance in all, samples.
    waiting: deque[tuple[int, int, np.ndarray]] = field(default_factory=deque)


class FeatureWorker:
    """Computes mouth codes for sessions. Not for several threads."""

    def __init__(self, runner: MouthRunner):
        self._runner = runner
        self._streams: dict[Hashable, _Stream] = {}
        self._free = list(range(runner.streams - 1, -1, -1))
        self._ready: deque[Hashable] = deque()  # sessions with chunks that wait
        self._pending: deque[tuple[Pending, list[list[tuple[Hashable, int, int]]]]] = deque()
        self.batches = self.chunks = 0

    @property
    def busy(self) -> bool:
        """Whether chunks wait or are being computed."""
        return bool(self._ready or self._pending)

    def warm_up(self, sessions: int) -> None:
        """Prepare for batches of up to `sessions` sessions. None may be open."""
        self._runner.warm_up(min(sessions, MAX_BATCH))

    def open(self, session: Hashable) -> None:
        """Make room for a session; there are as many as the runner has streams."""
        assert session not in self._streams and self._free, session
        self._streams[session] = _Stream(self._free.pop())

    def close(self, session: Hashable) -> None:
        """Free the place of a session; what waits is not computed."""
        stream = self._streams.pop(session, None)
        if stream is not None:
            self._free.append(stream.place)
            if stream.waiting:
                self._ready.remove(session)

    def put(
        self, session: Hashable, utterance: int, first: int, frames: int, samples: np.ndarray
    ) -> None:
        """Sound of an utterance; a session that is closed gets nothing.

        utterance: a number; with a new one, what waits of the last one is thrown away. first:
        number of the first chunk, without gaps from 0 on. frames: of the utterance in all, or
        `mouth_stream.ENDLESS`. samples: float32 [640 (n - 1) + 1040] of n chunks, n may be 0.
        """
        stream = self._streams.get(session)
        if stream is None:
            return
        waited = bool(stream.waiting)
        if utterance != stream.utterance:
            stream.utterance, stream.state = utterance, CodeState()
            stream.waiting.clear()
        for k in range((samples.size - CHUNK_SAMPLES) // SAMPLES_PER_FRAME + 1):
            stream.waiting.append((first + k, frames, chunk_of(samples, k)))
        if stream.waiting and not waited:
            self._ready.append(session)
        elif waited and not stream.waiting:
            self._ready.remove(session)

    def tick(self) -> list[MadeCode]:
        """Start one batch, the next chunk of each session that has one; the codes that are there.

        Where nothing can be started, it does not wait: call it again.
        """
        made: list[MadeCode] = []
        while self._pending and self._pending[0][0].ready:
            made += self._fetch()
        if self._ready and len(self._pending) < MAX_PENDING:
            self._start()
        return made

    def _start(self) -> None:
        """Submit one batch: as many chunks of each session as the runner takes, or one."""
        number = self._runner.most_chunks
        chosen = [name for name in self._ready if len(self._streams[name].waiting) >= number]
        if not chosen:
            chosen, number = list(self._ready), 1
        chosen = chosen[:MAX_BATCH]
        count = len(chosen)
        asked: list[list[tuple[Hashable, int, int]]] = [[] for _ in range(number)]
        numbers = np.empty((3, count), np.int64)
        samples = np.empty((count, CHUNK_SAMPLES + (number - 1) * SAMPLES_PER_FRAME), np.float32)
        taken = set(chosen)
        self._ready = deque(name for name in self._ready if name not in taken)
        for k, session in enumerate(chosen):
            stream = self._streams[session]
            numbers[:, k] = stream.place, *stream.waiting[0][:2]
            for position in range(number):
                chunk, numbers[2, k], own = stream.waiting.popleft()
                start = position * SAMPLES_PER_FRAME
                samples[k, start : start + CHUNK_SAMPLES] = own
                asked[position].append((session, stream.utterance, chunk))
            if stream.waiting:
                self._ready.append(session)
        pending = self._runner.submit(numbers[0], numbers[1], numbers[2], samples)
        self._pending.append((pending, asked))
        self.batches += 1
        self.chunks += count * number

    def _fetch(self) -> list[MadeCode]:
        """The codes of the oldest batch."""
        pending, asked = self._pending.popleft()
        made: list[MadeCode] = []
        first = 0
        # A frame's code depends on that of the frame before.
        for row in asked:
            index, wanted = list[int](), list[tuple[_Stream, tuple[Hashable, int, int]]]()
            for k, (session, utterance, chunk) in enumerate(row):
                stream = self._streams.get(session)
                if stream is not None and stream.utterance == utterance and chunk >= CODE_DELAY:
                    index.append(first + k)
                    wanted.append((stream, (session, utterance, chunk)))
            first += len(row)
            states = [stream.state for stream, _ in wanted]
            codes, states = self._runner.follow(pending, index, states)
            for (stream, of), code, state in zip(wanted, codes, states, strict=True):
                stream.state = state
                session, utterance, chunk = of
                made.append(MadeCode(session, utterance, chunk - CODE_DELAY, code))
        return made

    def shut_down(self) -> None:
        """Free the memory of the device."""
        self._runner.close()
