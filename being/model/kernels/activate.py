"""Triton kernels that activate Gaussians: raw parameters plus offsets, with gradients.

The same results as `CanonicalGaussians.activate`. Eager torch moves the offsets, 59 numbers for
each Gaussian and frame, through memory some six times.

B frames, N Gaussians, K harmonics. A row of P >= 11 + 3 K numbers holds the offsets of mean (3),
log scale (3), quaternion (4), opacity logit (1) and harmonics (3 K). Gradients of the raw
parameters are summed over the frames in order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 32  # Gaussians of one program
# First column of each parameter in a row of offsets.
SCALES, QUATERNIONS, OPACITY, HARMONICS = map(tl.constexpr, (3, 6, 10, 11))
MIN_LENGTH = tl.constexpr(1e-12)  # of a quaternion, as in torch.nn.functional.normalize


@triton.jit
def _load_block(at, rows, columns, valid, width: tl.constexpr):
    """Return a block [rows, 4] of a tensor [., width], width 3 or 4; zero beyond the width."""
    return tl.load(
        at + rows[:, None] * width + columns[None, :],
        mask=valid & (columns[None, :] < width),
        other=0.0,
    )


@triton.jit
def _store_block(at, rows, columns, valid, value, width: tl.constexpr):
    """Write a block [rows, 4] to a tensor [., width], width 3 or 4."""
    tl.store(
        at + rows[:, None] * width + columns[None, :],
        value,
        mask=valid & (columns[None, :] < width),
    )


@triton.jit
def _forward(
    packed_ptr, means_ptr, scales_ptr, quaternions_ptr, logits_ptr, dc_ptr, rest_ptr,
    means_out, quaternions_out, scales_out, opacities_out, sh_out,
    count,
    packed_width: tl.constexpr, sh_floats: tl.constexpr,
    sh_block: tl.constexpr, row_block: tl.constexpr,
):  # fmt: skip
    """Write the activated parameters of a block of Gaussians in one frame."""
    gaussian = tl.program_id(0) * row_block + tl.arange(0, row_block)
    valid_row, valid = gaussian < count, (gaussian < count)[:, None]
    row = tl.program_id(1).to(tl.int64) * count + gaussian
    column, coefficient = tl.arange(0, 4), tl.arange(0, sh_block)
    packed = packed_ptr + row[:, None] * packed_width
    three, four = valid & (column[None, :] < 3), valid & (column[None, :] < 4)

    # Mean, scale, quaternion and opacity.
    mean = _load_block(means_ptr, gaussian, column, valid, 3) + tl.load(
        packed + column[None, :], mask=three, other=0.0
    )
    _store_block(means_out, row, column, valid, mean, 3)
    scale = _load_block(scales_ptr, gaussian, column, valid, 3) + tl.load(
        packed + SCALES + column[None, :], mask=three, other=0.0
    )
    _store_block(scales_out, row, column, valid, tl.exp(scale), 3)
    quaternion = _load_block(quaternions_ptr, gaussian, column, valid, 4) + tl.load(
        packed + QUATERNIONS + column[None, :], mask=four, other=0.0
    )
    quaternion /= tl.maximum(tl.sqrt(tl.sum(quaternion * quaternion, 1)), MIN_LENGTH)[:, None]
    _store_block(quaternions_out, row, column, valid, quaternion, 4)
    logit = tl.load(logits_ptr + gaussian, mask=valid_row, other=0.0) + tl.load(
        packed_ptr + row * packed_width + OPACITY, mask=valid_row, other=0.0
    )
    tl.store(opacities_out + row, tl.sigmoid(logit), mask=valid_row)

    # Harmonics: the constant one, the others, and the offsets.
    used = valid & (coefficient[None, :] < sh_floats)
    sh = tl.load(
        dc_ptr + gaussian[:, None] * 3 + coefficient[None, :],
        mask=valid & (coefficient[None, :] < 3),
        other=0.0,
    )
    sh += tl.load(
        rest_ptr + gaussian[:, None] * (sh_floats - 3) + coefficient[None, :] - 3,
        mask=used & (coefficient[None, :] >= 3),
        other=0.0,
    )
    sh += tl.load(packed + HARMONICS + coefficient[None, :], mask=used, other=0.0)
    tl.store(sh_out + row[:, None] * sh_floats + coefficient[None, :], sh, mask=used)


@triton.jit
def _backward(
    packed_ptr, quaternions_ptr, scales_ptr, opacities_ptr,
    d_means_ptr, d_quaternions_ptr, d_scales_ptr, d_opacities_ptr, d_sh_ptr, d_packed_ptr,
    means_grad, scales_grad, quaternions_grad, logits_grad, dc_grad, rest_grad,
    count, frames,
    packed_width: tl.constexpr, sh_floats: tl.constexpr,
    sh_block: tl.constexpr, row_block: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a block of Gaussians: of the offsets, and of the raw parameters."""
    gaussian = tl.program_id(0) * row_block + tl.arange(0, row_block)
    valid_row, valid = gaussian < count, (gaussian < count)[:, None]
    column, coefficient = tl.arange(0, 4), tl.arange(0, sh_block)
    three, four = valid & (column[None, :] < 3), valid & (column[None, :] < 4)
    used = valid & (coefficient[None, :] < sh_floats)
    raw = _load_block(quaternions_ptr, gaussian, column, valid, 4)
    mean, scale = tl.zeros((row_block, 4), tl.float32), tl.zeros((row_block, 4), tl.float32)
    quaternion, sh = (
        tl.zeros((row_block, 4), tl.float32),
        tl.zeros((row_block, sh_block), tl.float32),
    )
    logit = tl.zeros((row_block,), tl.float32)

    # Write the gradients of each frame's offsets, and sum them over the frames. A `while` loop,
    # because the interpreter of Triton 3.6 takes no range of an argument.
    frame = 0
    while frame < frames:
        row = tl.cast(frame, tl.int64) * count + gaussian
        out = d_packed_ptr + row[:, None] * packed_width
        d_mean = _load_block(d_means_ptr, row, column, valid, 3)
        tl.store(out + column[None, :], d_mean, mask=three)
        mean += d_mean
        d_scale = _load_block(d_scales_ptr, row, column, valid, 3) * _load_block(
            scales_ptr, row, column, valid, 3
        )
        tl.store(out + SCALES + column[None, :], d_scale, mask=three)
        scale += d_scale
        q = raw + tl.load(
            packed_ptr + row[:, None] * packed_width + QUATERNIONS + column[None, :],
            mask=four,
            other=0.0,
        )
        length = tl.maximum(tl.sqrt(tl.sum(q * q, 1)), MIN_LENGTH)[:, None]
        q /= length
        d_quaternion = _load_block(d_quaternions_ptr, row, column, valid, 4)
        d_quaternion = (d_quaternion - q * tl.sum(d_quaternion * q, 1)[:, None]) / length
        tl.store(out + QUATERNIONS + column[None, :], d_quaternion, mask=four)
        quaternion += d_quaternion
        opacity = tl.load(opacities_ptr + row, mask=valid_row, other=0.0)
        d_logit = (
            tl.load(d_opacities_ptr + row, mask=valid_row, other=0.0) * opacity * (1 - opacity)
        )
        tl.store(d_packed_ptr + row * packed_width + OPACITY, d_logit, mask=valid_row)
        logit += d_logit
        d_sh = tl.load(
            d_sh_ptr + row[:, None] * sh_floats + coefficient[None, :], mask=used, other=0.0
        )
        tl.store(
            out + HARMONICS + coefficient[None, :],
            d_sh,
            mask=valid & (coefficient[None, :] < packed_width - HARMONICS),
        )
        sh += d_sh
        frame += 1

    _store_block(means_grad, gaussian, column, valid, mean, 3)
    _store_block(scales_grad, gaussian, column, valid, scale, 3)
    _store_block(quaternions_grad, gaussian, column, valid, quaternion, 4)
    tl.store(logits_grad + gaussian, logit, mask=valid_row)
    tl.store(
        dc_grad + gaussian[:, None] * 3 + coefficient[None, :],
        sh,
        mask=valid & (coefficient[None, :] < 3),
    )
    tl.store(
        rest_grad + gaussian[:, None] * (sh_floats - 3) + coefficient[None, :] - 3,
        sh,
        mask=used & (coefficient[None, :] >= 3),
    )


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: Tensor, *raw: Tensor) -> tuple[Tensor, ...]:
        frames, count, packed_width = packed.shape
        sh_floats = 3 + raw[5].shape[1] * 3
        assert HARMONICS.value + sh_floats <= packed_width, (packed_width, sh_floats)
        sh_block = triton.next_power_of_2(packed_width - HARMONICS.value)
        ctx.sizes = dict(
            packed_width=packed_width, sh_floats=sh_floats, sh_block=sh_block, row_block=ROWS
        )
        means, quaternions, scales, opacities, sh = (
            packed.new_empty(frames, count, *shape)
            for shape in ((3,), (4,), (3,), (), (sh_floats // 3, 3))
        )
        grid = triton.cdiv(count, ROWS), frames
        _forward[grid](packed, *raw, means, quaternions, scales, opacities, sh, count, **ctx.sizes)
        ctx.save_for_backward(packed, raw[2], scales, opacities)
        ctx.shapes = [value.shape for value in raw]
        return means, quaternions, scales, opacities, sh

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
    """Return means [B, N, 3], quaternions [B, N, 4], scales, opacities and harmonics [B, N, K, 3].

    Quaternions have length one; scales are [B, N, 3], opacities [B, N]. packed: offsets float32
    [B, N, P], see the module's docstring; the raw parameters are float32, as `CanonicalGaussians`
    holds them.
    """
    return _Activate.apply(
        packed.contiguous(), means, log_scales, quaternions, opacity_logits, sh_dc, sh_rest
    )
