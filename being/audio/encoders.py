"""Speech encoders behind one interface: a clip's waveform -> feature steps, 50 a second."""

from __future__ import annotations

import difflib
import functools
from typing import Protocol

import numpy as np
import torch

from being import assets
from being.audio import conformer
from being.conventions import FEATURE_RATE, SAMPLE_RATE
from being.errors import UsageError

SAMPLES_PER_STEP = SAMPLE_RATE // FEATURE_RATE


class Encoder(Protocol):
    """What every encoder offers."""

    name: str  # as in `--encoder` and in the file name aud_<name>.npy
    width: int  # channels of a step
    rate: int  # steps/s, FEATURE_RATE

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """float32 [ceil(T / 320), width]: step k describes the sound around (k + 1/2) / 50 s.

        samples: float32 [T] in [-1, 1] at 16 kHz, at least two steps long.
        """


class HamaEncoder:
    """Hidden states after the second block of the phoneme conformer: the best lip features measured.

    Long sound goes through in pieces, each seen with context on both sides, so that memory does not grow with length.
    Attention spans a whole piece, so pieces differ a little from one pass over everything (9 % of a state's length over
    60 s of speech, correlation 0.994); the edge of a piece is felt for 0.5 s, half of the context.
    """

    name = "hama"
    rate = FEATURE_RATE
    blocks = 2
    piece = 8 * FEATURE_RATE  # steps
    context = 1 * FEATURE_RATE  # steps on both sides of a piece

    def __init__(self) -> None:
        self.model = conformer.load(assets.fetch("hama"))
        self.width = self.model.width

    def encode_clip(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.encode_clip`. A sound of up to 9 s goes through in one piece."""
        assert samples.ndim == 1 and samples.size >= 2 * SAMPLES_PER_STEP, samples.shape
        steps = -(-samples.size // SAMPLES_PER_STEP)
        sound = np.pad(samples.astype(np.float32, copy=False), (0, steps * SAMPLES_PER_STEP - samples.size))
        features = np.empty((steps, self.width), np.float32)
        start = 0
        while start < steps:
            stop = start + self.piece
            if steps - stop < self.context:  # no tiny last piece
                stop = steps
            first, last = max(0, start - self.context), min(steps, stop + self.context)
            seen = self._encode(sound[first * SAMPLES_PER_STEP : last * SAMPLES_PER_STEP])
            features[start:stop] = seen[start - first : stop - first]
            start = stop
        return features

    @torch.inference_mode()
    def _encode(self, sound: np.ndarray) -> np.ndarray:
        """float32 [S, 144] of float32 [320 S].

        The network's own steps are centred on k / 50 s. Without the first mel frame they sit half a step later, on
        (k + 1/2) / 50 s, so that a window of 2 i - 8 to 2 i + 7 is centred exactly on frame i.
        """
        mel = self.model.log_mel(torch.from_numpy(sound)[None])
        return self.model.hidden(mel[:, :, 1:], self.blocks)[0].numpy()


ENCODERS = {"hama": HamaEncoder}


@functools.lru_cache(maxsize=2)
def encoder(name: str) -> Encoder:
    """The encoder called `name`, loaded once.

    Raises UsageError for an unknown name, EnvironmentFault where the weights cannot be had.
    """
    if name not in ENCODERS:
        near = difflib.get_close_matches(name, ENCODERS, 1)
        raise UsageError(f"no speech encoder is called {name!r}", "known are: " + ", ".join(ENCODERS),
                         f"Did you mean {near[0]!r}?" if near else "")
    return ENCODERS[name]()
