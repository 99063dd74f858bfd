"""Structural similarity on a GPU: every tile reads its pictures once; the same numbers as `losses.ssim`.

The window runs over a tile as two products with a band matrix. Forward leaves the derivative of the result by the three
blurred maps that depend on the first picture (mean, mean square, mean product); backward blurs these once more.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

SIDE = 32  # px, output tile
REACH = tl.constexpr(5)  # px to each side of the window of 11
SIGMA = tl.constexpr(1.5)
C1, C2 = tl.constexpr(0.01**2), tl.constexpr(0.03**2)


@triton.jit
def _window(side: tl.constexpr):
    """Band matrix [side, 2 side]: row i holds the Gaussian window over columns i .. i + 10."""
    offset = tl.arange(0, 2 * side)[None, :] - tl.arange(0, side)[:, None] - REACH
    weight = tl.where((offset <= REACH) & (offset >= -REACH), tl.exp(-(offset * offset) / (2 * SIGMA * SIGMA)), 0.0)
    return weight / tl.sum(weight, 1)[:, None]


@triton.jit
def _blur(picture, window):
    return tl.dot(tl.dot(window, picture, input_precision="tf32x3"), tl.trans(window), input_precision="tf32x3")


@triton.jit
def _place(height, width, side: tl.constexpr):
    """Offsets and masks of this program's wide tile [2 side, 2 side] (with what the window reaches) and of its own."""
    across = tl.cdiv(width, side)
    top, left = (tl.program_id(0) // across) * side, (tl.program_id(0) % across) * side
    start = tl.program_id(1).to(tl.int64) * height * width
    y, x = top - REACH + tl.arange(0, 2 * side), left - REACH + tl.arange(0, 2 * side)
    wide = start + y[:, None] * width + x[None, :]
    seen = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
    y, x = top + tl.arange(0, side), left + tl.arange(0, side)
    return wide, seen, start + y[:, None] * width + x[None, :], (y < height)[:, None] & (x < width)[None, :]


@triton.jit
def _forward(a_at, b_at, sums_at, d_mean_at, d_square_at, d_product_at, height, width, side: tl.constexpr):
    wide, seen, own, inside = _place(height, width, side)
    a, b = tl.load(a_at + wide, mask=seen, other=0.0), tl.load(b_at + wide, mask=seen, other=0.0)
    window = _window(side)
    mean_a, mean_b, product = _blur(a, window), _blur(b, window), _blur(a * b, window)
    contrast = _blur(a * a, window) - mean_a * mean_a + _blur(b * b, window) - mean_b * mean_b + C2
    brightness = mean_a * mean_a + mean_b * mean_b + C1
    alike, structure = 2 * mean_a * mean_b + C1, 2 * (product - mean_a * mean_b) + C2
    below = 1 / (brightness * contrast)
    value = alike * structure * below
    tl.store(sums_at + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0)))
    d_mean = 2 * mean_b * (structure - alike) * below + 2 * mean_a * value * (1 / contrast - 1 / brightness)
    tl.store(d_mean_at + own, d_mean, mask=inside)
    tl.store(d_square_at + own, -value / contrast, mask=inside)
    tl.store(d_product_at + own, 2 * alike * below, mask=inside)


@triton.jit
def _backward(a_at, b_at, d_mean_at, d_square_at, d_product_at, up_at, da_at, height, width, side: tl.constexpr):
    wide, seen, own, inside = _place(height, width, side)
    window = _window(side)
    a, b = tl.load(a_at + own, mask=inside, other=0.0), tl.load(b_at + own, mask=inside, other=0.0)
    da = _blur(tl.load(d_mean_at + wide, mask=seen, other=0.0), window)
    da += 2 * a * _blur(tl.load(d_square_at + wide, mask=seen, other=0.0), window)
    da += b * _blur(tl.load(d_product_at + wide, mask=seen, other=0.0), window)
    tl.store(da_at + own, da * tl.load(up_at), mask=inside)


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        height, width = a.shape[2:]
        ctx.grid = triton.cdiv(height, SIDE) * triton.cdiv(width, SIDE), a.shape[0] * a.shape[1]
        sums = torch.empty(ctx.grid[1], ctx.grid[0], device=a.device)
        maps = [torch.empty_like(a) for _ in range(3)]
        _forward[ctx.grid](a, b, sums, *maps, height, width, SIDE)
        ctx.save_for_backward(a, b, *maps)
        return sums.sum() / a.numel()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        a, b, *maps = ctx.saved_tensors
        da = torch.empty_like(a)
        _backward[ctx.grid](a, b, *maps, up / a.numel(), da, a.shape[2], a.shape[3], SIDE)
        return da, None


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity, scalar, of pictures float32 [B, C, H, W]; its gradient reaches `a` only."""
    assert a.shape == b.shape and a.dtype == b.dtype == torch.float32 and not b.requires_grad, (a.shape, b.shape)
    return _Ssim.apply(a.contiguous(), b.contiguous())
