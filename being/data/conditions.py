"""The model's inputs for a batch of frames: audio features, expression and camera."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Conditions:
    """Inputs of B frames."""

    audio: Tensor  # [B, 8, C, 16] float32, attention windows of speech features
    # [B, E] float32: the blink in [0, 1], then the other channels (`data.expression_channels`)
    expression: Tensor
    camera: Tensor  # [B, 12] float32, `data.cameras.camera_vector`
