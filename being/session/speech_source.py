"""Makes speech for a session: from sound or text to blocks of sound with speech features.

The work is cut into short steps, so that one thread can serve many sessions in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from being.conventions import FEATURE_WINDOW, SAMPLE_RATE, SAMPLES_PER_FRAME
from being.media.resampling import StreamResampler
from being.session.timeline import RATE
from being.session.utterance import SpeechBlock
from being.tts.speech import Speech

# Samples at 16 kHz whose features are computed in one step: two frames.
STEP_SAMPLES = 2 * SAMPLES_PER_FRAME
# Silence before the first word of an utterance, s: what a voice puts there beyond it is cut off.
LEAD_IN_S = 0.02
AUDIBLE = 10 ** (-45 / 20)  # of full scale


class FeatureSource(Protocol):
    """Speech features of sound that comes in chunks; `being.audio.feature_stream` has one."""

    @property
    def seconds(self) -> float:
        """Look-ahead, s: a frame's row comes this long after the frame's sound began."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Rows float32 [k, 16, C] that samples float32 [n] at 16 kHz complete."""

    def finish(self) -> np.ndarray:
        """The remaining rows float32 [k, 16, C]."""


class SpeechSource:
    """Sound of one utterance, at any rate and in chunks of any size, to speech blocks."""

    def __init__(self, features: FeatureSource, rate: int, silent_step: np.ndarray):
        """rate: Hz of the sound; silent_step: float32 [C], the features of silence.

        Feature windows are zero outside the sound. There the session has silence.
        """
        self._features, self._silent_step, self._rate = features, silent_step, rate
        self._to_play, self._to_hear = (
            StreamResampler(rate, RATE),
            StreamResampler(rate, SAMPLE_RATE),
        )

    def push(self, samples: np.ndarray) -> Iterator[SpeechBlock]:
        """Blocks of samples float32 [n] in [-1, 1]: first the sound, then rows as they come."""
        return self._blocks(self._to_play.push(samples), self._to_hear.push(samples), False)

    def finish(self) -> Iterator[SpeechBlock]:
        """The remaining blocks. No sound follows."""
        return self._blocks(self._to_play.finish(), self._to_hear.finish(), True)

    def pause(self, seconds: float) -> Iterator[SpeechBlock]:
        """Blocks of silence between two clauses."""
        return self.push(np.zeros(round(seconds * self._rate), np.float32))

    def speak(
        self, speech: Speech, first: bool, at: int, lead: float = 0.0
    ) -> Iterator[SpeechBlock]:
        """Blocks of a clause that a voice has spoken, at the rate of this source.

        first: whether it is the first of the utterance: silence before its first word is cut off.
        at: samples of the utterance before it, at 24 kHz. lead: s of silence before it.
        """
        samples, cut = speech.samples, 0
        if first:
            audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
            if audible.size:
                cut = max(0, int(audible[0]) - round(LEAD_IN_S * speech.rate))
        silence = np.zeros(round(lead * speech.rate), np.float32)
        blocks = self.push(np.concatenate([silence, samples[cut:]]))
        block = next(blocks)
        at += round(lead * RATE)
        shift = at - cut * RATE // speech.rate
        block.words += [
            (word, max(at, shift + round(start * RATE)), shift + round(end * RATE))
            for word, start, end in speech.words or []
        ]
        yield block
        yield from blocks

    def _blocks(self, play: np.ndarray, hear: np.ndarray, last: bool) -> Iterator[SpeechBlock]:
        pcm = (np.clip(play, -1, 1) * 32767).round().astype(np.int16)
        yield SpeechBlock(pcm, hear.astype(np.float32, copy=False), self._no_rows())
        for start in range(0, hear.size, STEP_SAMPLES):
            rows = self._features.push(np.clip(hear[start : start + STEP_SAMPLES], -1, 1))
            if len(rows):
                yield self._rows_alone(rows)
        if last:
            yield self._rows_alone(self._features.finish())

    def _rows_alone(self, rows: np.ndarray) -> SpeechBlock:
        filled = np.where((rows == 0).all(2, keepdims=True), self._silent_step, rows)
        return SpeechBlock(
            np.zeros(0, np.int16), np.zeros(0, np.float32), filled.astype(np.float32)
        )

    def _no_rows(self) -> np.ndarray:
        return np.zeros((0, FEATURE_WINDOW, self._silent_step.size), np.float32)


def pcm16_to_float(content: bytes | memoryview) -> np.ndarray:
    """Samples float32 [n] in [-1, 1] of little-endian 16-bit PCM."""
    return np.frombuffer(content, "<i2").astype(np.float32) / 32768
