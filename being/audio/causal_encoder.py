"""The speech encoder of live sessions, `hama-causal`: the causal conformer as an `Encoder`.

It takes about a twentieth of the processor time of `hama@low`, with the same look-ahead (0.24 s).
Whole clips are encoded by the same code as live audio, with larger chunks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from being.audio.articulation import ARTICULATION_CHANNELS
from being.audio.causal_conformer import AHEAD, CausalConformer, ConformerWeights, shipped_weights
from being.audio.conformer_shape import MEL_WINDOW
from being.audio.encoder_interface import PIECE_STEPS, piece_samples
from being.audio.encoder_names import CAUSAL, CAUSAL_LATENCY
from being.audio.waveform import checked_samples
from being.conventions import FEATURE_RATE, SAMPLES_PER_FRAME, SAMPLES_PER_STEP, STEPS_PER_FRAME

# Samples after a step's own that determine it: later steps, and half a mel window.
SAMPLES_AHEAD = sum(AHEAD) * SAMPLES_PER_STEP + MEL_WINDOW // 2
assert SAMPLES_AHEAD <= CAUSAL_LATENCY.ahead * SAMPLES_PER_STEP


class CausalEncoder:
    """See `Encoder`. The channels are those of `hama`: hidden states, then articulation."""

    rate: int = FEATURE_RATE
    reads_files: bool = False
    hidden_width: int | None = None
    name = CAUSAL
    latency = CAUSAL_LATENCY
    shift: int = CAUSAL_LATENCY.shift

    def __init__(self, weights: ConformerWeights | None = None):
        """weights: default: those of the package. Raises EnvironmentFault for damaged ones."""
        self.weights = weights or shipped_weights()
        self.width: int = self.weights.width + ARTICULATION_CHANNELS

    def move_to(self, device: str) -> None:
        """Do nothing: it computes on the processor."""

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.encode_clip`. Silence follows the audio."""
        return np.concatenate(list(self.encode_blocks(samples)))

    def encode_blocks(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """See `Encoder.encode_blocks`."""
        steps = -(-samples.size // SAMPLES_PER_STEP) if steps is None else steps
        assert samples.ndim == 1 and steps >= 1, (samples.shape, steps)
        conformer, done = CausalConformer(self.weights), 0
        for first in range(0, steps + CAUSAL_LATENCY.ahead, PIECE_STEPS):
            last = min(first + PIECE_STEPS, steps + CAUSAL_LATENCY.ahead)
            block = conformer.push(piece_samples(samples, first, last))[: steps - done]
            done += len(block)
            yield block

    def steps(self) -> CausalStepStream:
        """The steps of live audio."""
        return CausalStepStream(self)


class CausalStepStream:
    """Feature steps of live audio, used like `feature_stream.StepStream`.

    The two steps of a frame are computed at once, so small chunks cost no more than large ones.
    """

    def __init__(self, encoder: CausalEncoder):
        self.encoder, self.latency = encoder, encoder.latency
        self.name, self.width = encoder.name, encoder.width
        # Steps that have come out.
        self.steps = 0
        self._conformer = CausalConformer(encoder.weights)
        self._samples = np.zeros(0, np.float32)  # not yet given to the conformer
        self._given = 0
        self._received = 0
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The steps float32 [k, C] that are complete now; k is even and often 0.

        samples and errors: as for `StepStream.push`.
        """
        assert not self._finished, "the stream is finished"
        if samples.size:
            self._samples = np.concatenate([self._samples, checked_samples(samples)])
            self._received += samples.size
        frames = (self._received - SAMPLES_AHEAD) // SAMPLES_PER_FRAME
        return self._give(frames)

    def finish(self) -> np.ndarray:
        """The remaining steps float32 [k, C], two for each frame that the audio begins.

        Silence follows the audio.
        """
        assert not self._finished, "the stream is finished"
        self._finished = True
        frames = -(-self._received // SAMPLES_PER_FRAME)
        end = frames * SAMPLES_PER_FRAME + SAMPLES_AHEAD
        self._samples = np.pad(self._samples, (0, end - self._given - self._samples.size))
        return self._give(frames)

    def _give(self, frames: int) -> np.ndarray:
        """Give the conformer what determines the first `frames` frames; the steps that come out."""
        if STEPS_PER_FRAME * frames <= self.steps:
            return np.zeros((0, self.width), np.float32)
        count = frames * SAMPLES_PER_FRAME + SAMPLES_AHEAD - self._given
        steps = self._conformer.push(self._samples[:count])
        self._samples = self._samples[count:]
        self._given += count
        self.steps += len(steps)
        assert self.steps == STEPS_PER_FRAME * frames, (self.steps, frames)
        return steps
