"""What a clip's sound is made into while the network learns from it: never the same twice, so no
frame is known by its sound.

A clip is a thousand frames, and a schedule shows each of them hundreds of times: sound nets that
hear every frame as it is come to know it by heart, and follow sound they never heard the worse for
it (figures in docs/encoders.md). Noise on the features, channels that are missing everywhere and
windows that are missing altogether (dropout, Srivastava et al. 2014, of whole parts of the input)
leave only what many frames share.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = 0.2  # deviation of what is added; a feature's own is 0.4 to 4, 1.25 over all
CHANNELS_LOST = 0.1  # chance of a channel to be zero in all windows of a frame
WINDOWS_LOST = 0.5  # chance of a frame to have one of its windows zero


def disturb(audio: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sound windows [B, 8, C, 16] as a network that learns hears them, drawn with `generator`, or
    that of the device where there is none."""
    frames, windows, channels, _ = audio.shape
    where = audio.device if generator is None else generator.device

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=where).to(audio)

    noise = torch.randn(audio.shape, generator=generator, device=where).to(audio)
    kept = (chance(frames, 1, channels, 1) >= CHANNELS_LOST).to(audio)
    # the place of the window that is lost, past the last one where none is
    place = (chance(frames, 1) * (windows / WINDOWS_LOST)).floor()
    there = (place != torch.arange(windows, device=audio.device)).to(audio)
    return (audio + NOISE * noise) * kept * there[:, :, None, None]
