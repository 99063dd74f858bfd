"""The deformation network on a GPU: the same numbers as `GaussianTalker.deform`, in six kernels a
layer and direction.

Eager torch moves each of some thirty intermediate [B, N, ...] tensors through memory twice; here a
row of a Gaussian is read, carried through a piece of the network in registers and written once.
"""

from __future__ import annotations

import importlib.util
import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from being.model.attention import AttentionLayer
    from being.model.gaussiantalker import GaussianTalker

LEAST = 16  # the smallest side of a product


@lru_cache
def _triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def usable(network: GaussianTalker, queries: Tensor) -> bool:
    """Whether `deform` can take the place of the plain network: Triton is there, on CUDA (or its
    interpreter is asked for by TRITON_INTERPRET=1), and the widths are powers of two."""
    config = network.config
    there = queries.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    return (
        there
        and _triton()
        and all(
            width >= LEAST and width & (width - 1) == 0
            for width in (config.d_model, config.ffn_hidden, config.net_width)
        )
    )


def deform(network: GaussianTalker, queries: Tensor, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Offsets side by side, float32 [B, N, P], and the parts of it: of means, log scales,
    quaternions, opacity logits and SH (flat), [B, N, .] each.

    queries [1, N, D], tokens [B, S, D]. Inside bfloat16 autocast the rows are bfloat16 and sums
    float32, else all is.
    """
    from being.model.kernels.mlp import mlp

    low = torch.is_autocast_enabled(queries.device.type)
    with torch.autocast(queries.device.type, enabled=False):
        x = queries.to(torch.bfloat16 if low else torch.float32)
        for layer in network.transformer.layers:
            assert isinstance(layer, nn.Module)
            x = _layer(layer, x, tokens.float())  # type: ignore[arg-type]
        w1, b1, w2, b2, widths = _heads(network)
        out = mlp(x, w1, b1, w2, b2, relu_in=True, out=torch.float32)
        return out, list(out[..., : sum(widths)].split(widths, -1))


def _layer(layer: AttentionLayer, x: Tensor, tokens: Tensor) -> Tensor:
    """One attention layer: x [B or 1, N, D] and tokens float32 [B, S, D] -> [B, N, D]."""
    from being.model.kernels.attend import add_norm, attend
    from being.model.kernels.mlp import mlp

    drop = layer.drop if layer.training else 0.0
    seeds: list[Tensor | None] = [None] * 3
    if drop:
        seeds = list(
            torch.randint(2**31 - 1, (3, 2), device=x.device)[:, 0]
        )  # 16 bytes apart: one kernel takes all
    mixed = attend(x, *_folded(layer, tokens))
    x = add_norm(
        x, mixed, layer.norm1.gamma, layer.norm1.beta, eps=layer.norm1.eps, drop=drop, seed=seeds[0]
    )
    first, second = layer.ffn.linear1, layer.ffn.linear2
    hidden = mlp(
        x, first.weight.T, first.bias, second.weight.T, second.bias, drop=drop, seed=seeds[1]
    )
    return add_norm(
        x,
        hidden,
        layer.norm2.gamma,
        layer.norm2.beta,
        eps=layer.norm2.eps,
        drop=drop,
        seed=seeds[2],
    )


def _folded(layer: AttentionLayer, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `attend` needs of a layer's projections and the tokens (see its file): A, c and U with
    the output's bias.
    """
    attention = layer.enc_dec_attention
    heads = attention.heads
    keys = attention.w_k(tokens).unflatten(-1, (heads, -1))  # [B, S, H, d]
    values = attention.w_v(tokens).unflatten(-1, (heads, -1))
    width = keys.shape[-1]
    query = attention.w_q.weight.unflatten(0, (heads, width)) / math.sqrt(width)  # [H, d, D]
    bias = attention.w_q.bias.unflatten(0, (heads, width)) / math.sqrt(width)
    out = attention.w_concat.weight.unflatten(1, (heads, width))  # [D, H, d]
    a = torch.einsum("hed,bshe->bdhs", query, keys)
    c = torch.einsum("he,bshe->bhs", bias, keys)
    u = (
        torch.einsum("dhe,bshe->bhsd", out, values) + attention.w_concat.bias / heads
    )  # shares of a head sum to 1
    return a, c, u


def _heads(network: GaussianTalker) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """The five decoding heads as one pair of layers [D, 5W], [5W, padded outputs], and the outputs'
    widths.
    """
    heads = (
        network.pos_deform,
        network.scales_deform,
        network.rotations_deform,
        network.opacity_deform,
        network.shs_deform,
    )
    w1 = torch.cat([head.get_parameter("1.weight") for head in heads]).T
    b1 = torch.cat([head.get_parameter("1.bias") for head in heads])
    second = [head.get_parameter("3.weight") for head in heads]
    widths = [weight.shape[0] for weight in second]
    padding = max(LEAST, 1 << (sum(widths) - 1).bit_length()) - sum(widths)
    w2 = F.pad(torch.block_diag(*second), (0, 0, 0, padding)).T
    b2 = F.pad(torch.cat([head.get_parameter("3.bias") for head in heads]), (0, padding))
    return w1, b1, w2, b2, widths
