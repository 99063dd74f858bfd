"""Maximum of every 2 x 2 pixels on a GPU: torch's own writes an 8-byte index for each 2-byte
maximum.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # maxima of a program


@triton.jit
def _corners(x_at, place, inside, width, channels):
    """Where the four pixels of a maximum lie, and their values; a map is [rows, width, channels],
    sides even.
    """
    half = width // 2
    channel, pixel = place % channels, place // channels
    row, column = pixel // half, pixel % half
    first = (2 * row * width + 2 * column) * channels + channel
    below = first + width.to(tl.int64) * channels
    a = tl.load(x_at + first, mask=inside, other=0.0)
    b = tl.load(x_at + first + channels, mask=inside, other=0.0)
    c = tl.load(x_at + below, mask=inside, other=0.0)
    d = tl.load(x_at + below + channels, mask=inside, other=0.0)
    return first, below, a, b, c, d


@triton.jit(do_not_specialize=["width"])
def _forward(x_at, y_at, count, width, channels, block: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < count
    _, _, a, b, c, d = _corners(x_at, place, inside, width, channels)
    tl.store(y_at + place, tl.maximum(tl.maximum(a, b), tl.maximum(c, d)), mask=inside)


@triton.jit(do_not_specialize=["width"])
def _backward(x_at, up_at, dx_at, count, width, channels, block: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < count
    first, below, a, b, c, d = _corners(x_at, place, inside, width, channels)
    up = tl.load(up_at + place, mask=inside, other=0.0)
    most = tl.maximum(tl.maximum(a, b), tl.maximum(c, d))
    is_a = a == most  # the first of equal ones has the gradient, as in torch
    is_b = (b == most) & (a != most)
    is_c = (c == most) & (a != most) & (b != most)
    is_d = (a != most) & (b != most) & (c != most)
    tl.store(dx_at + first, tl.where(is_a, up, 0.0), mask=inside)
    tl.store(dx_at + first + channels, tl.where(is_b, up, 0.0), mask=inside)
    tl.store(dx_at + below, tl.where(is_c, up, 0.0), mask=inside)
    tl.store(dx_at + below + channels, tl.where(is_d, up, 0.0), mask=inside)


class _Halved(torch.autograd.Function):
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
    def backward(ctx: Any, up: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        dx, up = torch.empty_like(x), up.contiguous(memory_format=torch.channels_last)
        _backward[triton.cdiv(up.numel(), BLOCK),](
            x, up, dx, up.numel(), x.shape[3], x.shape[1], BLOCK
        )
        return dx


def halved(x: Tensor) -> Tensor:
    """Maximum of every 2 x 2 pixels [B, C, H / 2, W / 2] of maps [B, C, H, W], H and W even."""
    assert x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0, x.shape
    return _Halved.apply(x.contiguous(memory_format=torch.channels_last))
