"""Triton kernels of an attention layer: attention to a few tokens, and addition with layer norm.

The projections fold into the tokens. With keys k_s and values v_s of token s, in head h, the logit
of a query x is (W_q x + b_q) . k_s / sqrt(d) = x . A_s + c_s, and the output after W_concat is a
mixture of W_concat v_s =: U_s. So a query meets a [D, T] and a [T, D] matrix per frame, with T =
heads x tokens, whatever the width of the projections.

B frames, N queries, D their width. Gradients are summed in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from being.model.kernels.mlp import FLOAT32_PRECISION, dropout_scale

ROWS = 64  # queries of one program at a time
CHUNKS = 16  # of one frame's queries, for sums of gradients
NORM_CHUNKS = 256  # of all rows, for sums of gradients
MIN_DOT_SIDE = 16  # the smallest side of a matrix product in Triton


@triton.jit
def _softmax_shares(
    x,
    a,
    c,
    heads: tl.constexpr,
    tokens: tl.constexpr,
    row_block: tl.constexpr,
    precision: tl.constexpr,
):
    """Return the attention weights [rows, heads, tokens]."""
    logits = tl.reshape(
        tl.dot(x, a, input_precision=precision) + c[None, :], (row_block, heads, tokens)
    )
    share = tl.exp(logits - tl.max(logits, 2)[:, :, None])
    return share / tl.sum(share, 2)[:, :, None]


@triton.jit
def _attend(
    x_ptr,
    a_ptr,
    c_ptr,
    u_ptr,
    y_ptr,
    queries,
    x_stride,
    width: tl.constexpr,
    heads: tl.constexpr,
    tokens: tl.constexpr,
    precision: tl.constexpr,
    row_block: tl.constexpr,
):
    """Write the attention output of a block of queries in one frame."""
    pairs: tl.constexpr = heads * tokens
    frame = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * row_block + tl.arange(0, row_block)
    d, t = tl.arange(0, width), tl.arange(0, pairs)
    valid = rows[:, None] < queries
    x = tl.load(
        x_ptr + frame * x_stride + rows[:, None] * width + d[None, :], mask=valid, other=0.0
    )
    a = tl.load(a_ptr + frame * width * pairs + d[:, None] * pairs + t[None, :]).to(x.dtype)
    u = tl.load(u_ptr + frame * pairs * width + t[:, None] * width + d[None, :]).to(x.dtype)
    share = tl.reshape(
        _softmax_shares(
            x, a, tl.load(c_ptr + frame * pairs + t), heads, tokens, row_block, precision
        ),
        (row_block, pairs),
    )
    y = tl.dot(share.to(x.dtype), u, input_precision=precision)
    tl.store(
        y_ptr + (frame * queries + rows[:, None]) * width + d[None, :],
        y.to(y_ptr.dtype.element_ty),
        mask=valid,
    )


@triton.jit
def _attend_backward(
    x_ptr,
    a_ptr,
    c_ptr,
    u_ptr,
    dy_ptr,
    dx_ptr,
    da_ptr,
    dc_ptr,
    du_ptr,
    queries,
    x_stride,
    per_chunk: tl.constexpr,
    width: tl.constexpr,
    heads: tl.constexpr,
    tokens: tl.constexpr,
    precision: tl.constexpr,
    row_block: tl.constexpr,
):
    """Write the gradients of a chunk of queries; those of a, c and u are partial sums."""
    pairs: tl.constexpr = heads * tokens
    chunk, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    d, t = tl.arange(0, width), tl.arange(0, pairs)
    a = tl.load(a_ptr + frame * width * pairs + d[:, None] * pairs + t[None, :])
    u = tl.load(u_ptr + frame * pairs * width + t[:, None] * width + d[None, :])
    c = tl.load(c_ptr + frame * pairs + t)
    da, du = tl.zeros((width, pairs), tl.float32), tl.zeros((pairs, width), tl.float32)
    dc = tl.zeros((pairs,), tl.float32)
    for start in range(0, per_chunk, row_block):
        rows = chunk * per_chunk + start + tl.arange(0, row_block)
        valid = rows[:, None] < queries
        x = tl.load(
            x_ptr + frame * x_stride + rows[:, None] * width + d[None, :], mask=valid, other=0.0
        )
        at = (frame * queries + rows[:, None]) * width + d[None, :]
        dy = tl.load(dy_ptr + at, mask=valid, other=0.0).to(x.dtype)
        share = _softmax_shares(x, a.to(x.dtype), c, heads, tokens, row_block, precision)
        d_share = tl.reshape(
            tl.dot(dy, tl.trans(u.to(x.dtype)), input_precision=precision),
            (row_block, heads, tokens),
        )
        d_share = share * (d_share - tl.sum(share * d_share, 2)[:, :, None])
        flat = tl.reshape(d_share, (row_block, pairs))
        dx = tl.dot(flat.to(x.dtype), tl.trans(a.to(x.dtype)), input_precision=precision)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=valid)
        da += tl.dot(tl.trans(x), flat.to(x.dtype), input_precision=precision)
        du += tl.dot(
            tl.trans(tl.reshape(share, (row_block, pairs)).to(x.dtype)),
            dy,
            input_precision=precision,
        )
        dc += tl.sum(tl.where(valid, flat, 0.0), 0)
    sums = frame * tl.num_programs(0) + chunk
    tl.store(da_ptr + sums * width * pairs + d[:, None] * pairs + t[None, :], da)
    tl.store(du_ptr + sums * pairs * width + t[:, None] * width + d[None, :], du)
    tl.store(dc_ptr + sums * pairs + t, dc)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, c: Tensor, u: Tensor, heads: int, precision: str
    ) -> Tensor:
        frames, width, pairs = a.shape
        queries = x.shape[1]
        ctx.sizes = dict(
            width=width, heads=heads, tokens=pairs // heads, precision=precision, row_block=ROWS
        )
        ctx.stride = 0 if x.shape[0] == 1 else queries * width
        y = torch.empty(frames, queries, width, device=x.device, dtype=x.dtype)
        _attend[triton.cdiv(queries, ROWS), frames](x, a, c, u, y, queries, ctx.stride, **ctx.sizes)
        ctx.save_for_backward(x, a, c, u)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, a, c, u = ctx.saved_tensors
        frames, width, pairs = a.shape
        queries, dy = x.shape[1], dy.contiguous()
        per_chunk = triton.cdiv(triton.cdiv(queries, CHUNKS), ROWS) * ROWS
        chunks = triton.cdiv(queries, per_chunk)
        dx = torch.empty(frames, queries, width, device=x.device, dtype=x.dtype)

        def partial(*shape: int) -> Tensor:
            return torch.empty(frames, chunks, *shape, device=x.device, dtype=torch.float32)

        da, dc, du = partial(width, pairs), partial(pairs), partial(pairs, width)
        _attend_backward[chunks, frames](
            x, a, c, u, dy, dx, da, dc, du, queries, ctx.stride, per_chunk, **ctx.sizes
        )
        if x.shape[0] == 1:
            dx = dx.sum(0, keepdim=True, dtype=torch.float32).to(x.dtype)
        return dx, da.sum(1), dc.sum(1), du.sum(1), None, None


def attend(
    x: Tensor, a: Tensor, c: Tensor, u: Tensor, *, precision: str = FLOAT32_PRECISION
) -> Tensor:
    """Return the attention output [B, N, D]: `u` weighted by softmax(x a + c) in each head.

    x [B or 1, N, D]; a float32 [B, D, heads, tokens], c [B, heads, tokens], u [B, heads, tokens,
    D]. Tokens and heads are padded to sizes that the hardware can multiply. precision: as in `mlp`.
    The result has the type of x.
    """
    frames, width, heads, tokens = a.shape
    assert x.shape[0] in (1, frames) and x.shape[2] == width, (x.shape, a.shape)
    assert u.shape == (frames, heads, tokens, width), (u.shape, a.shape)

    # A padded token has a logit of -1e30, so its weight is 0. The u of a padded head is 0.
    padded_tokens = triton.next_power_of_2(tokens)
    padded_heads = max(triton.next_power_of_2(heads), MIN_DOT_SIDE // padded_tokens)
    pad = (0, padded_tokens - tokens, 0, padded_heads - heads)
    a = torch.nn.functional.pad(a, pad).flatten(2)
    c = torch.nn.functional.pad(
        torch.nn.functional.pad(c, (0, padded_tokens - tokens), value=-1e30),
        (0, 0, 0, padded_heads - heads),
    )
    u = torch.nn.functional.pad(u, (0, 0, *pad)).flatten(1, 2)
    return _Attend.apply(
        x.contiguous(),
        a.contiguous(),
        c.flatten(1).contiguous(),
        u.contiguous(),
        padded_heads,
        precision,
    )


@triton.jit
def _normed(x, a, rows, d, seed_ptr, width: tl.constexpr, drop: tl.constexpr, eps: tl.constexpr):
    """Return x + dropout(a) normalised along each row, and the reciprocal standard deviation."""
    total = x.to(tl.float32)
    if drop > 0.0:
        total += a.to(tl.float32) * dropout_scale(seed_ptr, rows, d, width, drop)
    else:
        total += a.to(tl.float32)
    total -= (tl.sum(total, 1) / width)[:, None]
    scale = tl.rsqrt(tl.sum(total * total, 1) / width + eps)
    return total * scale[:, None], scale


@triton.jit
def _add_norm(
    x_ptr,
    a_ptr,
    gamma_ptr,
    beta_ptr,
    y_ptr,
    count,
    queries,
    seed_ptr,
    width: tl.constexpr,
    drop: tl.constexpr,
    eps: tl.constexpr,
    row_block: tl.constexpr,
):
    """Write the layer norm of x + dropout(a) for a block of rows."""
    rows = tl.program_id(0).to(tl.int64) * row_block + tl.arange(0, row_block)
    d = tl.arange(0, width)
    valid = rows[:, None] < count
    x = tl.load(x_ptr + (rows % queries)[:, None] * width + d[None, :], mask=valid, other=0.0)
    a = tl.load(a_ptr + rows[:, None] * width + d[None, :], mask=valid, other=0.0)
    normed, _ = _normed(x, a, rows, d, seed_ptr, width, drop, eps)
    y = normed * tl.load(gamma_ptr + d)[None, :] + tl.load(beta_ptr + d)[None, :]
    tl.store(y_ptr + rows[:, None] * width + d[None, :], y.to(y_ptr.dtype.element_ty), mask=valid)


@triton.jit
def _add_norm_backward(
    x_ptr,
    a_ptr,
    gamma_ptr,
    dy_ptr,
    dx_ptr,
    da_ptr,
    dgamma_ptr,
    dbeta_ptr,
    count,
    queries,
    seed_ptr,
    per_chunk: tl.constexpr,
    width: tl.constexpr,
    drop: tl.constexpr,
    eps: tl.constexpr,
    row_block: tl.constexpr,
):
    """Write the gradients of a chunk of rows; those of gamma and beta are partial sums."""
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, width)
    gamma = tl.load(gamma_ptr + d)
    dgamma, dbeta = tl.zeros((width,), tl.float32), tl.zeros((width,), tl.float32)
    for start in range(0, per_chunk, row_block):
        rows = chunk * per_chunk + start + tl.arange(0, row_block)
        valid = rows[:, None] < count
        x = tl.load(x_ptr + (rows % queries)[:, None] * width + d[None, :], mask=valid, other=0.0)
        a = tl.load(a_ptr + rows[:, None] * width + d[None, :], mask=valid, other=0.0)
        dy = tl.load(dy_ptr + rows[:, None] * width + d[None, :], mask=valid, other=0.0).to(
            tl.float32
        )
        normed, scale = _normed(x, a, rows, d, seed_ptr, width, drop, eps)
        normed = tl.where(valid, normed, 0.0)
        dgamma += tl.sum(dy * normed, 0)
        dbeta += tl.sum(dy, 0)
        dx = dy * gamma[None, :]
        dx -= (tl.sum(dx, 1) / width)[:, None] + normed * (tl.sum(dx * normed, 1) / width)[:, None]
        dx *= scale[:, None]
        tl.store(
            dx_ptr + rows[:, None] * width + d[None, :], dx.to(dx_ptr.dtype.element_ty), mask=valid
        )
        if drop > 0.0:
            dx *= dropout_scale(seed_ptr, rows, d, width, drop)
            tl.store(
                da_ptr + rows[:, None] * width + d[None, :],
                dx.to(da_ptr.dtype.element_ty),
                mask=valid,
            )
    tl.store(dgamma_ptr + chunk * width + d, dgamma)
    tl.store(dbeta_ptr + chunk * width + d, dbeta)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: Tensor,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        drop: float,
        seed: Tensor | None,
    ) -> Tensor:
        width = a.shape[-1]
        count, queries = a.numel() // width, x.numel() // width
        ctx.sizes = dict(width=width, drop=drop, eps=eps, row_block=ROWS)
        y = torch.empty_like(a)
        _add_norm[triton.cdiv(count, ROWS),](
            x, a, gamma, beta, y, count, queries, seed, **ctx.sizes
        )
        ctx.save_for_backward(x, a, gamma)
        ctx.seed = seed
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, a, gamma = ctx.saved_tensors
        width = a.shape[-1]
        count, queries, dy = a.numel() // width, x.numel() // width, dy.contiguous()
        per_chunk = triton.cdiv(triton.cdiv(count, NORM_CHUNKS), ROWS) * ROWS
        chunks = triton.cdiv(count, per_chunk)
        dx = torch.empty_like(a)
        da = torch.empty_like(a) if ctx.sizes["drop"] > 0 else dx
        dgamma, dbeta = (
            torch.empty(chunks, width, device=a.device, dtype=torch.float32) for _ in range(2)
        )
        _add_norm_backward[chunks,](
            x, a, gamma, dy, dx, da, dgamma, dbeta, count, queries, ctx.seed, per_chunk, **ctx.sizes
        )
        if queries < count:
            dx = dx.sum(0, keepdim=True, dtype=torch.float32).to(x.dtype)
        return dx, da, dgamma.sum(0), dbeta.sum(0), None, None, None


def add_norm(
    x: Tensor,
    a: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    eps: float,
    drop: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Return the layer normalisation of x + dropout(a), [B, N, D] in the type of a.

    x [B or 1, N, D], a [B, N, D]; gamma and beta float32 [D]; drop and seed as in `mlp`.
    """
    assert x.shape[1:] == a.shape[1:] and x.dtype == a.dtype, (x.shape, a.shape)
    return _AddNorm.apply(x.contiguous(), a.contiguous(), gamma, beta, eps, drop, seed)
