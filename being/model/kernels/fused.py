"""The deformation network with Triton kernels: the same numbers as `GaussianTalker.deform`.

There are six kernels for each layer and direction. Eager torch moves each of some thirty
intermediate tensors [B, N, ...] through memory twice. Here the row of a Gaussian is read, goes
through a part of the network in registers, and is written once.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from being.model.folding import fold_tokens

if TYPE_CHECKING:
    from being.model.attention import AttentionLayer
    from being.model.gaussiantalker import GaussianTalker

MIN_DOT_SIDE = 16  # the smallest side of a matrix product in Triton


@lru_cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def usable(network: GaussianTalker, queries: Tensor) -> bool:
    """Return whether `deform` here can replace the network's own.

    It needs Triton, CUDA (or the interpreter: TRITON_INTERPRET=1), and widths that are powers of
    two.
    """
    if not (queries.is_cuda or os.environ.get("TRITON_INTERPRET") == "1") or not _has_triton():
        return False
    config = network.config
    widths = (config.d_model, config.ffn_hidden, config.net_width)
    return all(width >= MIN_DOT_SIDE and width & (width - 1) == 0 for width in widths)


def deform(network: GaussianTalker, queries: Tensor, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the packed offsets float32 [B, N, P], and its parts [B, N, ...].

    The parts are the offsets of means, log scales, quaternions, opacity logits and SH (flat).
    queries [1, N, D], tokens [B, S, D]. Inside bfloat16 autocast the rows are bfloat16 and the sums
    float32; else everything is float32.
    """
    from being.model.kernels.mlp import mlp

    low = torch.is_autocast_enabled(queries.device.type)
    with torch.autocast(queries.device.type, enabled=False):
        x = queries.to(torch.bfloat16 if low else torch.float32)
        for layer in network.transformer.layers:
            assert isinstance(layer, nn.Module)
            x = _layer(layer, x, tokens.float())  # type: ignore[arg-type]
        w1, b1, w2, b2, widths = _joined_heads(network)
        out = mlp(x, w1, b1, w2, b2, relu_in=True, out=torch.float32)
        return out, list(out[..., : sum(widths)].split(widths, -1))


def _layer(layer: AttentionLayer, x: Tensor, tokens: Tensor) -> Tensor:
    """Return the output [B, N, D] of an attention layer for x [B or 1, N, D].

    tokens: float32 [B, S, D].
    """
    from being.model.kernels.attend import add_norm, attend
    from being.model.kernels.mlp import mlp

    drop = layer.drop if layer.training else 0.0

    # Three seeds of dropout. They lie 16 bytes apart, so Triton compiles a kernel once for all.
    seeds: list[Tensor | None] = [None] * 3
    if drop:
        seeds = list(torch.randint(2**31 - 1, (3, 2), device=x.device)[:, 0])

    mixed = attend(x, *fold_tokens(layer.enc_dec_attention, tokens))
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


def _joined_heads(network: GaussianTalker) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """Return the five decoding heads as two linear layers, and the widths of their outputs.

    The layers are [D, 5W] and [5W, padded outputs], each with its bias.
    """
    heads = network.decoding_heads()
    w1 = torch.cat([head.get_parameter("1.weight") for head in heads]).T
    b1 = torch.cat([head.get_parameter("1.bias") for head in heads])
    second = [head.get_parameter("3.weight") for head in heads]
    widths = [weight.shape[0] for weight in second]
    padding = max(MIN_DOT_SIDE, 1 << (sum(widths) - 1).bit_length()) - sum(widths)
    w2 = F.pad(torch.block_diag(*second), (0, 0, 0, padding)).T
    b2 = F.pad(torch.cat([head.get_parameter("3.bias") for head in heads]), (0, padding))
    return w1, b1, w2, b2, widths
