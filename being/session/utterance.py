"""One utterance: sound with its speech features, taken frame by frame as the timeline needs it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from being.conventions import ATTENTION_FUTURE, SAMPLES_PER_FRAME
from being.session.timeline import FRAME, RATE

# Rows that a picture reads from its own on.
LIVE_ROWS = 1 + ATTENTION_FUTURE
# Live sound that waits longer than this is caught up with: its silent frames are left out, and at
# twice the time every frame. s.
BACKLOG_S = 0.2
QUIET = 80  # peak of a silent frame, of 32767: about -52 dBFS


@dataclass
class SpeechBlock:
    """Sound and what belongs to it, ready to be spoken."""

    # int16 [n] at 24 kHz
    samples: np.ndarray
    # float32 [n * 2 / 3] at 16 kHz, for blinks and brows
    hearing: np.ndarray
    # speech features float32 [k, 16, C] of the next k frames; they may lag behind the samples
    rows: np.ndarray
    # (word, start, end) in samples from the start of the utterance
    words: list[tuple[str, int, int]] = field(default_factory=list)


@dataclass
class SpokenFrame:
    """The sound of one frame of an utterance."""

    samples: np.ndarray  # int16 [960]
    start: int  # samples from the start of the utterance
    words: list[tuple[str, int, int]]  # that begin in this frame, from the utterance's start
    last: bool  # no frame follows


class Utterance:
    """A queue of sound and rows. Frame j is the sound from sample 960 j on."""

    def __init__(
        self, name: str, streamed: bool = False, live: bool = False, first_rows: int = LIVE_ROWS
    ):
        """streamed: sound that a client sends, perhaps no faster than it is spoken. live: sound
        from a microphone, which must not wait longer and longer. first_rows: rows that must be
        there before streamed sound starts, so that no later frame waits for its own.
        """
        self._first_rows = first_rows
        self.name, self.streamed, self.live = name, streamed or live, live
        self.open = True
        self.taken = 0  # frames, those left out included
        self.dropped = 0  # frames of live sound that were left out
        self.words: list[tuple[str, int, int]] = []
        self._unsaid: deque[tuple[str, int, int]] = deque()
        self._sound = np.zeros(0, np.int16)  # from frame `taken` on
        self._hearing = np.zeros(0, np.float32)  # from frame `taken` on
        # Rows from frame `taken - 1` on: the last row is repeated where the next one is late.
        self._rows: deque[np.ndarray] = deque()
        self.rows_received = 0
        self._samples = 0  # in all, so far

    def add(self, block: SpeechBlock) -> None:
        """Append sound, rows and words. After `close`, only rows come."""
        assert self.open or not block.samples.size, "the utterance has ended"
        self._samples += block.samples.size
        # Rows often come without sound; then what waits is not copied.
        if block.samples.size:
            self._sound = np.concatenate([self._sound, block.samples])
        if block.hearing.size:
            self._hearing = np.concatenate([self._hearing, block.hearing])
        self._rows.extend(block.rows)
        self.rows_received += len(block.rows)
        self.words += block.words
        self._unsaid.extend(block.words)

    def close(self) -> None:
        """No more sound follows. Rows may follow."""
        self.open = False

    def abandon(self) -> None:
        """Nothing more is spoken."""
        self._sound = self._sound[:0]
        self.open = False

    @property
    def waiting_samples(self) -> int:
        """Samples that wait to be spoken."""
        return self._sound.size

    @property
    def finished(self) -> bool:
        """Whether all sound was taken and none follows."""
        return not self.open and self._sound.size == 0

    @property
    def startable(self) -> bool:
        """Whether its first frame can be taken now, or the next one after a pause."""
        if not self.open:
            return self._sound.size > 0 and self._row_at(0) is not None
        needed = self._first_rows if self.streamed else 1
        return self._sound.size >= FRAME and self._row_at(needed - 1) is not None

    @property
    def ready(self) -> bool:
        """Whether the sound of the next frame is there. Its row may be late."""
        return self._sound.size >= FRAME or (not self.open and self._sound.size > 0)

    @property
    def complete(self) -> bool:
        """Whether the sound of the next frame and all rows that its picture reads are there."""
        return self._sound.size >= FRAME and self._row_at(self._first_rows - 1) is not None

    def take(self) -> SpokenFrame:
        """The next frame. `ready` must be true."""
        assert self.ready
        if self.live:
            self._catch_up()
        sound = np.zeros(FRAME, np.int16)
        part = self._sound[:FRAME]
        sound[: part.size] = part
        start = self.taken * FRAME
        words = []
        while self._unsaid and self._unsaid[0][1] < start + FRAME:
            words.append(self._unsaid.popleft())
        self._skip()
        return SpokenFrame(sound, start, words, self.finished)

    def row(self, ahead: int) -> tuple[int, np.ndarray] | None:
        """Number and row [16, C] of the frame that is `ahead` frames after the last one taken.

        The last row that came is given for one that is late, and None for one after the end.
        """
        number = self.taken - 1 + ahead
        found = self._row_at(ahead - 1)
        if found is not None:
            return number, found
        over = not self.open and number * FRAME >= self._samples
        if over or not self._rows:
            return None
        return self.rows_received - 1, self._rows[-1]

    def hearing(self, ahead: int) -> np.ndarray:
        """Sound float32 [640] at 16 kHz of the frame `ahead` frames after the last one taken."""
        start = (ahead - 1) * SAMPLES_PER_FRAME
        out = np.zeros(SAMPLES_PER_FRAME, np.float32)
        if start >= 0:
            part = self._hearing[start : start + SAMPLES_PER_FRAME]
            out[: part.size] = part
        return out

    def said_until(self, samples: int) -> str | None:
        """The words that begin before `samples`, or None where the words are not known."""
        if not self.words:
            return None
        return " ".join(word for word, start, _ in self.words if start < samples)

    def _row_at(self, index: int) -> np.ndarray | None:
        """The row of the frame `index` frames after the next one to be taken (-1: the last)."""
        position = self.taken + index - self._first_row
        if 0 <= position < len(self._rows):
            return self._rows[position]
        return None

    @property
    def _first_row(self) -> int:
        """The frame that the first kept row belongs to."""
        return self.rows_received - len(self._rows)

    def _skip(self) -> None:
        """Drop the sound of the next frame, and rows that are no longer needed."""
        self._sound = self._sound[FRAME:]
        self._hearing = self._hearing[SAMPLES_PER_FRAME:]
        self.taken += 1
        while len(self._rows) > 1 and self._first_row < self.taken - 1:
            self._rows.popleft()

    def _catch_up(self) -> None:
        """Leave out frames of live sound that wait too long."""
        needed = max(0, self.rows_received - self.taken - self._first_rows) * FRAME
        while needed > BACKLOG_S * RATE and self._sound.size >= 2 * FRAME:
            quiet = np.abs(self._sound[:FRAME].astype(np.int32)).max() < QUIET
            if not quiet and needed <= 2 * BACKLOG_S * RATE:
                return
            self._skip()
            self.dropped += 1
            needed -= FRAME
