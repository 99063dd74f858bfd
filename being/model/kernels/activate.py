"""From raw parameters and a frame's offsets to the Gaussians that are drawn: one kernel each way.

The same numbers as `CanonicalGaussians.activate`; eager torch moves the offsets, 59 numbers a
Gaussian and frame, through memory some six times. B frames, N Gaussians, K harmonics; a row of P >=
11 + 3 K numbers holds offsets of mean (3), log scale (3), quaternion (4), opacity logit (1) and
harmonics (3 K). Gradients of the raw parameters are summed over the frames in order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 32
SCALES, QUATERNIONS, OPACITY, HARMONICS = (
    tl.constexpr(n) for n in (3, 6, 10, 11)
)  # first column of each
TINY = tl.constexpr(1e-12)  # torch.nn.functional.normalize's


@triton.jit
def _small(at, rows, columns, inside, width: tl.constexpr):
    """A block [rows, 4] of a tensor [., width], width 3 or 4, zero beyond."""
    return tl.load(
        at + rows[:, None] * width + columns[None, :],
        mask=inside & (columns[None, :] < width),
        other=0.0,
    )


@triton.jit
def _put(at, rows, columns, inside, value, width: tl.constexpr):
    tl.store(
        at + rows[:, None] * width + columns[None, :],
        value,
        mask=inside & (columns[None, :] < width),
    )


@triton.jit
def _forward(
    packed_at,
    means_at,
    scales_at,
    quaternions_at,
    logits_at,
    dc_at,
    rest_at,
    o_means,
    o_quaternions,
    o_scales,
    o_opacities,
    o_sh,
    count,
    wide: tl.constexpr,
    numbers: tl.constexpr,
    block: tl.constexpr,
    rows_: tl.constexpr,
):
    n = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    one, inside = n < count, (n < count)[:, None]
    row = tl.program_id(1).to(tl.int64) * count + n
    c, h = tl.arange(0, 4), tl.arange(0, block)
    packed = packed_at + row[:, None] * wide
    three, four = inside & (c[None, :] < 3), inside & (c[None, :] < 4)
    mean = _small(means_at, n, c, inside, 3) + tl.load(packed + c[None, :], mask=three, other=0.0)
    _put(o_means, row, c, inside, mean, 3)
    scale = _small(scales_at, n, c, inside, 3) + tl.load(
        packed + SCALES + c[None, :], mask=three, other=0.0
    )
    _put(o_scales, row, c, inside, tl.exp(scale), 3)
    turn = _small(quaternions_at, n, c, inside, 4) + tl.load(
        packed + QUATERNIONS + c[None, :], mask=four, other=0.0
    )
    turn /= tl.maximum(tl.sqrt(tl.sum(turn * turn, 1)), TINY)[:, None]
    _put(o_quaternions, row, c, inside, turn, 4)
    logit = tl.load(logits_at + n, mask=one, other=0.0) + tl.load(
        packed_at + row * wide + OPACITY, mask=one, other=0.0
    )
    tl.store(o_opacities + row, tl.sigmoid(logit), mask=one)
    used = inside & (h[None, :] < numbers)
    sh = tl.load(dc_at + n[:, None] * 3 + h[None, :], mask=inside & (h[None, :] < 3), other=0.0)
    sh += tl.load(
        rest_at + n[:, None] * (numbers - 3) + h[None, :] - 3,
        mask=used & (h[None, :] >= 3),
        other=0.0,
    )
    sh += tl.load(packed + HARMONICS + h[None, :], mask=used, other=0.0)
    tl.store(o_sh + row[:, None] * numbers + h[None, :], sh, mask=used)


@triton.jit
def _backward(
    packed_at,
    quaternions_at,
    scales_at,
    opacities_at,
    d_means_at,
    d_turns_at,
    d_scales_at,
    d_opacities_at,
    d_sh_at,
    d_packed_at,
    g_means,
    g_scales,
    g_quaternions,
    g_logits,
    g_dc,
    g_rest,
    count,
    frames,
    wide: tl.constexpr,
    numbers: tl.constexpr,
    block: tl.constexpr,
    rows_: tl.constexpr,
):
    n = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    one, inside = n < count, (n < count)[:, None]
    c, h = tl.arange(0, 4), tl.arange(0, block)
    three, four = inside & (c[None, :] < 3), inside & (c[None, :] < 4)
    used = inside & (h[None, :] < numbers)
    raw = _small(quaternions_at, n, c, inside, 4)
    mean, scale = tl.zeros((rows_, 4), tl.float32), tl.zeros((rows_, 4), tl.float32)
    turn, sh = tl.zeros((rows_, 4), tl.float32), tl.zeros((rows_, block), tl.float32)
    logit = tl.zeros((rows_,), tl.float32)
    frame = 0
    while frame < frames:  # Triton 3.6's interpreter takes no range of an argument
        row = tl.cast(frame, tl.int64) * count + n
        out = d_packed_at + row[:, None] * wide
        d_mean = _small(d_means_at, row, c, inside, 3)
        tl.store(out + c[None, :], d_mean, mask=three)
        mean += d_mean
        d_scale = _small(d_scales_at, row, c, inside, 3) * _small(scales_at, row, c, inside, 3)
        tl.store(out + SCALES + c[None, :], d_scale, mask=three)
        scale += d_scale
        q = raw + tl.load(
            packed_at + row[:, None] * wide + QUATERNIONS + c[None, :], mask=four, other=0.0
        )
        length = tl.maximum(tl.sqrt(tl.sum(q * q, 1)), TINY)[:, None]
        q /= length
        d_turn = _small(d_turns_at, row, c, inside, 4)
        d_turn = (d_turn - q * tl.sum(d_turn * q, 1)[:, None]) / length
        tl.store(out + QUATERNIONS + c[None, :], d_turn, mask=four)
        turn += d_turn
        opacity = tl.load(opacities_at + row, mask=one, other=0.0)
        d_logit = tl.load(d_opacities_at + row, mask=one, other=0.0) * opacity * (1 - opacity)
        tl.store(d_packed_at + row * wide + OPACITY, d_logit, mask=one)
        logit += d_logit
        d_sh = tl.load(d_sh_at + row[:, None] * numbers + h[None, :], mask=used, other=0.0)
        tl.store(out + HARMONICS + h[None, :], d_sh, mask=inside & (h[None, :] < wide - HARMONICS))
        sh += d_sh
        frame += 1
    _put(g_means, n, c, inside, mean, 3)
    _put(g_scales, n, c, inside, scale, 3)
    _put(g_quaternions, n, c, inside, turn, 4)
    tl.store(g_logits + n, logit, mask=one)
    tl.store(g_dc + n[:, None] * 3 + h[None, :], sh, mask=inside & (h[None, :] < 3))
    tl.store(
        g_rest + n[:, None] * (numbers - 3) + h[None, :] - 3, sh, mask=used & (h[None, :] >= 3)
    )


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: Tensor, *raw: Tensor) -> tuple[Tensor, ...]:
        frames, count, wide = packed.shape
        numbers = 3 + raw[5].shape[1] * 3
        assert HARMONICS.value + numbers <= wide, (wide, numbers)
        block = triton.next_power_of_2(wide - HARMONICS.value)
        ctx.sizes = dict(wide=wide, numbers=numbers, block=block, rows_=ROWS)
        means, turns, scales, opacities, sh = (
            packed.new_empty(frames, count, *shape)
            for shape in ((3,), (4,), (3,), (), (numbers // 3, 3))
        )
        grid = triton.cdiv(count, ROWS), frames
        _forward[grid](packed, *raw, means, turns, scales, opacities, sh, count, **ctx.sizes)
        ctx.save_for_backward(packed, raw[2], scales, opacities)
        ctx.shapes = [value.shape for value in raw]
        return means, turns, scales, opacities, sh

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor, ...]:
        packed, quaternions, scales, opacities = ctx.saved_tensors
        frames, count, _ = packed.shape
        d_packed, raw = torch.empty_like(packed), [packed.new_empty(shape) for shape in ctx.shapes]
        _backward[triton.cdiv(count, ROWS),](
            packed,
            quaternions,
            scales,
            opacities,
            *(d.contiguous() for d in up),
            d_packed,
            *raw,
            count,
            frames,
            **ctx.sizes,
        )
        return d_packed, *raw


def activate(
    packed: Tensor,
    means: Tensor,
    log_scales: Tensor,
    quaternions: Tensor,
    opacity_logits: Tensor,
    sh_dc: Tensor,
    sh_rest: Tensor,
) -> tuple[Tensor, ...]:
    """Means [B, N, 3], unit quaternions [B, N, 4], scales [B, N, 3], opacities [B, N], harmonics
    [B, N, K, 3].

    packed: offsets float32 [B, N, P] (see above); the raw parameters float32 as
    `CanonicalGaussians` holds them.
    """
    return _Activate.apply(
        packed.contiguous(), means, log_scales, quaternions, opacity_logits, sh_dc, sh_rest
    )
