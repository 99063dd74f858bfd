"""A mapping from a voice to the mouth code with random numbers, for tests."""

from __future__ import annotations

import numpy as np

from being.audio.feature_windows import STRIP
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.model.voice_to_mouth import VoiceToMouth

K, P, D, N, Q = len(MOUTH_CHANNELS), 3, 4, 6, 9


def random_voice(width: int = 5, seed: int = 0) -> VoiceToMouth:
    """A mapping from speech features with `width` channels."""
    rng = np.random.default_rng(seed)
    shapes = {
        "step_mean": (width,),
        "step_basis": (width, P),
        "window": (STRIP,),
        "strip_mean": (STRIP * P,),
        "strip_basis": (STRIP * P, D),
        "centres": (N, D),
        "weights": (N, K),
        "code_mean": (K,),
        "predicted_quantiles": (K, Q),
        "true_quantiles": (K, Q),
        "closed": (K,),
    }
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    zero, one = np.zeros(K, np.float32), np.ones(K, np.float32)
    facts = {"units": MouthUnits(MOUTH_CHANNELS, zero, one, -one, one).to_dict()}
    return VoiceToMouth.from_parts(tensors, {**facts, "gamma": 0.5, "closure_step": -1})
