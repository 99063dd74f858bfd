"""Chunks of live audio, as the causal conformer reads them: one for each frame.

Chunk k holds the samples from 640 k - 520 to 640 k + 520 (zeros before the audio): those that the
mel frames of the steps 2 k - 1 and 2 k read.
"""

from __future__ import annotations

import numpy as np

from being.audio.causal_conformer import AHEAD
from being.audio.conformer_shape import MEL_WINDOW
from being.conventions import SAMPLES_PER_FRAME, SAMPLES_PER_STEP

# Samples of a chunk after and before the first of its frame.
CHUNK_REACH = SAMPLES_PER_STEP + MEL_WINDOW // 2
CHUNK_SAMPLES = 2 * CHUNK_REACH
# Chunk k brings the steps from 2 k + FIRST_IN on, and gives those from 2 k + FIRST_OUT on.
FIRST_IN = -1
FIRST_OUT = FIRST_IN - sum(AHEAD)


class ChunkCutter:
    """Cuts the audio of one stream into chunks, as it comes.

    It keeps what chunks from `first` on read, so that they can be given again.
    """

    def __init__(self) -> None:
        self.first = 0  # the chunk that the kept samples begin with
        self.received = 0  # samples
        self._samples = np.zeros(CHUNK_REACH, np.float32)

    @property
    def complete(self) -> int:
        """Chunks that are complete, those before `first` included."""
        return self.first + max(0, (self._samples.size - CHUNK_SAMPLES) // SAMPLES_PER_FRAME + 1)

    @property
    def frames(self) -> int:
        """Frames that the audio begins."""
        return -(-self.received // SAMPLES_PER_FRAME)

    def push(self, samples: np.ndarray) -> None:
        """Append samples float32 [n]."""
        self._samples = np.concatenate([self._samples, samples])
        self.received += samples.size

    def pad(self, chunks: int) -> None:
        """Silence follows, until `chunks` chunks are complete."""
        size = (chunks - 1 - self.first) * SAMPLES_PER_FRAME + CHUNK_SAMPLES
        self._samples = np.pad(self._samples, (0, max(0, size - self._samples.size)))

    def samples(self, first: int, stop: int) -> np.ndarray:
        """The samples float32 [640 (stop - first) + 400] of the chunks from `first` to `stop`."""
        start = (first - self.first) * SAMPLES_PER_FRAME
        end = (stop - 1 - self.first) * SAMPLES_PER_FRAME + CHUNK_SAMPLES
        assert 0 <= start < end <= self._samples.size, (first, stop, self.first)
        return self._samples[start:end]

    def forget(self, first: int) -> None:
        """Drop what only the chunks before `first` read."""
        self._samples = self._samples[(first - self.first) * SAMPLES_PER_FRAME :]
        self.first = first


def chunk_of(samples: np.ndarray, number: int) -> np.ndarray:
    """Chunk `number`, float32 [1040], of the samples of several chunks in a row."""
    start = number * SAMPLES_PER_FRAME
    return samples[start : start + CHUNK_SAMPLES]
