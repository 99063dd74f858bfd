"""A trained network folded for rendering: what does not depend on the frame is multiplied together
once, in float64.

The audio net's convolutions over a window of 16 steps, and the audio attention's over 8 windows,
become dense layers (time in the middle of a row: row = step x channels). Each attention layer's
projections of a token t of the frame fold into one affine map t -> (A, c, U): the logit of a query
x in head h is x . A + c, and the token's share adds U to the output. The second layer of a token's
lift folds into it as well. Tokens of the camera (known for every pose of the bundle) and the null
token are mapped once. B frames, N Gaussians, P poses, D width of tokens, H heads, C speech feature
channels, K SH coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.conventions import ATTENTION_WINDOW, FEATURE_WINDOW
from being.model.attention import AttentionLayer
from being.model.gaussiantalker import GaussianTalker
from being.model.tokens import AUDIO_WIDTH, LEAKY_SLOPE, eye_frequencies

LEAST = 16  # the smallest side of a product on the matrix units
TOKENS = 4  # sound, expression, camera, null
CHANNELS = 64  # of expression behind the blink, padded

NEVER = -1e30  # logit of what has no share

Layer = tuple[Tensor, Tensor]  # weight [in, out], bias [out]


@dataclass
class Folded:
    """Constants of a network for one avatar, float32 on one device."""

    conv: Layer  # [3, C, 32], [32]: the first convolution, tap by tap
    hear: list[
        Layer
    ]  # dense layers behind it: 256 -> 128 -> 128 -> 64 -> 64 -> 32, leaky but the last
    weigh: list[
        Layer
    ]  # of the eight vectors of a frame: 256 -> 128 -> 64 -> 32 -> 16 -> 8 (leaky) -> 8
    lift: Tensor  # [32, D] first layer of the sound token's lift
    sound: Layer  # [D, R], [R]: lift's hidden row -> the record's columns of that token
    # [33, D] first layer of the blink's lift: rows of 16 sines, 16 cosines; last, their frequencies
    blink: Tensor
    # [D + 64, R], [R]: the blink's hidden row and the other channels of expression -> columns
    face: Layer
    camera: Tensor  # [P, R] for every pose
    null: Tensor  # [R]
    places: Tensor  # [TOKENS, R] int32: where each token's columns go in a frame's record
    # floats of a frame's record: for each layer A [D, T], c [T], U [T, D]; T = padded heads x
    # tokens
    record: int
    heads: int  # padded
    width: int  # D
    layers: int

    def to(self, device: torch.device) -> Folded:
        """The same on another device."""

        def moved(value: object) -> object:
            if isinstance(value, Tensor):
                return value.to(device)
            if isinstance(value, (list, tuple)):
                return type(value)(moved(part) for part in value)
            return value

        return Folded(**{name: moved(value) for name, value in vars(self).items()})  # type: ignore[arg-type]

    def empty_record(self, frames: int) -> Tensor:
        """Records [frames, record] that hold the null token and zeros."""
        record = torch.zeros(self.record, device=self.null.device)
        record[self.places[TOKENS - 1].long()] = self.null
        return record.repeat(frames, 1)


@torch.no_grad()
def fold(network: GaussianTalker, cameras: Tensor) -> Folded:
    """The constants of `network` and of `cameras` [P, 12], on the CPU."""
    double = {name: value.detach().double().cpu() for name, value in network.state_dict().items()}
    layers = [_token_map(layer) for layer in network.transformer.layers]  # type: ignore[arg-type]
    weight, bias = (torch.cat([part[k] for part in layers], -1) for k in (0, 1))
    config = network.config
    heads = max(1 << (config.n_head - 1).bit_length(), LEAST // TOKENS)

    def lifted(name: str) -> Layer:
        return double[f"{name}.net.1.weight"].T @ weight, bias

    hidden = F.relu(cameras.double().cpu() @ double["cam_mlp.net.0.weight"].T)
    into_camera, _ = lifted("cam_mlp")
    audio, attention = network.audio_net, network.audio_att_net
    convolutions = [layer for layer in audio.encoder_conv if isinstance(layer, nn.Conv1d)]
    steps, hear = FEATURE_WINDOW // 2, []
    for convolution in convolutions[1:]:
        hear.append(_dense(convolution, steps))
        steps //= 2
    hear += [_linear(layer) for layer in audio.encoder_fc1 if isinstance(layer, nn.Linear)]
    weigh = [
        _dense(layer, ATTENTION_WINDOW)
        for layer in attention.attentionConvNet
        if isinstance(layer, nn.Conv1d)
    ]
    weigh += [_linear(layer) for layer in attention.attentionNet if isinstance(layer, nn.Linear)]
    weigh[-2:] = [_padded(layer) for layer in weigh[-2:]]
    first = convolutions[0]
    places = _places(config.d_model, config.n_head, heads, len(layers))
    into_face = F.pad(double["eye_mlp.net.1.weight"].T, (0, 0, 0, CHANNELS))
    if "expression_lift.weight" in double:
        lift = double["expression_lift.weight"].T
        into_face[config.d_model : config.d_model + len(lift)] = lift
    code = double["eye_mlp.net.0.weight"].T
    blink = torch.cat(
        [code[0::2], code[1::2], F.pad(eye_frequencies().double()[None], (0, config.d_model - 16))]
    )
    folded = Folded(
        (_double(first.weight).permute(2, 1, 0), _double(first.bias)),
        hear,
        weigh,
        double["audio_mlp.net.0.weight"].T,
        lifted("audio_mlp"),
        blink,
        (into_face @ weight, bias),
        hidden @ into_camera + bias,
        double["null_vector"][0, 0] @ weight + bias,
        places,
        len(layers) * heads * TOKENS * (2 * config.d_model + 1),
        heads,
        config.d_model,
        len(layers),
    )

    def single(value: object) -> object:
        if isinstance(value, Tensor):
            return value.float().contiguous() if value.is_floating_point() else value
        return type(value)(map(single, value)) if isinstance(value, (list, tuple)) else value

    return Folded(**{name: single(value) for name, value in vars(folded).items()})  # type: ignore[arg-type]


def _double(value: Tensor | None) -> Tensor:
    assert value is not None
    return value.detach().double().cpu()


def _linear(layer: nn.Linear) -> Layer:
    return _double(layer.weight).T, _double(layer.bias)


def _padded(layer: Layer) -> Layer:
    """The layer with both sides at least LEAST; what is added to the last layer's outputs is never
    the largest.
    """
    weight, bias = layer
    inputs, outputs = (max(0, LEAST - side) for side in weight.shape)
    return F.pad(weight, (0, outputs, 0, inputs)), F.pad(
        bias, (0, outputs), value=NEVER if inputs else 0.0
    )


def _dense(layer: nn.Conv1d, steps: int) -> Layer:
    """A convolution over `steps` steps as a dense layer [steps * in, steps out * out]."""
    basis = torch.eye(steps * layer.in_channels, dtype=torch.float64).view(
        -1, steps, layer.in_channels
    )
    out = F.conv1d(basis.transpose(1, 2), _double(layer.weight), None, layer.stride, layer.padding)
    return out.transpose(1, 2).flatten(1), _double(layer.bias).repeat(out.shape[2])


def _token_map(layer: AttentionLayer) -> Layer:
    """A token [D] -> columns (A [D, H], c [H], U [H, D], one after the other): weight [D, columns],
    bias [columns].
    """
    attention = layer.enc_dec_attention
    heads = attention.heads

    def split(linear: nn.Linear) -> Layer:  # [H, d, D], [H, d]
        return _double(linear.weight).unflatten(0, (heads, -1)), _double(linear.bias).unflatten(
            0, (heads, -1)
        )

    (query, query_bias), (key, key_bias), (value, value_bias) = map(
        split, (attention.w_q, attention.w_k, attention.w_v)
    )
    out = _double(attention.w_concat.weight).unflatten(1, (heads, -1))  # [D, H, d]
    scale = 1 / math.sqrt(query.shape[1])
    weight = [
        torch.einsum("hed,hei->idh", query, key) * scale,
        torch.einsum("he,hei->ih", query_bias, key) * scale,
        torch.einsum("dhe,hei->ihd", out, value),
    ]
    bias = [
        torch.einsum("hed,he->dh", query, key_bias) * scale,
        torch.einsum("he,he->h", query_bias, key_bias) * scale,
        torch.einsum("dhe,he->hd", out, value_bias) + _double(attention.w_concat.bias) / heads,
    ]
    return torch.cat([part.flatten(1) for part in weight], 1), torch.cat(
        [part.flatten() for part in bias]
    )


def _places(width: int, heads: int, padded: int, layers: int) -> Tensor:
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
    )
    one = torch.cat([into_a, into_c, into_u.flatten(1)], 1)
    size = both * (2 * width + 1)
    return torch.cat([one + layer * size for layer in range(layers)], 1).int()


def record_of(folded: Folded, features: Tensor, expression: Tensor, poses: Tensor) -> Tensor:
    """Records [B, record]: the torch twin of the kernels. Windows of features [B, 8, 16, C],
    expression [B, E], poses int64 [B]."""
    frames = len(features)
    x = F.pad(features, (0, 0, 1, 0)).flatten(0, 1)  # a step of zeros in front
    taps = torch.stack([x[:, k : k + FEATURE_WINDOW : 2] for k in range(3)], 2)  # [8B, 8, 3, C]
    x = leaky(torch.einsum("wtkc,kco->wto", taps, folded.conv[0]) + folded.conv[1]).flatten(1)
    for weight, bias in folded.hear[:-1]:
        x = leaky(x @ weight + bias)
    vectors = (x @ folded.hear[-1][0] + folded.hear[-1][1]).view(
        frames, ATTENTION_WINDOW, AUDIO_WIDTH
    )
    x = vectors.flatten(1)
    for weight, bias in folded.weigh[:-1]:
        x = leaky(x @ weight + bias)
    share = torch.softmax(x @ folded.weigh[-1][0] + folded.weigh[-1][1], 1)[:, :ATTENTION_WINDOW]
    hidden = F.relu((share[..., None] * vectors).sum(1) @ folded.lift)
    angle = expression[:, :1] * folded.blink[32, :16]
    blink = F.relu(torch.cat([angle.sin(), angle.cos()], 1) @ folded.blink[:32])
    face = torch.cat([blink, F.pad(expression[:, 1:], (0, CHANNELS + 1 - expression.shape[1]))], 1)
    record = folded.empty_record(frames)
    for token, rows in enumerate(
        (
            hidden @ folded.sound[0] + folded.sound[1],
            face @ folded.face[0] + folded.face[1],
            folded.camera[poses],
        )
    ):
        record[:, folded.places[token].long()] = rows
    return record


def leaky(x: Tensor) -> Tensor:
    """The sound nets' activation."""
    return F.leaky_relu(x, LEAKY_SLOPE)
