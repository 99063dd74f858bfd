"""GaussianTalker: sound, expression and camera of a frame -> offsets of every Gaussian of a
canonical head.

Cho et al., "GaussianTalker: Real-Time Talking Head Synthesis with 3D Gaussian Splatting" (2024).
Parameter names are the reference's, so that its `deformation.pth` loads as it is; what the
reference builds and never uses is left out. Its eye token is the expression token here: the blink
goes its old way, further channels are added by a linear map of their own, so a network of one
channel is the reference's. N Gaussians, B frames, C speech feature channels, E expression channels,
K spherical-harmonics coefficients, D = d_model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.config import ModelConfig
from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.data.conditions import Conditions
from being.model.attention import Transformer
from being.model.kernels import fused
from being.model.tokens import (
    AUDIO_WIDTH,
    CAMERA_WIDTH,
    EYE_WIDTH,
    AudioAttention,
    AudioNet,
    Lift,
    eye_frequencies,
    spread_blink,
)
from being.model.triplane import TriPlane, head

# What the first layer makes of the eye code's frequencies to start with: as loud as noise, the high
# ones drown the slow swing from open to closed, and 700 steps do not find it (measured: gain 1 no
# blink, 8 half closed, 24 closed).
EYE_GAIN = 24.0
# Deviation of the weights by which further channels enter to start with: a channel at 1 is then as
# loud (8 in 64 dimensions) as speech is, the blink is 20. From zero they had grown to 0.1 to 0.6 by
# the end of a short training, and raised brows moved nothing.
CHANNEL_GAIN = 1.0


@dataclass
class Offsets:
    """What a frame adds to the raw (pre-activation) parameters of the canonical Gaussians."""

    means: Tensor  # [B, N, 3] head units
    log_scales: Tensor  # [B, N, 3]
    quaternions: Tensor  # [B, N, 4]
    opacity_logits: Tensor  # [B, N, 1]
    sh: Tensor  # [B, N, K, 3]
    attention: Tensor | None = None  # [B, layers, N, 4] over audio, expression, camera, null
    packed: Tensor | None = (
        None  # [B, N, P] float32: all of the above side by side, where fused kernels made them
    )

    def float(self) -> Offsets:
        """The same in float32 (what a network in bfloat16 gives is added to float32 parameters)."""
        attention = None if self.attention is None else self.attention.float()
        return Offsets(
            self.means.float(),
            self.log_scales.float(),
            self.quaternions.float(),
            self.opacity_logits.float(),
            self.sh.float(),
            attention,
            self.packed,
        )


class GaussianTalker(nn.Module):
    """The deformation network of record."""

    def __init__(self, config: ModelConfig, audio_width: int, expression_width: int = 1):
        super().__init__()
        width, deep = config.d_model, config.net_width
        self.config, self.audio_width, self.expression_width = config, audio_width, expression_width
        self.tri_plane = TriPlane(config)
        assert self.tri_plane.grid.width == width, (self.tri_plane.grid.width, width)
        self.transformer = Transformer(config)
        self.audio_net, self.audio_att_net = AudioNet(audio_width), AudioAttention()
        self.audio_mlp, self.eye_mlp = Lift(AUDIO_WIDTH, width), Lift(EYE_WIDTH, width)
        self.cam_mlp = Lift(CAMERA_WIDTH, width)
        self.null_vector = nn.Parameter(torch.randn(1, 1, width))
        self.pos_deform, self.scales_deform = head(width, deep, 3), head(width, deep, 3)
        self.rotations_deform, self.opacity_deform = head(width, deep, 4), head(width, deep, 1)
        self.shs_deform = head(width, deep, 3 * (config.sh_degree + 1) ** 2)
        self._initialise()
        self.expression_lift = (
            nn.Linear(expression_width - 1, width, bias=False) if expression_width > 1 else None
        )
        if self.expression_lift is not None:
            nn.init.normal_(self.expression_lift.weight, std=CHANNEL_GAIN)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for deform in (
            self.pos_deform,
            self.scales_deform,
            self.rotations_deform,
            self.opacity_deform,
            self.shs_deform,
        ):
            nn.init.xavier_uniform_(deform[3].weight, gain=0.1)  # type: ignore[arg-type]
        with torch.no_grad():
            self.eye_mlp.net[0].get_parameter("weight").mul_(
                EYE_GAIN / eye_frequencies().repeat_interleave(2)
            )

    def speech_vector(self, audio: Tensor) -> Tensor:
        """[B, 8, C, 16] -> [B, 32]: what a frame's sound says."""
        assert audio.shape[1:] == (ATTENTION_WINDOW, self.audio_width, FEATURE_WINDOW), audio.shape
        vectors = self.audio_net(audio.flatten(0, 1)).unflatten(0, (-1, ATTENTION_WINDOW))
        return self.audio_att_net(vectors)

    def tokens(self, conditions: Conditions) -> Tensor:
        """[B, 4, D]: audio, expression, camera, null."""
        speech = self.audio_mlp(self.speech_vector(conditions.audio))
        face, camera = self.face(conditions.expression), self.cam_mlp(conditions.camera)
        return torch.stack([speech, face, camera, self.null_vector[0].expand_as(face)], 1)

    def face(self, expression: Tensor) -> Tensor:
        """The expression token [B, D] of channels [B, E]; a network that knows the blink alone
        takes no other.
        """
        token = self.eye_mlp(spread_blink(expression[:, :1]))
        if self.expression_lift is None:
            return token
        assert expression.shape[1] == self.expression_width, (
            expression.shape,
            self.expression_width,
        )
        return token + self.expression_lift(expression[:, 1:])

    def queries(self, means: Tensor) -> Tensor:
        """[N, 3] -> [1, N, D]: the tri-plane features, the same for every frame."""
        return self.tri_plane.grid(means)[None]

    def deform(self, queries: Tensor, tokens: Tensor) -> Offsets:
        """Queries [1, N, D] and tokens [B, 4, D] -> offsets of each frame (by fused kernels:
        without attention).
        """
        packed = attention = None
        if fused.usable(self, queries):
            packed, parts = fused.deform(self, queries, tokens)
        else:
            feature, attention = self.transformer(queries, tokens)
            parts = self._heads(feature)
        means, log_scales, quaternions, opacity_logits, sh = parts
        return Offsets(
            means,
            log_scales,
            quaternions,
            opacity_logits,
            sh.unflatten(-1, (-1, 3)),
            attention,
            packed,
        )

    def _heads(self, feature: Tensor) -> list[Tensor]:
        """The five decoding heads of features [B, N, D]; their first layers share an input and are
        one product.
        """
        heads = (
            self.pos_deform,
            self.scales_deform,
            self.rotations_deform,
            self.opacity_deform,
            self.shs_deform,
        )
        weight = torch.cat([head.get_parameter("1.weight") for head in heads])
        bias = torch.cat([head.get_parameter("1.bias") for head in heads])
        hidden = F.relu(F.linear(F.relu(feature), weight, bias)).chunk(len(heads), -1)
        return [head[3](part) for head, part in zip(heads, hidden, strict=True)]

    def forward(self, means: Tensor, conditions: Conditions) -> Offsets:
        """Canonical means [N, 3] and a batch of conditions -> offsets."""
        return self.deform(self.queries(means), self.tokens(conditions))
