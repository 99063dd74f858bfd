"""The tokens a frame is described by: sound, expression, camera and a learned null (GaussianTalker,
section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.conventions import ATTENTION_WINDOW

AUDIO_WIDTH = 32  # features of one window after the sound net
LEAKY_SLOPE = 0.02  # of the sound nets' activations
EYE_WIDTH = 32  # numbers one blink value is spread over
CAMERA_WIDTH = 12


class AudioNet(nn.Module):
    """Speech feature windows to one vector each (the conv net of AD-NeRF, as the family keeps it)."""

    def __init__(self, width_in: int):
        super().__init__()
        channels = [width_in, 32, 32, 64, 64]
        layers: list[nn.Module] = []
        for a, b in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv1d(a, b, 3, stride=2, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        self.encoder_conv = nn.Sequential(*layers)
        self.encoder_fc1 = nn.Sequential(
            nn.Linear(64, 64), nn.LeakyReLU(LEAKY_SLOPE), nn.Linear(64, AUDIO_WIDTH)
        )

    def forward(self, windows: Tensor) -> Tensor:
        """[B, C, 16] -> [B, 32]."""
        return self.encoder_fc1(self.encoder_conv(windows)[..., 0])


class AudioAttention(nn.Module):
    """Weighted mean of the eight window vectors round a frame, weights from the vectors themselves."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((32, 16), (16, 8), (8, 4), (4, 2), (2, 1)):
            layers += [nn.Conv1d(a, b, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        self.attentionConvNet = nn.Sequential(*layers)
        self.attentionNet = nn.Sequential(
            nn.Linear(ATTENTION_WINDOW, ATTENTION_WINDOW), nn.Softmax(dim=1)
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, 8, 32] -> [B, 32]."""
        weights = self.attentionNet(self.attentionConvNet(vectors.transpose(1, 2))[:, 0])
        return (weights[..., None] * vectors).sum(1)


class Lift(nn.Module):
    """Two linear layers without bias, ReLU between."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.net = nn.ModuleList(
            [nn.Linear(width_in, width, bias=False), nn.Linear(width, width, bias=False)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in] -> [B, width]."""
        return self.net[1](F.relu(self.net[0](x)))


def eye_frequencies(device: torch.device | str = "cpu") -> Tensor:
    """The 16 frequencies of the eye code, 10000^(2k/32), k = 0..15."""
    return 10_000.0 ** (2 * torch.arange(EYE_WIDTH // 2, device=device) / EYE_WIDTH)


def spread_blink(blink: Tensor) -> Tensor:
    """Blink [B, 1] in [0, 1] as 32 numbers: sin and cos of the value times each of
    `eye_frequencies`.
    """
    angle = blink * eye_frequencies(blink.device).to(blink)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
