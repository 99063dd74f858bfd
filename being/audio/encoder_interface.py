"""The interface of speech encoders: audio samples in, feature steps out, 50 steps a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from being.conventions import FEATURE_RATE, SAMPLES_PER_STEP

# Steps of long audio that are encoded at once.
PIECE_STEPS = 8 * FEATURE_RATE
# Steps of context that are encoded with a piece on both sides, and then dropped.
CONTEXT_STEPS = 1 * FEATURE_RATE


class Encoder(Protocol):
    """What every speech encoder offers."""

    # as in `--encoder` and in the dataset
    name: str
    # channels of a step
    width: int
    # steps/s, FEATURE_RATE
    rate: int
    # steps by which its feature windows lie earlier (`Latency.shift`); 0 without a latency
    shift: int
    # channels of the hidden states alone, where other channels follow them
    hidden_width: int | None
    # True: another program computes the features, and they come from a file
    reads_files: bool

    def move_to(self, device: str) -> None:
        """Put the network on `device`."""

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """Feature steps float32 [ceil(T / 320), width]: step k describes the time (k + 1/2) / 50 s.

        samples: float32 [T] in [-1, 1] at 16 kHz, at least two steps long.
        """

    def encode_blocks(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """The steps of `encode_clip` in blocks float32 [s, width], in order of time.

        steps: their number in all, where silence follows the audio.
        """


class PieceEncoder:
    """An encoder of whole pieces of audio. Long audio is encoded in pieces of 8 s.

    Each piece is encoded with context on both sides. So memory does not grow with length.
    """

    name: str
    width: int
    rate: int = FEATURE_RATE
    shift: int = 0
    hidden_width: int | None = None
    reads_files: bool = False

    def move_to(self, device: str) -> None:
        """Put the network on `device`. Does nothing for an encoder without a network."""

    def encode_pieces(self, pieces: np.ndarray) -> np.ndarray:
        """Feature steps float32 [B, S, width] of pieces float32 [B, 320 S], each encoded by itself.

        S is at least 2.
        """
        raise NotImplementedError

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.encode_clip`. Audio of up to 9 s is encoded in one piece."""
        return np.concatenate(list(self.encode_blocks(samples)))

    def encode_blocks(self, samples: np.ndarray, steps: int | None = None) -> Iterator[np.ndarray]:
        """See `Encoder.encode_blocks`. A block is 8 s; the last one is up to 9 s."""
        return encode_in_pieces(samples, lambda piece: self.encode_pieces(piece[None])[0], steps)


def encode_in_pieces(
    samples: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], steps: int | None = None
) -> Iterator[np.ndarray]:
    """Feature steps [s, C] of one piece of audio after the other; `steps` in all.

    samples: float [T]; encode: float32 [320 S] in [-1, 1] -> [S, C]; steps: default ceil(T / 320).
    """
    steps = -(-samples.size // SAMPLES_PER_STEP) if steps is None else steps
    assert samples.ndim == 1 and steps >= 2, (samples.shape, steps)

    start = 0
    while start < steps:
        stop = start + PIECE_STEPS
        if steps - stop < CONTEXT_STEPS:
            # The rest would be shorter than its context: it joins this piece.
            stop = steps
        first, last = max(0, start - CONTEXT_STEPS), min(steps, stop + CONTEXT_STEPS)
        yield encode(piece_samples(samples, first, last))[start - first : stop - first]
        start = stop


def piece_samples(samples: np.ndarray, first: int, last: int) -> np.ndarray:
    """Audio of the steps `first` to `last`, float32 [320 (last - first)] in [-1, 1].

    Zeros follow past the end of `samples`.
    """
    piece = samples[first * SAMPLES_PER_STEP : last * SAMPLES_PER_STEP]
    piece = piece.astype(np.float32, copy=False).clip(-1, 1)
    return np.pad(piece, (0, (last - first) * SAMPLES_PER_STEP - piece.size))


def output_width(encoder: Encoder, wanted: int | None) -> int:
    """Channels of a step to use: the hidden states alone where `wanted` is their width, else all.

    Datasets and avatars from before the articulation channels hold the hidden states alone.
    """
    if wanted is not None and wanted == encoder.hidden_width:
        return wanted
    return encoder.width
