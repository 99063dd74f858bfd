"""The feature worker: speech features of all sessions of one avatar, one batch a tick.

It serves avatars that read the mouth code of the live encoder (`inference.mouth_batch`), on a GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from being.audio.sound_chunks import CHUNK_SAMPLES, chunk_of
from being.conventions import SAMPLES_PER_FRAME
from being.inference.mouth_batch import BATCH_SIZES, MouthBatchRunner, PendingCodes
from being.inference.mouth_stream import CODE_DELAY
from being.model.voice_to_mouth import CodeState

MAX_BATCH = BATCH_SIZES[-1]  # sessions
MAX_PENDING = 2  # batches that are computed or not read yet


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

    def __init__(self, runner: MouthBatchRunner):
        self._runner = runner
        self._streams: dict[Hashable, _Stream] = {}
        self._free = list(range(runner.streams - 1, -1, -1))
        self._ready: deque[Hashable] = deque()  # sessions with chunks that wait
        self._pending: deque[tuple[PendingCodes, list[tuple[Hashable, int, int]]]] = deque()
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
        """Submit one batch."""
        count = min(MAX_BATCH, len(self._ready))
        asked: list[tuple[Hashable, int, int]] = []
        numbers = np.empty((3, count), np.int64)
        samples = np.empty((count, CHUNK_SAMPLES), np.float32)
        for k in range(count):
            session = self._ready.popleft()
            stream = self._streams[session]
            chunk, frames, samples[k] = stream.waiting.popleft()
            numbers[:, k] = stream.place, chunk, frames
            asked.append((session, stream.utterance, chunk))
            if stream.waiting:
                self._ready.append(session)
        pending = self._runner.submit(numbers[0], numbers[1], numbers[2], samples)
        self._pending.append((pending, asked))
        self.batches += 1
        self.chunks += count

    def _fetch(self) -> list[MadeCode]:
        """The codes of the oldest batch."""
        pending, asked = self._pending.popleft()
        made: list[MadeCode] = []
        for row, (session, utterance, chunk) in zip(pending.codes(), asked, strict=True):
            stream = self._streams.get(session)
            if stream is None or stream.utterance != utterance or chunk < CODE_DELAY:
                continue
            code, stream.state = self._runner.follow(row, stream.state)
            made.append(MadeCode(session, utterance, chunk - CODE_DELAY, code))
        return made

    def shut_down(self) -> None:
        """Free the memory of the device."""
        self._runner.close()
