"""Speech encoders with bounded look-ahead: each step reads a limited stretch of audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from being.audio.encoder_interface import Encoder, PieceEncoder, piece_samples
from being.audio.encoder_names import Latency
from being.conventions import FEATURE_RATE, SAMPLES_PER_STEP, STEPS_PER_FRAME
from being.errors import UsageError

# Steps (2 s) of audio that the encoder reads before the steps that it computes.
PAST_STEPS = 100
# Steps that are computed at once: those of one frame.
HOP_STEPS = STEPS_PER_FRAME
# Stretches of a whole clip that the network takes as one batch.
BATCH_STRETCHES = 64


@dataclass(frozen=True)
class _Stretch:
    """Audio of one hop with its past and its look-ahead."""

    samples: np.ndarray
    # steps before the hop
    offset: int
    # steps of the hop
    count: int


class BoundedEncoder:
    """An encoder that reads no audio beyond its latency. Whole clips are encoded with it to train.

    Equal, to rounding, to the steps of `StepStream` for the same audio.
    """

    rate: int = FEATURE_RATE
    reads_files: bool = False

    def __init__(self, inner: Encoder, latency: Latency):
        """inner: an encoder of pieces. Raises UsageError for other encoders."""
        if not isinstance(inner, PieceEncoder):
            raise UsageError(
                f"the encoder {inner.name!r} has no streaming form"
                if inner.reads_files
                else f"the encoder {inner.name!r} has a look-ahead of its own",
                "its features are read from a file" if inner.reads_files else "",
                "Leave the latency out",
            )
        self.inner, self.latency = inner, latency
        self.name = f"{inner.name}@{latency.name}"
        self.width: int = inner.width
        self.hidden_width: int | None = inner.hidden_width
        self.shift: int = latency.shift

    def move_to(self, device: str) -> None:
        """Put the network on `device`."""
        self.inner.move_to(device)

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.encode_clip`. A step reads audio from 2 s before it to `ahead` after it."""
        return np.concatenate(list(self.encode_blocks(samples)))

    def encode_blocks(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """See `Encoder.encode_blocks`."""
        steps = -(-samples.size // SAMPLES_PER_STEP) if steps is None else steps
        assert samples.ndim == 1 and steps >= HOP_STEPS, (samples.shape, steps)

        # Stretches of equal length are encoded as one batch.
        batch: list[_Stretch] = []
        for start in range(0, steps, HOP_STEPS):
            first = max(0, start - PAST_STEPS)
            last = min(steps, start + HOP_STEPS + self.latency.ahead)
            stretch = piece_samples(samples, first, last)
            if batch and (stretch.size != batch[0].samples.size or len(batch) == BATCH_STRETCHES):
                yield self._encode_batch(batch)
                batch = []
            batch.append(_Stretch(stretch, start - first, min(HOP_STEPS, steps - start)))
        yield self._encode_batch(batch)

    def _encode_batch(self, batch: list[_Stretch]) -> np.ndarray:
        """The steps of the hops of stretches of equal length, float32 [s, width]."""
        encoded = self.inner.encode_pieces(np.stack([stretch.samples for stretch in batch]))
        return np.concatenate(
            [
                steps[stretch.offset : stretch.offset + stretch.count]
                for steps, stretch in zip(encoded, batch, strict=True)
            ]
        )
