"""Augmentation of the audio features: adds noise, and drops channels and windows.

A clip has about a thousand frames, and training shows each of them hundreds of times. An audio
branch that always gets the same features overfits: it recognises frames, and follows new audio
worse (figures in docs/encoders.md). Noise, missing channels and missing windows (dropout,
Srivastava et al. 2014, of whole parts of the input) leave only what many frames share.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Standard deviation of the added noise; that of a feature is 0.4 to 4, and 1.25 over all
NOISE_DEVIATION = 0.2
CHANNEL_DROP_CHANCE = 0.1  # that a channel is zero in all windows of a frame
WINDOW_DROP_CHANCE = 0.5  # that one of the windows of a frame is zero


def augment_features(audio: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Attention windows [B, 8, C, 16] with noise, missing channels and missing windows.

    generator: source of the random numbers (default: torch's generator of the device).
    """
    frames, windows, channels, _ = audio.shape
    device = audio.device if generator is None else generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device).to(audio)

    noise = torch.randn(audio.shape, generator=generator, device=device).to(audio)
    kept_channels = (uniform(frames, 1, channels, 1) >= CHANNEL_DROP_CHANCE).to(audio)

    # Number of the window to drop; past the last one when none is dropped
    dropped = (uniform(frames, 1) * (windows / WINDOW_DROP_CHANCE)).floor()
    kept_windows = (dropped != torch.arange(windows, device=audio.device)).to(audio)
    return (audio + NOISE_DEVIATION * noise) * kept_channels * kept_windows[:, :, None, None]
