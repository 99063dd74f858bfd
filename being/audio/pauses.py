"""Pauses in speech, read from speech features: how quiet each step is, and how long it has been so.

The weights are a logistic regression on synthetic speech in many voices and rooms, no recording of
a person (`scripts/distil/pauses.py`). They exist for the features of READOUT_ENCODERS, which say
"quiet" by the same hidden states for every voice.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from being.audio.articulation import has_articulation
from being.audio.encoder_names import CAUSAL, EncoderName
from being.reading.tensors import load_tensors

READOUT_ENCODERS = ("hama", CAUSAL)
WEIGHTS = Path(__file__).with_name("pauses.safetensors")


def pause_readout(encoder: str, width: int) -> np.ndarray | None:
    """Weights and bias float32 [C + 1] for features of `encoder` with C = `width` channels.

    None for an encoder whose features are not known to say it.
    """
    if not has_articulation(encoder, width):
        return None
    return _readouts()[EncoderName.of(encoder).base]


@cache
def _readouts() -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load_tensors(WEIGHTS).items()}


def quietness(strips: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """How surely each step is quiet, float32 [B, S] in 0..1, of strips float32 [B, S, C].

    A step beyond the ends of the audio, which is zero in all channels, is quiet.
    """
    score = strips @ readout[:-1] + readout[-1]
    quiet = 1 / (1 + np.exp(-np.clip(score, -30, 30)))
    return np.where(np.any(strips, -1), quiet, 1).astype(np.float32)


def quiet_steps(quiet: np.ndarray, now: int) -> tuple[np.ndarray, np.ndarray]:
    """Quiet steps in a row just before and from the step `now` on, float32 [B] each.

    quiet: float32 [B, S] in 0..1. A step that is half quiet counts half, and so on, so that the
    result changes smoothly.
    """
    before = np.cumprod(quiet[:, :now][:, ::-1], 1).sum(1)
    after = np.cumprod(quiet[:, now:], 1).sum(1)
    return before, after
