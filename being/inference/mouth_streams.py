"""Mouth codes of many streams of live audio at once, in numpy: for front processes.

`mouth_stream.MouthStream` gives the same codes for one stream, `mouth_batch.MouthBatch` for many in
torch. B streams of a call, S streams in all, K channels of the code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from being.audio.causal_conformer import ConformerWeights
from being.audio.conformer_streams import MOST_CHUNKS, ConformerStreams
from being.audio.feature_windows import STRIP
from being.audio.sound_chunks import FIRST_OUT
from being.conventions import STEPS_PER_FRAME
from being.inference.mouth_stream import CODE_DELAY, STRIP_WINDOWS
from being.model.voice_to_mouth import CodeState, VoiceToMouth

_WINDOWS = np.array(STRIP_WINDOWS)


class MouthStreams:
    """The codes of S streams. Implements `session.feature_worker.MouthRunner`."""

    most_chunks = MOST_CHUNKS

    def __init__(self, weights: ConformerWeights, voice: VoiceToMouth, streams: int):
        """voice: the mapping from the conformer's steps."""
        self.voice, self.streams = voice, streams
        self._conformer = ConformerStreams(weights, streams)
        assert voice.width == self._conformer.width, (voice.width, self._conformer.width)
        self._strip = np.zeros((streams, STRIP, voice.width), np.float32)
        # The same steps projected: most of a strip is known from the frame before.
        parts = voice.step_basis.shape[1]
        self._projected = np.zeros((streams, STRIP, parts), np.float32)
        self._nothing = voice.project(np.zeros((1, voice.width), np.float32))[0]

    def warm_up(self, streams: int) -> None:
        """Do nothing: there is nothing to prepare."""

    def close(self) -> None:
        """Do nothing: the memory goes with the object."""

    def submit(
        self, streams: np.ndarray, chunks: np.ndarray, frames: np.ndarray, samples: np.ndarray
    ) -> MadeCodes:
        """See `MouthRunner.submit`. It computes at once."""
        made = self._conformer.push(streams, chunks, samples)
        number, width = made.shape[1] // STEPS_PER_FRAME, made.shape[2]
        # Steps that are zero in windows: before the audio and after it.
        steps = STEPS_PER_FRAME * chunks[:, None] + FIRST_OUT + np.arange(made.shape[1])
        made[(steps < 0) | (steps >= STEPS_PER_FRAME * frames[:, None])] = 0
        projected = self.voice.project(made.reshape(-1, width)).reshape(*made.shape[:2], -1)
        begins = np.flatnonzero(chunks == 0)
        strips = _following(self._strip, streams, begins, np.float32(0), made)
        parts = _following(self._projected, streams, begins, self._nothing, projected)

        # Windows of frames outside the stream are zero.
        for k in range(number):
            windows = chunks[:, None] + k - CODE_DELAY + _WINDOWS
            outside = (windows < 0) | (windows >= frames[:, None])
            if outside.any():
                strips[k][outside], parts[k][outside] = 0, self._nothing
        flat = strips.reshape(-1, STRIP, width)
        codes = self.voice.codes_of(parts.reshape(-1, parts.shape[3]), flat)
        return MadeCodes(codes, self.voice.pauses(flat))

    def follow(
        self, made: MadeCodes, index: list[int], states: list[CodeState]
    ) -> tuple[np.ndarray, list[CodeState]]:
        """See `MouthRunner.follow`."""
        pauses = None if made.pauses is None else made.pauses[index]
        return self.voice.follow_each(made.values[index], pauses, states)


def _following(
    state: np.ndarray, streams: np.ndarray, begins: np.ndarray, nothing: Any, made: np.ndarray
) -> np.ndarray:
    """The strips [n, B, 30, X] of n frames, each two steps later than the last one in `state`.

    state: [S, 30, X], which is moved on; begins: places in `streams` of those that have no past,
    which is `nothing`; made: the new steps [B, 2 n, X].
    """
    before = state[streams]
    before[begins] = nothing
    steps = np.concatenate([before, made], 1)
    count = made.shape[1]
    state[streams] = steps[:, count:]
    starts = range(STEPS_PER_FRAME, count + 1, STEPS_PER_FRAME)
    return np.stack([steps[:, start : start + STRIP] for start in starts])


class MadeCodes:
    """What `MouthStreams.submit` gives."""

    ready = True

    def __init__(self, values: np.ndarray, pauses: np.ndarray | None):
        """values: float32 [n B, K], frame by frame; pauses: see `VoiceToMouth.pauses`."""
        self.values, self.pauses = values, pauses
