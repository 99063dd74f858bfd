"""A speech encoder for tests: the loudness of each step, so pieces of any size give the same."""

from __future__ import annotations

import numpy as np

from being.audio.encoder_interface import PieceEncoder
from being.conventions import SAMPLES_PER_STEP


class LoudnessEncoder(PieceEncoder):
    """Two channels: 8 times the mean magnitude of a step's samples, and 1."""

    name, width = "loudness", 2

    def encode_pieces(self, pieces: np.ndarray) -> np.ndarray:
        steps = np.abs(pieces).reshape(len(pieces), -1, SAMPLES_PER_STEP).mean(2)
        return np.stack([8 * steps, np.ones_like(steps)], 2).astype(np.float32)
