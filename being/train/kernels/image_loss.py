"""Triton kernels for the image losses: composite, difference and sum in one pass.

They give the same numbers as the PyTorch terms of `Objective`, which move the images of a batch
through memory about thirty times. `mean_difference` compares two feature maps. Rendered frames are
[B, 3, S, S]; the bytes of the whole clip are [F, ., S, S].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # px per program


class ClipImages(NamedTuple):
    """The bytes of a clip on the device, and the boxes in which differences are summed.

    A box is int32: top, bottom, left, right in px.
    """

    target: Tensor  # [F, 3, S, S] uint8
    plate: Tensor  # [F, 3, S, S] uint8
    mask: Tensor  # [F, 1, S, S] uint8
    window: Tensor  # [F, 4] int32
    lips: Tensor  # [F, 4] int32
    eyes: Tensor  # [F, 4] int32


@triton.jit
def _in_box(box_ptr, frame, y, x):
    top, bottom = tl.load(box_ptr + frame * 4), tl.load(box_ptr + frame * 4 + 1)
    left, right = tl.load(box_ptr + frame * 4 + 2), tl.load(box_ptr + frame * 4 + 3)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


@triton.jit
def _forward(
    rgb_ptr,
    alpha_ptr,
    index_ptr,
    target_ptr,
    plate_ptr,
    mask_ptr,
    window_ptr,
    lips_ptr,
    eyes_ptr,
    image_ptr,
    target_out_ptr,
    sums_ptr,
    side,
    block: tl.constexpr,
):
    """Composite, target and the four sums of one block of pixels (axis 0) of a frame (axis 1)."""
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    area = side * side
    inside = pixel < area
    y, x = pixel // side, pixel % side
    b, frame = tl.program_id(1).to(tl.int64), tl.load(index_ptr + tl.program_id(1))
    alpha = tl.load(alpha_ptr + b * area + pixel, mask=inside, other=0.0)
    mask = tl.load(mask_ptr + frame * area + pixel, mask=inside, other=0).to(tl.float32) / 255
    error = tl.zeros((block,), tl.float32)
    for channel in tl.static_range(3):
        at, byte = (b * 3 + channel) * area + pixel, (frame * 3 + channel) * area + pixel
        plate = tl.load(plate_ptr + byte, mask=inside, other=0).to(tl.float32) / 255
        target = tl.load(target_ptr + byte, mask=inside, other=0).to(tl.float32) / 255
        image = tl.load(rgb_ptr + at, mask=inside, other=0.0) + (1 - alpha) * plate
        tl.store(image_ptr + at, image, mask=inside)
        tl.store(target_out_ptr + at, target, mask=inside)
        error += tl.where(inside, tl.abs(image - target), 0.0)
    sums = sums_ptr + (b * tl.num_programs(0) + tl.program_id(0)) * 4
    tl.store(sums, tl.sum(tl.where(_in_box(window_ptr, frame, y, x), error, 0.0), 0))
    tl.store(sums + 1, tl.sum(tl.abs(alpha - mask), 0))
    tl.store(sums + 2, tl.sum(tl.where(_in_box(lips_ptr, frame, y, x), error, 0.0), 0))
    tl.store(sums + 3, tl.sum(tl.where(_in_box(eyes_ptr, frame, y, x), error, 0.0), 0))


@triton.jit
def _sign(value):
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0))


@triton.jit
def _backward(
    image_ptr,
    alpha_ptr,
    index_ptr,
    target_ptr,
    plate_ptr,
    mask_ptr,
    window_ptr,
    lips_ptr,
    eyes_ptr,
    d_image_ptr,
    d_sums_ptr,
    d_rgb_ptr,
    d_alpha_ptr,
    side,
    block: tl.constexpr,
):
    """Gradients of colour and alpha: each sum's gradient times the sign of the difference."""
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    area = side * side
    inside = pixel < area
    y, x = pixel // side, pixel % side
    b, frame = tl.program_id(1).to(tl.int64), tl.load(index_ptr + tl.program_id(1))
    weight = tl.where(_in_box(window_ptr, frame, y, x), tl.load(d_sums_ptr + b * 4), 0.0)
    weight += tl.where(_in_box(lips_ptr, frame, y, x), tl.load(d_sums_ptr + b * 4 + 2), 0.0)
    weight += tl.where(_in_box(eyes_ptr, frame, y, x), tl.load(d_sums_ptr + b * 4 + 3), 0.0)
    alpha = tl.load(alpha_ptr + b * area + pixel, mask=inside, other=0.0)
    mask = tl.load(mask_ptr + frame * area + pixel, mask=inside, other=0).to(tl.float32) / 255
    d_alpha = tl.load(d_sums_ptr + b * 4 + 1) * _sign(alpha - mask)
    for channel in tl.static_range(3):
        at, byte = (b * 3 + channel) * area + pixel, (frame * 3 + channel) * area + pixel
        plate = tl.load(plate_ptr + byte, mask=inside, other=0).to(tl.float32) / 255
        target = tl.load(target_ptr + byte, mask=inside, other=0).to(tl.float32) / 255
        d = tl.load(d_image_ptr + at, mask=inside, other=0.0)
        d += weight * _sign(tl.load(image_ptr + at, mask=inside, other=0.0) - target)
        tl.store(d_rgb_ptr + at, d, mask=inside)
        d_alpha -= d * plate
    tl.store(d_alpha_ptr + b * area + pixel, d_alpha, mask=inside)


