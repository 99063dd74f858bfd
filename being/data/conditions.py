"""What drives a batch of frames: the model's input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Conditions:
    """Inputs of B frames."""

    audio: Tensor  # [B, 8, C, 16] float32, attention windows of speech features
    expression: (
        Tensor  # [B, E] float32, `data.expression`: the blink in [0, 1], then what else there is
    )
    camera: Tensor  # [B, 12] float32, `data.cameras.camera_numbers`
