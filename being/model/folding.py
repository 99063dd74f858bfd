"""Folding of a trained network: its constant parts are computed once at load.

They are computed in float64.

Attention. With a token t of the frame, the keys k = W_k t + b_k and values v = W_v t + b_v of one
head give the logit of a query x as (W_q x + b_q) . k / sqrt(d) = x . A + c, and the token's share
of the output as U = W_concat v. So each token of a layer becomes (A, c, U), an affine function of
t. `fold_tokens` computes them for given tokens (training), `attention_maps` the affine map itself
(rendering).

Everything else (`fold`). The audio net's convolutions over the 16 steps of a feature window, and
the audio attention's over 8 windows, become dense layers (time in the middle of a row: row = step x
channels). The second layer of a token's MLP folds into the maps of all layers. The tokens of the
camera (known for every pose of the bundle) and the null token are mapped at load.

A frame's record holds (A, c, U) of all its tokens and all layers, in one row of floats. B frames, N
Gaussians, P poses, D width of tokens, H heads, d = D / H, S tokens, C speech feature channels, R
columns of a record that one token fills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.model.attention import CrossAttention
from being.model.tokens import AUDIO_WIDTH, LEAKY_SLOPE, blink_frequencies

if TYPE_CHECKING:
    from being.model.gaussiantalker import GaussianTalker

MIN_SIDE = 16  # the smallest side of a product on the matrix units
TOKENS = 4  # audio, expression, camera, null
EXPRESSION_CHANNELS = 64  # expression channels after the blink, padded
MASKED_LOGIT = -1e30  # of the padded windows: their share is 0

Layer = tuple[Tensor, Tensor]  # weight [in, out], bias [out]


class AttentionTerms(NamedTuple):
    """(A, c, U) of tokens; the leading axes are those of the keys."""

    a: Tensor  # [..., D, H] query directions
    c: Tensor  # [..., H] offsets of the logits
    u: Tensor  # [..., H, D] outputs


def attention_terms(
    query: Tensor, query_bias: Tensor, output: Tensor, keys: Tensor, values: Tensor
) -> AttentionTerms:
    """(A, c, U) of keys and values [..., H, d], without the output's bias.

    query [H, d, D] and query_bias [H, d] carry the scale of the logits; output [D, H, d].
    """
    return AttentionTerms(
        torch.einsum("hed,...he->...dh", query, keys),
        torch.einsum("he,...he->...h", query_bias, keys),
        torch.einsum("dhe,...he->...hd", output, values),
    )


def fold_tokens(attention: CrossAttention, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A [B, D, H, S], c [B, H, S] and U [B, H, S, D] of tokens [B, S, D], differentiable.

    U holds the output's bias: the shares of a head sum to one.
    """
    heads = attention.heads
    keys = attention.w_k(tokens).unflatten(-1, (heads, -1))  # [B, S, H, d]
    values = attention.w_v(tokens).unflatten(-1, (heads, -1))
    width = keys.shape[-1]
    terms = attention_terms(
        attention.w_q.weight.unflatten(0, (heads, width)) / math.sqrt(width),
        attention.w_q.bias.unflatten(0, (heads, width)) / math.sqrt(width),
        attention.w_concat.weight.unflatten(1, (heads, width)),
        keys,
        values,
    )
    a, c, u = terms.a.permute(0, 2, 3, 1), terms.c.transpose(1, 2), terms.u.transpose(1, 2)
    return a, c, u + attention.w_concat.bias / heads


def attention_maps(
    attention: CrossAttention, logit_unit: float = 1.0
) -> tuple[AttentionTerms, AttentionTerms]:
    """The affine map from a token t to its (A, c, U), float64 on the CPU: weight and bias.

    The weight's leading axis [D] is that of t; the bias has none, and its U holds the output's
    bias. logit_unit: the logits are multiplied by it (log2 e for logits in powers of two).
    """
    heads = attention.heads

    def split(linear: nn.Linear) -> Layer:  # [H, d, D], [H, d]
        weight, bias = _double(linear.weight), _double(linear.bias)
        return weight.unflatten(0, (heads, -1)), bias.unflatten(0, (heads, -1))

    query, query_bias = split(attention.w_q)
    key, key_bias = split(attention.w_k)
    value, value_bias = split(attention.w_v)
    output = _double(attention.w_concat.weight).unflatten(1, (heads, -1))  # [D, H, d]

    unit = logit_unit / math.sqrt(query.shape[1])
    query, query_bias = query * unit, query_bias * unit

    # The key and the value of the unit vectors of t are the columns of their weights.
    weight = attention_terms(
        query, query_bias, output, key.permute(2, 0, 1), value.permute(2, 0, 1)
    )
    bias = attention_terms(query, query_bias, output, key_bias, value_bias)
    shared = _double(attention.w_concat.bias) / heads
    return weight, bias._replace(u=bias.u + shared)