class _Compare(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rgb: Tensor, alpha: Tensor, index: Tensor, *clip: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        frames, _, side, _ = rgb.shape
        grid = triton.cdiv(side * side, BLOCK), frames
        image, target = torch.empty_like(rgb), torch.empty_like(rgb)
        sums = torch.empty(frames, grid[0], 4, device=rgb.device)
        _forward[grid](rgb, alpha, index, *clip, image, target, sums, side, BLOCK)
        ctx.save_for_backward(image, alpha, index, *clip)
        ctx.mark_non_differentiable(target)
        return image, target, sums.sum(1)

    @staticmethod
    def backward(ctx: Any, d_image: Tensor, _: Tensor, d_sums: Tensor) -> tuple[Tensor | None, ...]:
        image, alpha, index, *clip = ctx.saved_tensors
        side = image.shape[2]
        d_rgb, d_alpha = torch.empty_like(image), torch.empty_like(alpha)
        _backward[triton.cdiv(side * side, BLOCK), len(image)](
            image,
            alpha,
            index,
            *clip,
            d_image.contiguous(),
            d_sums.contiguous(),
            d_rgb,
            d_alpha,
            side,
            BLOCK,
        )
        return d_rgb, d_alpha, *[None] * 7


def compare_images(
    rgb: Tensor, alpha: Tensor, index: Tensor, clip: ClipImages
) -> tuple[Tensor, Tensor, Tensor]:
    """Composites and targets, float32 [B, 3, S, S] in [0, 1], and four sums [B, 4].

    The sums are absolute differences: of colour in the window, of alpha and mask, of colour in the
    lip box, of colour in the eye box. rgb: float32 [B, 3, S, S], premultiplied; alpha: [B, 1, S,
    S]; index: int64 [B], frames of the clip.
    """
    assert rgb.shape[2] == rgb.shape[3] and rgb.shape[2:] == clip.plate.shape[2:], (
        rgb.shape,
        clip.plate.shape,
    )
    return _Compare.apply(rgb.contiguous(), alpha.contiguous(), index, *clip)


@triton.jit
def _difference(a_ptr, b_ptr, sums_ptr, count, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    a = tl.load(a_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(sums_ptr + tl.program_id(0), tl.sum(tl.abs(a - b), 0))


@triton.jit
def _difference_back(a_ptr, b_ptr, d_out_ptr, d_ptr, count, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    a = tl.load(a_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    b = tl.load(b_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(
        d_ptr + at, (_sign(a - b) * tl.load(d_out_ptr)).to(d_ptr.dtype.element_ty), mask=at < count
    )


class _MeanDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        count = a.numel()
        sums = torch.empty(triton.cdiv(count, 4 * BLOCK), device=a.device)
        _difference[len(sums),](a, b, sums, count, 4 * BLOCK)
        ctx.save_for_backward(a, b)
        return sums.sum() / count

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        d = torch.empty_like(a)
        _difference_back[triton.cdiv(a.numel(), 4 * BLOCK),](
            a, b, d_out / a.numel(), d, a.numel(), 4 * BLOCK
        )
        return d, None


def mean_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of two maps, a float32 scalar; only `a` gets a gradient.

    Both maps must have the same dtype and layout.
    """
    assert a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride(), (
        a.stride(),
        b.stride(),
    )
    return _MeanDifference.apply(a, b)
