"""Attention of very many queries over the few tokens of a frame, and the sum-and-normalise that
follows it.

The projections fold into the tokens: with keys k_s and values v_s of token s, head h, the logit of
a query x is (W_q x + b_q) . k_s / sqrt(d) = x . A_s + c_s, and the output after W_concat is a
mixture of W_concat v_s =: U_s. So a query meets a [D, T] and a [T, D] matrix per frame, T = heads x
tokens, whatever the width of the projections. B frames, N queries, D their width. Gradients are
summed in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from being.model.kernels.mlp import EXACT, _kept

ROWS = 64
CHUNKS = 16  # of a frame's rows
NORM_CHUNKS = 256  # of all rows
LEAST = 16  # the smallest side of a product


@triton.jit
def _mix(
    x, a, c, heads: tl.constexpr, tokens: tl.constexpr, rows_: tl.constexpr, exact: tl.constexpr
):
    """Shares [rows, heads, tokens] of each token in each head."""
    logits = tl.reshape(tl.dot(x, a, input_precision=exact) + c[None, :], (rows_, heads, tokens))
    share = tl.exp(logits - tl.max(logits, 2)[:, :, None])
    return share / tl.sum(share, 2)[:, :, None]


@triton.jit
def _attend(
    x_at,
    a_at,
    c_at,
    u_at,
    y_at,
    queries,
    x_stride,
    width: tl.constexpr,
    heads: tl.constexpr,
    tokens: tl.constexpr,
    exact: tl.constexpr,
    rows_: tl.constexpr,
):
    both: tl.constexpr = heads * tokens
    frame = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    d, t = tl.arange(0, width), tl.arange(0, both)
    inside = rows[:, None] < queries
    x = tl.load(
        x_at + frame * x_stride + rows[:, None] * width + d[None, :], mask=inside, other=0.0
    )
    a = tl.load(a_at + frame * width * both + d[:, None] * both + t[None, :]).to(x.dtype)
    u = tl.load(u_at + frame * both * width + t[:, None] * width + d[None, :]).to(x.dtype)
    share = tl.reshape(
        _mix(x, a, tl.load(c_at + frame * both + t), heads, tokens, rows_, exact), (rows_, both)
    )
    y = tl.dot(share.to(x.dtype), u, input_precision=exact)
    tl.store(
        y_at + (frame * queries + rows[:, None]) * width + d[None, :],
        y.to(y_at.dtype.element_ty),
        mask=inside,
    )


@triton.jit
def _attend_backward(
    x_at,
    a_at,
    c_at,
    u_at,
    dy_at,
    dx_at,
    da_at,
    dc_at,
    du_at,
    queries,
    x_stride,
    per_chunk: tl.constexpr,
    width: tl.constexpr,
    heads: tl.constexpr,
    tokens: tl.constexpr,
    exact: tl.constexpr,
    rows_: tl.constexpr,
):
    both: tl.constexpr = heads * tokens
    chunk, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    d, t = tl.arange(0, width), tl.arange(0, both)
    a = tl.load(a_at + frame * width * both + d[:, None] * both + t[None, :])
    u = tl.load(u_at + frame * both * width + t[:, None] * width + d[None, :])
    c = tl.load(c_at + frame * both + t)
    da, du = tl.zeros((width, both), tl.float32), tl.zeros((both, width), tl.float32)
    dc = tl.zeros((both,), tl.float32)
    for start in range(0, per_chunk, rows_):
        rows = chunk * per_chunk + start + tl.arange(0, rows_)
        inside = rows[:, None] < queries
        x = tl.load(
            x_at + frame * x_stride + rows[:, None] * width + d[None, :], mask=inside, other=0.0
        )
        place = (frame * queries + rows[:, None]) * width + d[None, :]
        dy = tl.load(dy_at + place, mask=inside, other=0.0).to(x.dtype)
        share = _mix(x, a.to(x.dtype), c, heads, tokens, rows_, exact)
        change = tl.reshape(
            tl.dot(dy, tl.trans(u.to(x.dtype)), input_precision=exact), (rows_, heads, tokens)
        )
        change = share * (change - tl.sum(share * change, 2)[:, :, None])
        flat = tl.reshape(change, (rows_, both))
        dx = tl.dot(flat.to(x.dtype), tl.trans(a.to(x.dtype)), input_precision=exact)
        tl.store(dx_at + place, dx.to(dx_at.dtype.element_ty), mask=inside)
        da += tl.dot(tl.trans(x), flat.to(x.dtype), input_precision=exact)
        du += tl.dot(
            tl.trans(tl.reshape(share, (rows_, both)).to(x.dtype)), dy, input_precision=exact
        )
        dc += tl.sum(tl.where(inside, flat, 0.0), 0)
    sums = frame * tl.num_programs(0) + chunk
    tl.store(da_at + sums * width * both + d[:, None] * both + t[None, :], da)
    tl.store(du_at + sums * both * width + t[:, None] * width + d[None, :], du)
    tl.store(dc_at + sums * both + t, dc)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, c: Tensor, u: Tensor, heads: int, exact: str
    ) -> Tensor:
        frames, width, both = a.shape
        queries = x.shape[1]
        ctx.sizes = dict(width=width, heads=heads, tokens=both // heads, exact=exact, rows_=ROWS)
        ctx.stride = 0 if x.shape[0] == 1 else queries * width
        y = torch.empty(frames, queries, width, device=x.device, dtype=x.dtype)
        _attend[triton.cdiv(queries, ROWS), frames](x, a, c, u, y, queries, ctx.stride, **ctx.sizes)
        ctx.save_for_backward(x, a, c, u)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, a, c, u = ctx.saved_tensors
        frames, width, both = a.shape
        queries, dy = x.shape[1], dy.contiguous()
        per_chunk = triton.cdiv(triton.cdiv(queries, CHUNKS), ROWS) * ROWS
        chunks = triton.cdiv(queries, per_chunk)
        dx = torch.empty(frames, queries, width, device=x.device, dtype=x.dtype)

        def partial(*shape: int) -> Tensor:
            return torch.empty(frames, chunks, *shape, device=x.device, dtype=torch.float32)

        da, dc, du = partial(width, both), partial(both), partial(both, width)
        _attend_backward[chunks, frames](
            x, a, c, u, dy, dx, da, dc, du, queries, ctx.stride, per_chunk, **ctx.sizes
        )
        if x.shape[0] == 1:
            dx = dx.sum(0, keepdim=True, dtype=torch.float32).to(x.dtype)
        return dx, da.sum(1), dc.sum(1), du.sum(1), None, None


def attend(x: Tensor, a: Tensor, c: Tensor, u: Tensor, *, exact: str = EXACT) -> Tensor:
    """Mixtures [B, N, D] of rows of `u` by the softmax, head by head, of x a + c; in x's type.

    x [B or 1, N, D]; a float32 [B, D, heads, tokens], c [B, heads, tokens], u [B, heads, tokens,
    D]. Tokens and heads are padded to what the hardware multiplies. exact: as in `mlp`.
    """
    frames, width, heads, tokens = a.shape
    assert (
        x.shape[0] in (1, frames)
        and x.shape[2] == width
        and u.shape == (frames, heads, tokens, width)
    ), x.shape
    wide = triton.next_power_of_2(tokens)
    high = max(triton.next_power_of_2(heads), LEAST // wide)
    pad = (0, wide - tokens, 0, high - heads)
    a = torch.nn.functional.pad(a, pad).flatten(2)
    c = torch.nn.functional.pad(
        torch.nn.functional.pad(c, (0, wide - tokens), value=-1e30), (0, 0, 0, high - heads)
    )
    u = torch.nn.functional.pad(u, (0, 0, *pad)).flatten(1, 2)
    return _Attend.apply(
        x.contiguous(), a.contiguous(), c.flatten(1).contiguous(), u.contiguous(), high, exact
    )


@triton.jit
def _normed(x, a, rows, d, seed_at, width: tl.constexpr, drop: tl.constexpr, eps: tl.constexpr):
    """(x + dropped a) with mean 0 and variance 1 along each row, and the reciprocal deviation."""
    total = x.to(tl.float32)
    if drop > 0.0:
        total += a.to(tl.float32) * _kept(seed_at, rows, d, width, drop)
    else:
        total += a.to(tl.float32)
    total -= (tl.sum(total, 1) / width)[:, None]
    scale = tl.rsqrt(tl.sum(total * total, 1) / width + eps)
    return total * scale[:, None], scale


@triton.jit
def _add_norm(
    x_at,
    a_at,
    gamma_at,
    beta_at,
    y_at,
    count,
    queries,
    seed_at,
    width: tl.constexpr,
    drop: tl.constexpr,
    eps: tl.constexpr,
    rows_: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * rows_ + tl.arange(0, rows_)
    d = tl.arange(0, width)
    inside = rows[:, None] < count
    x = tl.load(x_at + (rows % queries)[:, None] * width + d[None, :], mask=inside, other=0.0)
    a = tl.load(a_at + rows[:, None] * width + d[None, :], mask=inside, other=0.0)
    normed, _ = _normed(x, a, rows, d, seed_at, width, drop, eps)
    y = normed * tl.load(gamma_at + d)[None, :] + tl.load(beta_at + d)[None, :]
    tl.store(y_at + rows[:, None] * width + d[None, :], y.to(y_at.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm_backward(
    x_at,
    a_at,
    gamma_at,
    dy_at,
    dx_at,
    da_at,
    dgamma_at,
    dbeta_at,
    count,
    queries,
    seed_at,
    per_chunk: tl.constexpr,
    width: tl.constexpr,
    drop: tl.constexpr,
    eps: tl.constexpr,
    rows_: tl.constexpr,
):
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, width)
    gamma = tl.load(gamma_at + d)
    dgamma, dbeta = tl.zeros((width,), tl.float32), tl.zeros((width,), tl.float32)
    for start in range(0, per_chunk, rows_):
        rows = chunk * per_chunk + start + tl.arange(0, rows_)
        inside = rows[:, None] < count
        x = tl.load(x_at + (rows % queries)[:, None] * width + d[None, :], mask=inside, other=0.0)
        a = tl.load(a_at + rows[:, None] * width + d[None, :], mask=inside, other=0.0)
        dy = tl.load(dy_at + rows[:, None] * width + d[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
        normed, scale = _normed(x, a, rows, d, seed_at, width, drop, eps)
        normed = tl.where(inside, normed, 0.0)
        dgamma += tl.sum(dy * normed, 0)
        dbeta += tl.sum(dy, 0)
        back = dy * gamma[None, :]
        back -= (tl.sum(back, 1) / width)[:, None] + normed * (tl.sum(back * normed, 1) / width)[
            :, None
        ]
        back *= scale[:, None]
        tl.store(
            dx_at + rows[:, None] * width + d[None, :], back.to(dx_at.dtype.element_ty), mask=inside
        )
        if drop > 0.0:
            back *= _kept(seed_at, rows, d, width, drop)
            tl.store(
                da_at + rows[:, None] * width + d[None, :],
                back.to(da_at.dtype.element_ty),
                mask=inside,
            )
    tl.store(dgamma_at + chunk * width + d, dgamma)
    tl.store(dbeta_at + chunk * width + d, dbeta)


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
        ctx.sizes = dict(width=width, drop=drop, eps=eps, rows_=ROWS)
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
    """Layer normalisation of x + dropped a, [B, N, D] in a's type; x [B or 1, N, D], gamma and beta
    float32 [D].
    """
    assert x.shape[1:] == a.shape[1:] and x.dtype == a.dtype, (x.shape, a.shape)
    return _AddNorm.apply(x.contiguous(), a.contiguous(), gamma, beta, eps, drop, seed)
