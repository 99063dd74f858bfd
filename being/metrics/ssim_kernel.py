"""Structural similarity as Triton kernels, forward and backward; equal to `image_quality.ssim`.

The window is applied down the columns, then along the rows; every pass reads its neighbours from
the cache. The forward pass stores the derivatives of the result by the three blurred maps that
depend on the first image (mean, mean square, mean product); the backward pass blurs these again. A
form with products on the matrix units (the window as a band matrix) took 30 times as long, most of
it to move tiles into their layout.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from being.metrics.ssim_window import SSIM_C1, SSIM_C2, SSIM_WINDOW, gaussian_window

BLOCK = 1024  # px of one program
RADIUS = tl.constexpr(SSIM_WINDOW // 2)  # of the window, px
C1, C2 = tl.constexpr(SSIM_C1), tl.constexpr(SSIM_C2)


@triton.jit
def _blur_columns(a_ptr, b_ptr, window_ptr, out_ptr, count, height, width, block: tl.constexpr):
    """Write five maps [5, count] blurred down the columns: a, b, a^2, b^2, ab."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, y = at < count, (at // width) % height
    mean_a, mean_b = tl.zeros((block,), tl.float32), tl.zeros((block,), tl.float32)
    square_a, square_b = tl.zeros((block,), tl.float32), tl.zeros((block,), tl.float32)
    product = tl.zeros((block,), tl.float32)
    for k in tl.static_range(-RADIUS, RADIUS + 1):
        valid = inside & (y + k >= 0) & (y + k < height)
        a = tl.load(a_ptr + at + k * width, mask=valid, other=0.0)
        b = tl.load(b_ptr + at + k * width, mask=valid, other=0.0)
        weight = tl.load(window_ptr + k + RADIUS)
        mean_a += weight * a
        mean_b += weight * b
        square_a += weight * a * a
        square_b += weight * b * b
        product += weight * a * b
    tl.store(out_ptr + at, mean_a, mask=inside)
    tl.store(out_ptr + count + at, mean_b, mask=inside)
    tl.store(out_ptr + 2 * count + at, square_a, mask=inside)
    tl.store(out_ptr + 3 * count + at, square_b, mask=inside)
    tl.store(out_ptr + 4 * count + at, product, mask=inside)


@triton.jit
def _blur_row(map_ptr, window_ptr, at, x, inside, width, block: tl.constexpr):
    """Return a map blurred along the rows, at the pixels `at`."""
    total = tl.zeros((block,), tl.float32)
    for k in tl.static_range(-RADIUS, RADIUS + 1):
        valid = inside & (x + k >= 0) & (x + k < width)
        total += tl.load(window_ptr + k + RADIUS) * tl.load(map_ptr + at + k, mask=valid, other=0.0)
    return total


@triton.jit
def _similarity_rows(maps_ptr, window_ptr, sums_ptr, out_ptr, count, width, block: tl.constexpr):
    """Write the sum of the similarity over a block, and its derivatives [3, count].

    They are those by the mean of a, the mean of its square and the mean of the product.
    """
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, x = at < count, at % width

    # The five blurred maps make the factors of the similarity.
    mean_a = _blur_row(maps_ptr, window_ptr, at, x, inside, width, block)
    mean_b = _blur_row(maps_ptr + count, window_ptr, at, x, inside, width, block)
    contrast = (
        _blur_row(maps_ptr + 2 * count, window_ptr, at, x, inside, width, block) - mean_a * mean_a
    )
    contrast += (
        _blur_row(maps_ptr + 3 * count, window_ptr, at, x, inside, width, block)
        - mean_b * mean_b
        + C2
    )
    brightness = mean_a * mean_a + mean_b * mean_b + C1
    luminance = 2 * mean_a * mean_b + C1
    structure = (
        2
        * (
            _blur_row(maps_ptr + 4 * count, window_ptr, at, x, inside, width, block)
            - mean_a * mean_b
        )
        + C2
    )

    # The similarity and its derivatives.
    inverse = 1 / (brightness * contrast)
    value = luminance * structure * inverse
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0), 0))
    d_mean = 2 * mean_b * (structure - luminance) * inverse + 2 * mean_a * value * (
        1 / contrast - 1 / brightness
    )
    tl.store(out_ptr + at, d_mean, mask=inside)
    tl.store(out_ptr + count + at, -value / contrast, mask=inside)
    tl.store(out_ptr + 2 * count + at, 2 * luminance * inverse, mask=inside)


@triton.jit
def _backward_columns(maps_ptr, window_ptr, out_ptr, count, height, width, block: tl.constexpr):
    """Write three maps [3, count] blurred down the columns."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, y = at < count, (at // width) % height
    for part in tl.static_range(3):
        total = tl.zeros((block,), tl.float32)
        for k in tl.static_range(-RADIUS, RADIUS + 1):
            valid = inside & (y + k >= 0) & (y + k < height)
            total += tl.load(window_ptr + k + RADIUS) * tl.load(
                maps_ptr + part * count + at + k * width, mask=valid, other=0.0
            )
        tl.store(out_ptr + part * count + at, total, mask=inside)


@triton.jit
def _backward_rows(
    maps_ptr, window_ptr, a_ptr, b_ptr, up_ptr, da_ptr, count, width, block: tl.constexpr
):
    """Write the gradient of image a: the three maps blurred along the rows, by the chain rule."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside, x = at < count, at % width
    a, b = tl.load(a_ptr + at, mask=inside, other=0.0), tl.load(b_ptr + at, mask=inside, other=0.0)
    da = _blur_row(maps_ptr, window_ptr, at, x, inside, width, block)
    da += 2 * a * _blur_row(maps_ptr + count, window_ptr, at, x, inside, width, block)
    da += b * _blur_row(maps_ptr + 2 * count, window_ptr, at, x, inside, width, block)
    tl.store(da_ptr + at, da * tl.load(up_ptr), mask=inside)


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        count, (height, width) = a.numel(), a.shape[2:]
        grid = (triton.cdiv(count, BLOCK),)
        window, blurred = gaussian_window(a), torch.empty(5, count, device=a.device)
        _blur_columns[grid](a, b, window, blurred, count, height, width, BLOCK)
        sums, maps = torch.empty(grid, device=a.device), torch.empty(3, count, device=a.device)
        _similarity_rows[grid](blurred, window, sums, maps, count, width, BLOCK)
        ctx.save_for_backward(a, b, window, maps)
        return sums.sum() / count

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        a, b, window, maps = ctx.saved_tensors
        count, (height, width) = a.numel(), a.shape[2:]
        grid = (triton.cdiv(count, BLOCK),)
        blurred, da = torch.empty_like(maps), torch.empty_like(a)
        _backward_columns[grid](maps, window, blurred, count, height, width, BLOCK)
        _backward_rows[grid](blurred, window, a, b, up / count, da, count, width, BLOCK)
        return da, None


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity of images float32 [B, C, H, W], a scalar.

    Only `a` gets a gradient.
    """
    assert a.shape == b.shape, (a.shape, b.shape)
    assert a.dtype == b.dtype == torch.float32 and not b.requires_grad, (a.dtype, b.dtype)
    return _Ssim.apply(a.contiguous(), b.contiguous())
