"""What drives a batch of frames: the model's input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Conditions:
    """Inputs of B frames."""

    audio: Tensor  # [B, 8, C, 16] float32, attention windows of speech features
    blink: Tensor  # [B, 1] float32 in [0, 1]
    camera: Tensor  # [B, 12] float32, `data.cameras.camera_numbers`
