"""Structural similarity on a GPU: the same numbers as `losses.ssim`, in two passes over the
pictures each way.

The window runs down the columns, then along the rows; every pass reads its neighbours from the
cache. Forward leaves the derivative of the result by the three blurred maps that depend on the
first picture (mean, mean square, mean product); backward blurs these once more. Products on the
matrix units (the window as a band matrix) took 30 times as long, most of it spent on moving tiles
into their layout.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from being.metrics.pictures import SSIM_C1, SSIM_C2, SSIM_WINDOW, gaussian_window

BLOCK = 1024  # px of a program
REACH = tl.constexpr(SSIM_WINDOW // 2)  # px to each side
C1, C2 = tl.constexpr(SSIM_C1), tl.constexpr(SSIM_C2)


@triton.jit
def _columns(a_at, b_at, window_at, out_at, count, height, width, block: tl.constexpr):
    """Five maps [5, count] blurred down the columns: a, b, a^2, b^2, ab."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, y = at < count, (at // width) % height
    mean_a, mean_b = tl.zeros((block,), tl.float32), tl.zeros((block,), tl.float32)
    square_a, square_b = tl.zeros((block,), tl.float32), tl.zeros((block,), tl.float32)
    product = tl.zeros((block,), tl.float32)
    for k in tl.static_range(-REACH, REACH + 1):
        seen = inside & (y + k >= 0) & (y + k < height)
        a = tl.load(a_at + at + k * width, mask=seen, other=0.0)
        b = tl.load(b_at + at + k * width, mask=seen, other=0.0)
        weight = tl.load(window_at + k + REACH)
        mean_a += weight * a
        mean_b += weight * b
        square_a += weight * a * a
        square_b += weight * b * b
        product += weight * a * b
    tl.store(out_at + at, mean_a, mask=inside)
    tl.store(out_at + count + at, mean_b, mask=inside)
    tl.store(out_at + 2 * count + at, square_a, mask=inside)
    tl.store(out_at + 3 * count + at, square_b, mask=inside)
    tl.store(out_at + 4 * count + at, product, mask=inside)


@triton.jit
def _along(map_at, window_at, at, x, inside, width, block: tl.constexpr):
    """A map blurred along the rows at `at`."""
    total = tl.zeros((block,), tl.float32)
    for k in tl.static_range(-REACH, REACH + 1):
        seen = inside & (x + k >= 0) & (x + k < width)
        total += tl.load(window_at + k + REACH) * tl.load(map_at + at + k, mask=seen, other=0.0)
    return total


@triton.jit
def _rows(maps_at, window_at, sums_at, out_at, count, width, block: tl.constexpr):
    """Sum of the similarity over a block; its derivatives [3, count] by mean, mean square and mean
    product.
    """
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, x = at < count, at % width
    mean_a = _along(maps_at, window_at, at, x, inside, width, block)
    mean_b = _along(maps_at + count, window_at, at, x, inside, width, block)
    contrast = _along(maps_at + 2 * count, window_at, at, x, inside, width, block) - mean_a * mean_a
    contrast += (
        _along(maps_at + 3 * count, window_at, at, x, inside, width, block) - mean_b * mean_b + C2
    )
    brightness = mean_a * mean_a + mean_b * mean_b + C1
    alike = 2 * mean_a * mean_b + C1
    structure = (
        2 * (_along(maps_at + 4 * count, window_at, at, x, inside, width, block) - mean_a * mean_b)
        + C2
    )
    below = 1 / (brightness * contrast)
    value = alike * structure * below
    tl.store(sums_at + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0), 0))
    d_mean = 2 * mean_b * (structure - alike) * below + 2 * mean_a * value * (
        1 / contrast - 1 / brightness
    )
    tl.store(out_at + at, d_mean, mask=inside)
    tl.store(out_at + count + at, -value / contrast, mask=inside)
    tl.store(out_at + 2 * count + at, 2 * alike * below, mask=inside)


@triton.jit
def _back_columns(maps_at, window_at, out_at, count, height, width, block: tl.constexpr):
    """Three maps [3, count] blurred down the columns."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, y = at < count, (at // width) % height
    for part in tl.static_range(3):
        total = tl.zeros((block,), tl.float32)
        for k in tl.static_range(-REACH, REACH + 1):
            seen = inside & (y + k >= 0) & (y + k < height)
            total += tl.load(window_at + k + REACH) * tl.load(
                maps_at + part * count + at + k * width, mask=seen, other=0.0
            )
        tl.store(out_at + part * count + at, total, mask=inside)


@triton.jit
def _back_rows(maps_at, window_at, a_at, b_at, up_at, da_at, count, width, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, x = at < count, at % width
    a, b = tl.load(a_at + at, mask=inside, other=0.0), tl.load(b_at + at, mask=inside, other=0.0)
    da = _along(maps_at, window_at, at, x, inside, width, block)
    da += 2 * a * _along(maps_at + count, window_at, at, x, inside, width, block)
    da += b * _along(maps_at + 2 * count, window_at, at, x, inside, width, block)
    tl.store(da_at + at, da * tl.load(up_at), mask=inside)


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        count, (height, width) = a.numel(), a.shape[2:]
        grid = (triton.cdiv(count, BLOCK),)
        window, blurred = gaussian_window(a), torch.empty(5, count, device=a.device)
        _columns[grid](a, b, window, blurred, count, height, width, BLOCK)
        sums, maps = torch.empty(grid, device=a.device), torch.empty(3, count, device=a.device)
        _rows[grid](blurred, window, sums, maps, count, width, BLOCK)
        ctx.save_for_backward(a, b, window, maps)
        return sums.sum() / count

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        a, b, window, maps = ctx.saved_tensors
        count, (height, width) = a.numel(), a.shape[2:]
        grid = (triton.cdiv(count, BLOCK),)
        blurred, da = torch.empty_like(maps), torch.empty_like(a)
        _back_columns[grid](maps, window, blurred, count, height, width, BLOCK)
        _back_rows[grid](blurred, window, a, b, up / count, da, count, width, BLOCK)
        return da, None


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity, scalar, of pictures float32 [B, C, H, W]; its gradient reaches
    `a` only.
    """
    assert a.shape == b.shape and a.dtype == b.dtype == torch.float32 and not b.requires_grad, (
        a.shape,
        b.shape,
    )
    return _Ssim.apply(a.contiguous(), b.contiguous())
