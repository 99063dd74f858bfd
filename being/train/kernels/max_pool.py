"""Triton kernel for 2 x 2 max pooling.

torch's own also writes an 8-byte index for each 2-byte maximum.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # maxima per program


@triton.jit
def _corners(x_ptr, offset, inside, width, channels):
    """Offsets of the two rows of a 2 x 2 square, and its four values.

    A map is [rows, width, channels] with even sides.
    """
    half = width // 2
    channel, pixel = offset % channels, offset // channels
    row, column = pixel // half, pixel % half
    first = (2 * row * width + 2 * column) * channels + channel
    below = first + width.to(tl.int64) * channels
    a = tl.load(x_ptr + first, mask=inside, other=0.0)
    b = tl.load(x_ptr + first + channels, mask=inside, other=0.0)
    c = tl.load(x_ptr + below, mask=inside, other=0.0)
    d = tl.load(x_ptr + below + channels, mask=inside, other=0.0)
    return first, below, a, b, c, d


@triton.jit(do_not_specialize=["width"])
def _forward(x_ptr, y_ptr, count, width, channels, block: tl.constexpr):
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = offset < count
    _, _, a, b, c, d = _corners(x_ptr, offset, inside, width, channels)
    tl.store(y_ptr + offset, tl.maximum(tl.maximum(a, b), tl.maximum(c, d)), mask=inside)


@triton.jit(do_not_specialize=["width"])
def _backward(x_ptr, dy_ptr, dx_ptr, count, width, channels, block: tl.constexpr):
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = offset < count
    first, below, a, b, c, d = _corners(x_ptr, offset, inside, width, channels)
    dy = tl.load(dy_ptr + offset, mask=inside, other=0.0)
    maximum = tl.maximum(tl.maximum(a, b), tl.maximum(c, d))
    # The first of equal values gets the gradient, as in torch.
    is_a = a == maximum
    is_b = (b == maximum) & (a != maximum)
    is_c = (c == maximum) & (a != maximum) & (b != maximum)
    is_d = (a != maximum) & (b != maximum) & (c != maximum)
    tl.store(dx_ptr + first, tl.where(is_a, dy, 0.0), mask=inside)
    tl.store(dx_ptr + first + channels, tl.where(is_b, dy, 0.0), mask=inside)
    tl.store(dx_ptr + below, tl.where(is_c, dy, 0.0), mask=inside)
    tl.store(dx_ptr + below + channels, tl.where(is_d, dy, 0.0), mask=inside)


class _MaxPool2x2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        y = torch.empty(
            frames,
            channels,
            height // 2,
            width // 2,
            device=x.device,
            dtype=x.dtype,
            memory_format=torch.channels_last,
        )
        _forward[triton.cdiv(y.numel(), BLOCK),](x, y, y.numel(), width, channels, BLOCK)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        dx, dy = torch.empty_like(x), dy.contiguous(memory_format=torch.channels_last)
        _backward[triton.cdiv(dy.numel(), BLOCK),](
            x, dy, dx, dy.numel(), x.shape[3], x.shape[1], BLOCK
        )
        return dx


def max_pool_2x2(x: Tensor) -> Tensor:
    """Maximum of every 2 x 2 pixels [B, C, H / 2, W / 2] of maps [B, C, H, W], H and W even."""
    assert x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0, x.shape
    return _MaxPool2x2.apply(x.contiguous(memory_format=torch.channels_last))
