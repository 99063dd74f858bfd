"""GaussianTalker's network: computes each Gaussian's offsets from audio, expression and camera.

Cho et al., "GaussianTalker: Real-Time Talking Head Synthesis with 3D Gaussian Splatting" (2024).
The names of the parameters are those of GaussianTalker's own code, so its `deformation.pth` loads
as it is. Modules that it builds and never uses are left out.

Its eye token is the expression token here: the blink is encoded as in its code, and further
channels are added by a linear layer. So a network with one expression channel is the original one.

N Gaussians, B frames, C speech feature channels, E expression channels, K spherical-harmonics
coefficients, D = d_model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.config import ModelConfig
from being.conventions import (
    ATTENTION_OFFSETS,
    ATTENTION_WINDOW,
    CODE_OFFSETS,
    FEATURE_WINDOW,
)
from being.data.conditions import Conditions
from being.model.attention import Transformer
from being.model.kernels import fused
from being.model.tokens import (
    AUDIO_WIDTH,
    BLINK_CODE_WIDTH,
    CAMERA_WIDTH,
    AudioAttention,
    AudioNet,
    TokenMlp,
    blink_frequencies,
    encode_blink,
)
from being.model.triplane import TriPlane, decoding_head

# The first layer of the blink MLP is initialised with this gain, divided by the frequency of each
# number of the blink code. With equal gains the high frequencies hide the slow change from open to
# closed, and 700 steps do not find it (measured: gain 1 no blink, 8 half closed, 24 closed).
BLINK_INIT_GAIN = 24.0
# Standard deviation of the initial weights of further expression channels. A channel at 1 then has
# a norm of 8 in 64 dimensions, as speech has; the blink has 20. Weights that start at zero grew
# only to 0.1 to 0.6 in a short training, and raised brows moved nothing.
CHANNEL_INIT_STD = 1.0

# The decoding heads, in the order of the fields of `Offsets`; the names are GaussianTalker's.
DECODING_HEADS = (
    "pos_deform",
    "scales_deform",
    "rotations_deform",
    "opacity_deform",
    "shs_deform",
)


@dataclass
class Offsets:
    """Offsets that a frame adds to the raw (pre-activation) parameters of the Gaussians."""

    means: Tensor  # [B, N, 3] head units
    log_scales: Tensor  # [B, N, 3]
    quaternions: Tensor  # [B, N, 4]
    opacity_logits: Tensor  # [B, N, 1]
    sh: Tensor  # [B, N, K, 3]
    attention: Tensor | None = None  # [B, layers, N, 4] over audio, expression, camera, null
    # [B, N, P] float32: all of the above side by side, if the fused kernels computed them.
    packed: Tensor | None = None

    def float(self) -> Offsets:
        """Return the offsets in float32, since they are added to float32 parameters."""
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
    """GaussianTalker's network: tri-plane, tokens, cross-attention and decoding heads."""

    def __init__(self, config: ModelConfig, audio_width: int, expression_width: int = 1):
        super().__init__()
        width, deep = config.d_model, config.net_width
        self.config = config
        self.audio_width = audio_width
        self.expression_width = expression_width

        # The queries and the network that attends to the tokens.
        self.tri_plane = TriPlane(config)
        assert self.tri_plane.grid.width == width, (self.tri_plane.grid.width, width)
        self.transformer = Transformer(config)

        # The tokens.
        self.audio_net = AudioNet(audio_width)
        self.audio_att_net = AudioAttention()
        self.audio_mlp = TokenMlp(AUDIO_WIDTH, width)
        self.eye_mlp = TokenMlp(BLINK_CODE_WIDTH, width)
        self.cam_mlp = TokenMlp(CAMERA_WIDTH, width)
        self.null_vector = nn.Parameter(torch.randn(1, 1, width))

        # The offsets.
        self.pos_deform = decoding_head(width, deep, 3)
        self.scales_deform = decoding_head(width, deep, 3)
        self.rotations_deform = decoding_head(width, deep, 4)
        self.opacity_deform = decoding_head(width, deep, 1)
        self.shs_deform = decoding_head(width, deep, 3 * (config.sh_degree + 1) ** 2)
        self._initialise()

        # Expression channels after the blink; initialised on its own.
        self.expression_lift: nn.Linear | None = None
        if expression_width > 1:
            self.expression_lift = nn.Linear(expression_width - 1, width, bias=False)
            nn.init.normal_(self.expression_lift.weight, std=CHANNEL_INIT_STD)

    @property
    def audio_offsets(self) -> tuple[int, ...]:
        """The rows of features that a frame reads, relative to its own."""
        return CODE_OFFSETS if self.config.mouth == "code" else ATTENTION_OFFSETS

    def decoding_heads(self) -> list[nn.Sequential]:
        """Return the modules of DECODING_HEADS, in its order."""
        return [getattr(self, name) for name in DECODING_HEADS]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for deform in self.decoding_heads():
            nn.init.xavier_uniform_(deform[3].weight, gain=0.1)  # type: ignore[arg-type]
        with torch.no_grad():
            self.eye_mlp.net[0].get_parameter("weight").mul_(
                BLINK_INIT_GAIN / blink_frequencies().repeat_interleave(2)
            )

    def speech_vector(self, audio: Tensor) -> Tensor:
        """Return the speech vectors [B, 32] of attention windows [B, 8, C, 16]."""
        assert audio.shape[1:] == (ATTENTION_WINDOW, self.audio_width, FEATURE_WINDOW), audio.shape
        vectors = self.audio_net(audio.flatten(0, 1)).unflatten(0, (-1, ATTENTION_WINDOW))
        return self.audio_att_net(vectors)

    def tokens(self, conditions: Conditions) -> Tensor:
        """Return the tokens [B, 4, D]: audio, expression, camera, null."""
        audio = self.audio_mlp(self.speech_vector(conditions.audio))
        expression = self.expression_token(conditions.expression)
        camera = self.cam_mlp(conditions.camera)
        null = self.null_vector[0].expand_as(expression)
        return torch.stack([audio, expression, camera, null], 1)

    def expression_token(self, expression: Tensor) -> Tensor:
        """Return the expression token [B, D] of channels [B, E].

        A network of one channel reads the blink, and ignores further channels.
        """
        token = self.eye_mlp(encode_blink(expression[:, :1]))
        if self.expression_lift is None:
            return token
        assert expression.shape[1] == self.expression_width, (
            expression.shape,
            self.expression_width,
        )
        return token + self.expression_lift(expression[:, 1:])

    def queries(self, means: Tensor) -> Tensor:
        """Return the queries [1, N, D] of means [N, 3]: tri-plane features, equal in all frames."""
        return self.tri_plane.grid(means)[None]

    def deform(self, queries: Tensor, tokens: Tensor) -> Offsets:
        """Return the offsets of each frame from queries [1, N, D] and tokens [B, 4, D].

        The fused kernels do not return the attention.
        """
        packed = attention = None
        if fused.usable(self, queries):
            packed, parts = fused.deform(self, queries, tokens)
        else:
            feature, attention = self.transformer(queries, tokens)
            parts = self._decode(feature)
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

    def _decode(self, feature: Tensor) -> list[Tensor]:
        """Return the outputs of the five decoding heads for features [B, N, D].

        The first layers of the heads have the same input, so they are computed as one product.
        """
        heads = self.decoding_heads()
        weight = torch.cat([head.get_parameter("1.weight") for head in heads])
        bias = torch.cat([head.get_parameter("1.bias") for head in heads])
        hidden = F.relu(F.linear(F.relu(feature), weight, bias)).chunk(len(heads), -1)
        return [head[3](part) for head, part in zip(heads, hidden, strict=True)]

    def forward(self, means: Tensor, conditions: Conditions) -> Offsets:
        """Return the offsets of a batch of conditions for canonical means [N, 3]."""
        return self.deform(self.queries(means), self.tokens(conditions))
