"""What a page needs to make mouth codes of sound by itself, as the tensors of a web bundle.

`speech.*` is the causal speech encoder as the package stores it (int8, a step for each output), and
`voice.*` the avatar's mapping from its features to the mouth code, with its large matrices in
int16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from being.audio.causal_conformer import SCALE, WEIGHTS
from being.audio.encoder_names import CAUSAL
from being.audio.feature_stream import FeatureStream
from being.conventions import SAMPLE_RATE
from being.data.mouth import CODE_GAIN
from being.interop.web.quantisation import symmetric
from being.model.avatar import Avatar
from being.model.voice_to_mouth import MouthRowStream, VoiceToMouth
from being.reading.tensors import load_tensor_arrays

STEP = ".step"
# Matrices of the mapping that are stored in int16, a step for each row.
LARGE = ("strip_basis", "centres")
SILENCE_S = 3.0  # after which the mouth rests


def causal_voice(avatar: Avatar) -> VoiceToMouth | None:
    """The avatar's mapping from the features of the causal encoder; None where it has none."""
    if avatar.live_encoder != CAUSAL:
        return None
    return avatar.voice if avatar.live_voice is None else avatar.live_voice


def speech_tensors(voice: VoiceToMouth) -> dict[str, np.ndarray]:
    """The tensors of the encoder and the mapping."""
    tensors: dict[str, np.ndarray] = {}
    for name, value in load_tensor_arrays(WEIGHTS).items():
        stored = name.removesuffix(SCALE) + STEP if name.endswith(SCALE) else name
        tensors[f"speech.{stored}"] = value
    for name, value in voice.tensors().items():
        if name in LARGE:
            numbers, step = symmetric(value, 16)
            tensors |= {f"voice.{name}": numbers, f"voice.{name}{STEP}": step}
        else:
            tensors[f"voice.{name}"] = value
    return tensors


def speech_facts(voice: VoiceToMouth) -> dict[str, Any]:
    """What is no tensor, for the manifest."""
    return {
        "encoder": CAUSAL,
        "gamma": voice.gamma,
        "closure_step": voice.closure_step,
        "pause_wait": voice.pause_wait,
        "least": voice.units.least.tolist(),
        "most": voice.units.most.tolist(),
    }


def resting_code(avatar: Avatar, channels: int) -> np.ndarray:
    """The mouth code float32 [channels] that the avatar shows while it is silent."""
    voice = causal_voice(avatar)
    if voice is not None:
        stream, rows = FeatureStream(CAUSAL, None, voice.width), MouthRowStream(voice)
        silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.float32)
        return rows.push(stream.push(silence))[-1, 0] / np.float32(CODE_GAIN)
    if avatar.voice is not None:
        return avatar.voice.closed
    return np.zeros(channels, np.float32)
