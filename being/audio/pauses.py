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
from being.conventions import STEPS_PER_FRAME
from being.reading.tensors import load_tensor_arrays

READOUT_ENCODERS = ("hama", CAUSAL)
MOST_QUIET = 1000.0  # steps: a longer silence counts as this long
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
    return load_tensor_arrays(WEIGHTS)


def quietness(strips: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """How surely each step is quiet, float32 [B, S] in 0..1, of strips float32 [B, S, C].

    A step beyond the ends of the audio, which is zero in all channels, is quiet.
    """
    score = strips @ readout[:-1] + readout[-1]
    quiet = 1 / (1 + np.exp(-np.clip(score, -30, 30)))
    return np.where(np.any(strips, -1), quiet, 1).astype(np.float32)


def quiet_around(quiet: np.ndarray, now: int) -> np.ndarray:
    """What a frame's strip says of pauses, float32 [B, STEPS_PER_FRAME + 1].

    quiet: float32 [B, S] in 0..1, how quiet each step of a strip is; now: the step at the frame's
    time. First come the frame's own steps before that, then the quiet steps in a row from it on. A
    step that is half quiet counts half, and so on, so that the result changes smoothly.
    """
    ahead = np.cumprod(quiet[:, now:], 1).sum(1, keepdims=True)
    return np.concatenate([quiet[:, now - STEPS_PER_FRAME : now], ahead], 1)


def quiet_so_far(own: np.ndarray, before: float) -> np.ndarray:
    """Quiet steps in a row before each of successive frames, float32 [n].

    own: float32 [n, STEPS_PER_FRAME] in 0..1, how quiet the steps of each frame are; before: the
    result of the frame before.
    """
    found = np.zeros(len(own), np.float32)
    for k, steps in enumerate(own):
        for step in steps:
            before = min((before + 1) * float(step), MOST_QUIET)
        found[k] = before
    return found
