"""Rendered frames against a clip's bytes on a GPU: composite, differences and their sums in one
pass, and back.

The same numbers as the plain terms of `Objective`, which move pictures of a batch through memory
some thirty times. Also the mean absolute difference of two feature maps. Frames are [B, 3, S, S],
bytes [F, ., S, S] of a whole clip.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # px of a program


class Pictures(NamedTuple):
    """A clip's bytes on the device, and the boxes [F, 4] int32 (top, bottom, left, right) of what
    is summed apart.
    """

    target: Tensor  # [F, 3, S, S] uint8
    plate: Tensor  # [F, 3, S, S] uint8
    mask: Tensor  # [F, 1, S, S] uint8
    window: Tensor  # [F, 4] int32
    lips: Tensor  # [F, 4] int32
    eyes: Tensor  # [F, 4] int32


@triton.jit
def _in_box(box_at, frame, y, x):
    top, bottom = tl.load(box_at + frame * 4), tl.load(box_at + frame * 4 + 1)
    left, right = tl.load(box_at + frame * 4 + 2), tl.load(box_at + frame * 4 + 3)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


@triton.jit
def _forward(
    rgb_at,
    alpha_at,
    index_at,
    target_at,
    plate_at,
    mask_at,
    window_at,
    lips_at,
    eyes_at,
    picture_at,
    goal_at,
    sums_at,
    side,
    block: tl.constexpr,
):
    place = tl.program_id(0) * block + tl.arange(0, block)
    area = side * side
    inside = place < area
    y, x = place // side, place % side
    b, frame = tl.program_id(1).to(tl.int64), tl.load(index_at + tl.program_id(1))
    alpha = tl.load(alpha_at + b * area + place, mask=inside, other=0.0)
    mask = tl.load(mask_at + frame * area + place, mask=inside, other=0).to(tl.float32) / 255
    error = tl.zeros((block,), tl.float32)
    for channel in tl.static_range(3):
        at, byte = (b * 3 + channel) * area + place, (frame * 3 + channel) * area + place
        plate = tl.load(plate_at + byte, mask=inside, other=0).to(tl.float32) / 255
        goal = tl.load(target_at + byte, mask=inside, other=0).to(tl.float32) / 255
        picture = tl.load(rgb_at + at, mask=inside, other=0.0) + (1 - alpha) * plate
        tl.store(picture_at + at, picture, mask=inside)
        tl.store(goal_at + at, goal, mask=inside)
        error += tl.where(inside, tl.abs(picture - goal), 0.0)
    sums = sums_at + (b * tl.num_programs(0) + tl.program_id(0)) * 4
    tl.store(sums, tl.sum(tl.where(_in_box(window_at, frame, y, x), error, 0.0), 0))
    tl.store(sums + 1, tl.sum(tl.abs(alpha - mask), 0))
    tl.store(sums + 2, tl.sum(tl.where(_in_box(lips_at, frame, y, x), error, 0.0), 0))
    tl.store(sums + 3, tl.sum(tl.where(_in_box(eyes_at, frame, y, x), error, 0.0), 0))


@triton.jit
def _sign(value):
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0))


@triton.jit
def _backward(
    picture_at,
    alpha_at,
    index_at,
    target_at,
    plate_at,
    mask_at,
    window_at,
    lips_at,
    eyes_at,
    up_at,
    sums_at,
    d_rgb_at,
    d_alpha_at,
    side,
    block: tl.constexpr,
):
    place = tl.program_id(0) * block + tl.arange(0, block)
    area = side * side
    inside = place < area
    y, x = place // side, place % side
    b, frame = tl.program_id(1).to(tl.int64), tl.load(index_at + tl.program_id(1))
    weight = tl.where(_in_box(window_at, frame, y, x), tl.load(sums_at + b * 4), 0.0)
    weight += tl.where(_in_box(lips_at, frame, y, x), tl.load(sums_at + b * 4 + 2), 0.0)
    weight += tl.where(_in_box(eyes_at, frame, y, x), tl.load(sums_at + b * 4 + 3), 0.0)
    alpha = tl.load(alpha_at + b * area + place, mask=inside, other=0.0)
    mask = tl.load(mask_at + frame * area + place, mask=inside, other=0).to(tl.float32) / 255
    d_alpha = tl.load(sums_at + b * 4 + 1) * _sign(alpha - mask)
    for channel in tl.static_range(3):
        at, byte = (b * 3 + channel) * area + place, (frame * 3 + channel) * area + place
        plate = tl.load(plate_at + byte, mask=inside, other=0).to(tl.float32) / 255
        goal = tl.load(target_at + byte, mask=inside, other=0).to(tl.float32) / 255
        d = tl.load(up_at + at, mask=inside, other=0.0)
        d += weight * _sign(tl.load(picture_at + at, mask=inside, other=0.0) - goal)
        tl.store(d_rgb_at + at, d, mask=inside)
        d_alpha -= d * plate
    tl.store(d_alpha_at + b * area + place, d_alpha, mask=inside)


class _Compare(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rgb: Tensor, alpha: Tensor, index: Tensor, *clip: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        frames, _, side, _ = rgb.shape
        grid = triton.cdiv(side * side, BLOCK), frames
        picture, goal = torch.empty_like(rgb), torch.empty_like(rgb)
        sums = torch.empty(frames, grid[0], 4, device=rgb.device)
        _forward[grid](rgb, alpha, index, *clip, picture, goal, sums, side, BLOCK)
        ctx.save_for_backward(picture, alpha, index, *clip)
        ctx.mark_non_differentiable(goal)
        return picture, goal, sums.sum(1)

    @staticmethod
    def backward(
        ctx: Any, d_picture: Tensor, _: Tensor, d_sums: Tensor
    ) -> tuple[Tensor | None, ...]:
        picture, alpha, index, *clip = ctx.saved_tensors
        side = picture.shape[2]
        d_rgb, d_alpha = torch.empty_like(picture), torch.empty_like(alpha)
        _backward[triton.cdiv(side * side, BLOCK), len(picture)](
            picture,
            alpha,
            index,
            *clip,
            d_picture.contiguous(),
            d_sums.contiguous(),
            d_rgb,
            d_alpha,
            side,
            BLOCK,
        )
        return d_rgb, d_alpha, *[None] * 7


def compare(
    rgb: Tensor, alpha: Tensor, index: Tensor, clip: Pictures
) -> tuple[Tensor, Tensor, Tensor]:
    """Composites over the plates and targets, float32 [B, 3, S, S] in [0, 1], and sums [B, 4]:
    absolute differences of colour in the window, of alpha and mask, of colour in the lips' and in
    the eyes' box.

    rgb float32 [B, 3, S, S] premultiplied, alpha [B, 1, S, S], index int64 [B] frames of the clip.
    """
    assert rgb.shape[2] == rgb.shape[3] and rgb.shape[2:] == clip.plate.shape[2:], (
        rgb.shape,
        clip.plate.shape,
    )
    return _Compare.apply(rgb.contiguous(), alpha.contiguous(), index, *clip)


@triton.jit
def _difference(a_at, b_at, sums_at, count, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    a = tl.load(a_at + at, mask=at < count, other=0.0).to(tl.float32)
    b = tl.load(b_at + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(sums_at + tl.program_id(0), tl.sum(tl.abs(a - b), 0))


@triton.jit
def _difference_back(a_at, b_at, up_at, d_at, count, block: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    a = tl.load(a_at + at, mask=at < count, other=0.0).to(tl.float32)
    b = tl.load(b_at + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(d_at + at, (_sign(a - b) * tl.load(up_at)).to(d_at.dtype.element_ty), mask=at < count)


class _MeanDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        count = a.numel()
        sums = torch.empty(triton.cdiv(count, 4 * BLOCK), device=a.device)
        _difference[len(sums),](a, b, sums, count, 4 * BLOCK)
        ctx.save_for_backward(a, b)
        return sums.sum() / count

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        d = torch.empty_like(a)
        _difference_back[triton.cdiv(a.numel(), 4 * BLOCK),](
            a, b, up / a.numel(), d, a.numel(), 4 * BLOCK
        )
        return d, None


def mean_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference, a float32 scalar, of maps of one type and layout; its gradient
    reaches `a` only.
    """
    assert a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride(), (
        a.stride(),
        b.stride(),
    )
    return _MeanDifference.apply(a, b)
