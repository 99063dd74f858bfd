"""Networks that make a frame's tokens: audio, expression and camera (GaussianTalker, section 3.2).

The fourth token, the null token, is a learned vector. B frames, C speech feature channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.conventions import ATTENTION_WINDOW
from being.model.cpu_gradients import Conv1d

AUDIO_WIDTH = 32  # features of one feature window after the audio net
LEAKY_SLOPE = 0.02  # of the activations of the audio networks
BLINK_CODE_WIDTH = 32  # numbers that encode one blink value
CAMERA_WIDTH = 12  # numbers of a camera, see `being.data.cameras`


class AudioNet(nn.Module):
    """Convolutional network from a speech feature window to one vector (that of AD-NeRF)."""

    def __init__(self, width_in: int):
        super().__init__()
        channels = [width_in, 32, 32, 64, 64]
        layers: list[nn.Module] = []
        for a, b in zip(channels, channels[1:], strict=False):
            layers += [Conv1d(a, b, 3, stride=2, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        self.encoder_conv = nn.Sequential(*layers)
        self.encoder_fc1 = nn.Sequential(
            nn.Linear(64, 64), nn.LeakyReLU(LEAKY_SLOPE), nn.Linear(64, AUDIO_WIDTH)
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Map feature windows [B, C, 16] to vectors [B, 32]."""
        return self.encoder_fc1(self.encoder_conv(windows)[..., 0])


class AudioAttention(nn.Module):
    """Weighted mean of the eight vectors around a frame; the vectors also give the weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((32, 16), (16, 8), (8, 4), (4, 2), (2, 1)):
            layers += [Conv1d(a, b, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE)]
        self.attentionConvNet = nn.Sequential(*layers)
        self.attentionNet = nn.Sequential(
            nn.Linear(ATTENTION_WINDOW, ATTENTION_WINDOW), nn.Softmax(dim=1)
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Map the vectors of attention windows [B, 8, 32] to vectors [B, 32]."""
        weights = self.attentionNet(self.attentionConvNet(vectors.transpose(1, 2))[:, 0])
        return (weights[..., None] * vectors).sum(1)


class TokenMlp(nn.Module):
    """Two linear layers without bias and a ReLU between them: from a condition to its token."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.net = nn.ModuleList(
            [nn.Linear(width_in, width, bias=False), nn.Linear(width, width, bias=False)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in] to [B, width]."""
        return self.net[1](F.relu(self.net[0](x)))


def blink_frequencies(device: torch.device | str = "cpu") -> Tensor:
    """Return the 16 frequencies of the blink code, 10000^(2k/32) with k = 0..15."""
    return 10_000.0 ** (2 * torch.arange(BLINK_CODE_WIDTH // 2, device=device) / BLINK_CODE_WIDTH)


def encode_blink(blink: Tensor) -> Tensor:
    """Encode a blink [B, 1] in [0, 1] as [B, 32].

    The code is sin and cos of the value times each of `blink_frequencies`.
    """
    angle = blink * blink_frequencies(blink.device).to(blink)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