@dataclass
class FoldedNetwork:
    """The constants of a network for one avatar, float32 on one device."""

    # [3, C, 32], [32]: the audio net's first convolution, tap by tap.
    first_convolution: Layer
    # The dense layers behind it: 256 -> 128 -> 128 -> 64 -> 64 -> 32, leaky but the last.
    audio_layers: list[Layer]
    # The audio attention's dense layers over the eight audio vectors of a frame:
    # 256 -> 128 -> 64 -> 32 -> 16 -> 8 (leaky) -> 8.
    attention_layers: list[Layer]
    audio_hidden: Tensor  # [32, D] first layer of the audio token's MLP
    audio_columns: Layer  # [D, R], [R]: its hidden row -> the columns of the audio token
    # [33, D] first layer of the blink's MLP: rows of 16 sines, of 16 cosines; last, their
    # frequencies.
    blink_hidden: Tensor
    # [D + 64, R], [R]: the blink's hidden row and the other expression channels -> columns.
    expression_columns: Layer
    camera_columns: Tensor  # [P, R] for every pose
    null_columns: Tensor  # [R]
    positions: Tensor  # [TOKENS, R] int32: where the columns of each token go in a record
    # Floats of a record: for each layer A [D, T], c [T], U [T, D]; T = padded heads x tokens.
    record_length: int
    heads: int  # padded
    width: int  # D
    layers: int

    def to(self, device: torch.device) -> FoldedNetwork:
        """The same constants on another device."""

        def moved(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            if isinstance(value, (list, tuple)):
                return type(value)(moved(part) for part in value)
            return value

        fields: dict[str, Any] = {name: moved(value) for name, value in vars(self).items()}
        return FoldedNetwork(**fields)

    def empty_records(self, frames: int) -> Tensor:
        """Records [frames, record_length] that hold the null token, and zeros."""
        record = torch.zeros(self.record_length, device=self.null_columns.device)
        record[self.positions[TOKENS - 1].long()] = self.null_columns
        return record.repeat(frames, 1)


@torch.no_grad()
def fold(network: GaussianTalker, cameras: Tensor) -> FoldedNetwork:
    """The constants of `network` and of the camera values [P, 12] of every pose, on the CPU."""
    config = network.config
    double = {name: value.detach().double().cpu() for name, value in network.state_dict().items()}
    layers = [layer.enc_dec_attention for layer in network.transformer.layers]
    heads = max(1 << (config.n_head - 1).bit_length(), MIN_SIDE // TOKENS)

    # A token -> its columns (A, c, U of every layer, one after the other).
    maps = [attention_maps(attention) for attention in layers]  # type: ignore[arg-type]
    weight = torch.cat([part.flatten(1) for token_weight, _ in maps for part in token_weight], 1)
    bias = torch.cat([part.flatten() for _, token_bias in maps for part in token_bias])

    # The token MLPs: their second layer goes into the map.
    audio_columns = double["audio_mlp.net.1.weight"].T @ weight
    camera_hidden = F.relu(cameras.double().cpu() @ double["cam_mlp.net.0.weight"].T)
    camera_columns = camera_hidden @ (double["cam_mlp.net.1.weight"].T @ weight) + bias
    into_expression = F.pad(double["eye_mlp.net.1.weight"].T, (0, 0, 0, EXPRESSION_CHANNELS))
    if "expression_lift.weight" in double:
        lift = double["expression_lift.weight"].T
        into_expression[config.d_model : config.d_model + len(lift)] = lift
    code = double["eye_mlp.net.0.weight"].T
    frequencies = F.pad(blink_frequencies().double()[None], (0, config.d_model - 16))

    convolution, audio_layers = _fold_audio_net(network)
    folded = FoldedNetwork(
        first_convolution=convolution,
        audio_layers=audio_layers,
        attention_layers=_fold_audio_attention(network),
        audio_hidden=double["audio_mlp.net.0.weight"].T,
        audio_columns=(audio_columns, bias),
        blink_hidden=torch.cat([code[0::2], code[1::2], frequencies]),
        expression_columns=(into_expression @ weight, bias),
        camera_columns=camera_columns,
        null_columns=double["null_vector"][0, 0] @ weight + bias,
        positions=_positions(config.d_model, config.n_head, heads, len(layers)),
        record_length=len(layers) * heads * TOKENS * (2 * config.d_model + 1),
        heads=heads,
        width=config.d_model,
        layers=len(layers),
    )

    def single(value: object) -> object:
        if isinstance(value, Tensor):
            return value.float().contiguous() if value.is_floating_point() else value
        return type(value)(map(single, value)) if isinstance(value, (list, tuple)) else value

    fields: dict[str, Any] = {name: single(value) for name, value in vars(folded).items()}
    return FoldedNetwork(**fields)


def _fold_audio_net(network: GaussianTalker) -> tuple[Layer, list[Layer]]:
    """The audio net: its first convolution tap by tap, and the dense layers behind it."""
    audio = network.audio_net
    first, *others = [layer for layer in audio.encoder_conv if isinstance(layer, nn.Conv1d)]
    steps, layers = FEATURE_WINDOW // 2, []
    for convolution in others:
        layers.append(_dense(convolution, steps))
        steps //= 2
    layers += [_linear(layer) for layer in audio.encoder_fc1 if isinstance(layer, nn.Linear)]
    return (_double(first.weight).permute(2, 1, 0), _double(first.bias)), layers


def _fold_audio_attention(network: GaussianTalker) -> list[Layer]:
    """The audio attention as dense layers over the eight audio vectors of a frame."""
    attention = network.audio_att_net
    layers = [
        _dense(layer, ATTENTION_WINDOW)
        for layer in attention.attentionConvNet
        if isinstance(layer, nn.Conv1d)
    ]
    layers += [_linear(layer) for layer in attention.attentionNet if isinstance(layer, nn.Linear)]
    layers[-2:] = [_padded(layer) for layer in layers[-2:]]
    return layers


def _double(value: Tensor | None) -> Tensor:
    assert value is not None
    return value.detach().double().cpu()


def _linear(layer: nn.Linear) -> Layer:
    return _double(layer.weight).T, _double(layer.bias)


def _padded(layer: Layer) -> Layer:
    """The layer with both sides at least MIN_SIDE; the last layer's added outputs get no share."""
    weight, bias = layer
    inputs, outputs = (max(0, MIN_SIDE - side) for side in weight.shape)
    padding = MASKED_LOGIT if inputs else 0.0
    return F.pad(weight, (0, outputs, 0, inputs)), F.pad(bias, (0, outputs), value=padding)


def _dense(layer: nn.Conv1d, steps: int) -> Layer:
    """A convolution over `steps` steps as a dense layer [steps * in, steps out * out]."""
    basis = torch.eye(steps * layer.in_channels, dtype=torch.float64)
    basis = basis.view(-1, steps, layer.in_channels).transpose(1, 2)
    out = F.conv1d(basis, _double(layer.weight), None, layer.stride, layer.padding)
    return out.transpose(1, 2).flatten(1), _double(layer.bias).repeat(out.shape[2])


def _positions(width: int, heads: int, padded: int, layers: int) -> Tensor:
    """Where the columns of each token go in a record, int32 [TOKENS, R]."""
    both = padded * TOKENS
    d, h, token = torch.arange(width), torch.arange(heads), torch.arange(TOKENS)[:, None]
    into_a = (d[:, None] * both + h[None] * TOKENS).flatten()[None] + token
    into_c = width * both + h[None] * TOKENS + token
    into_u = (
        width * both
        + both
        + ((h[:, None] * TOKENS)[None] + token[:, :, None]) * width
        + d[None, None]
    ).flatten(1)
    one = torch.cat([into_a, into_c, into_u], 1)
    size = both * (2 * width + 1)
    return torch.cat([one + layer * size for layer in range(layers)], 1).int()


def token_records(
    folded: FoldedNetwork, features: Tensor, expression: Tensor, poses: Tensor
) -> Tensor:
    """Records [B, record_length] of frames: in torch, what the CUDA renderer's kernels compute.

    features [B, 8, 16, C], expression [B, E], poses int64 [B].
    """
    # The audio net: a vector [32] of each feature window.
    frames = len(features)
    x = F.pad(features, (0, 0, 1, 0)).flatten(0, 1)  # a step of zeros in front
    taps = torch.stack([x[:, k : k + FEATURE_WINDOW : 2] for k in range(3)], 2)  # [8B, 8, 3, C]
    weight, bias = folded.first_convolution
    x = leaky(torch.einsum("wtkc,kco->wto", taps, weight) + bias).flatten(1)
    for weight, bias in folded.audio_layers[:-1]:
        x = leaky(x @ weight + bias)
    weight, bias = folded.audio_layers[-1]
    vectors = (x @ weight + bias).view(frames, ATTENTION_WINDOW, AUDIO_WIDTH)

    # The audio attention: the share of each vector in the frame's.
    x = vectors.flatten(1)
    for weight, bias in folded.attention_layers[:-1]:
        x = leaky(x @ weight + bias)
    weight, bias = folded.attention_layers[-1]
    share = torch.softmax(x @ weight + bias, 1)[:, :ATTENTION_WINDOW]
    audio = F.relu((share[..., None] * vectors).sum(1) @ folded.audio_hidden)

    # The expression: the blink by its sines and cosines, the other channels as they are.
    angle = expression[:, :1] * folded.blink_hidden[32, :16]
    blink = F.relu(torch.cat([angle.sin(), angle.cos()], 1) @ folded.blink_hidden[:32])
    others = F.pad(expression[:, 1:], (0, EXPRESSION_CHANNELS + 1 - expression.shape[1]))
    face = torch.cat([blink, others], 1)

    columns = (
        audio @ folded.audio_columns[0] + folded.audio_columns[1],
        face @ folded.expression_columns[0] + folded.expression_columns[1],
        folded.camera_columns[poses],
    )
    records = folded.empty_records(frames)
    for token, values in enumerate(columns):
        records[:, folded.positions[token].long()] = values
    return records


def leaky(x: Tensor) -> Tensor:
    """The activation of the audio net and the audio attention."""
    return F.leaky_relu(x, LEAKY_SLOPE)
