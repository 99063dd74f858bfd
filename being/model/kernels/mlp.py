"""Two linear layers with a ReLU between them over very many rows: nothing of the hidden layer is
ever stored.

y = relu(act(x) W1 + b1) W2 + b2, act = ReLU or nothing; while training the hidden values are
dropped at random. M rows, I inputs, H hidden values, O outputs; I and O are powers of two from 16,
H a multiple of 16. Gradients of the weights are summed over `CHUNKS` runs of rows and these in a
fixed order, so one seed gives one result.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

EXACT = "tf32x3"  # float32 products as three of tf32: as exact to 1e-6, and on the matrix units
CHUNKS = 132  # one for each processor of an H200
ROWS = {
    torch.float32: 64,
    torch.bfloat16: 128,
}  # of a program at a time, the fastest of 64 to 128 measured on an H200
HIDDEN = 64  # of a program at a time
WEIGHT_ROWS = 64  # of a program at a time where gradients of weights are summed
WEIGHT_WARPS = {torch.float32: 8, torch.bfloat16: 4}


@triton.jit
def _kept(seed_at, rows, columns, width, drop: tl.constexpr):
    """0 or 1 / (1 - drop) for each (row, column): the same in forward and backward."""
    noise = tl.rand(tl.load(seed_at), (rows[:, None] * width + columns[None, :]).to(tl.int32))
    return tl.where(noise >= drop, 1.0 / (1.0 - drop), 0.0)


@triton.jit
def _forward(
    x_at,
    w1_at,
    b1_at,
    w2_at,
    b2_at,
    y_at,
    count,
    seed_at,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    relu_in: tl.constexpr,
    drop: tl.constexpr,
    exact: tl.constexpr,
    rows_: tl.constexpr,
    hidden_: tl.constexpr,
):
    rows = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    i, o = tl.arange(0, inputs), tl.arange(0, outputs)
    inside = rows[:, None] < count
    x = tl.load(x_at + rows[:, None].to(tl.int64) * inputs + i[None, :], mask=inside, other=0.0)
    if relu_in:
        x = tl.maximum(x, 0.0).to(x.dtype)
    y = tl.zeros((rows_, outputs), tl.float32)
    for start in range(0, hidden, hidden_):
        h = start + tl.arange(0, hidden_)
        w1 = tl.load(w1_at + i[:, None] * hidden + h[None, :]).to(x.dtype)
        w2 = tl.load(w2_at + h[:, None] * outputs + o[None, :]).to(x.dtype)
        value = tl.maximum(tl.dot(x, w1, input_precision=exact) + tl.load(b1_at + h)[None, :], 0.0)
        if drop > 0.0:
            value *= _kept(seed_at, rows, h, hidden, drop)
        y += tl.dot(value.to(x.dtype), w2, input_precision=exact)
    y += tl.load(b2_at + o)[None, :]
    tl.store(
        y_at + rows[:, None].to(tl.int64) * outputs + o[None, :],
        y.to(y_at.dtype.element_ty),
        mask=inside,
    )


@triton.jit
def _backward_rows(
    x_at,
    w1_at,
    b1_at,
    w2_at,
    dy_at,
    dx_at,
    count,
    seed_at,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    relu_in: tl.constexpr,
    drop: tl.constexpr,
    exact: tl.constexpr,
    rows_: tl.constexpr,
    hidden_: tl.constexpr,
):
    rows = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    i, o = tl.arange(0, inputs), tl.arange(0, outputs)
    inside = rows[:, None] < count
    raw = tl.load(x_at + rows[:, None].to(tl.int64) * inputs + i[None, :], mask=inside, other=0.0)
    x = tl.maximum(raw, 0.0).to(raw.dtype) if relu_in else raw
    dy = tl.load(
        dy_at + rows[:, None].to(tl.int64) * outputs + o[None, :], mask=inside, other=0.0
    ).to(x.dtype)
    dx = tl.zeros((rows_, inputs), tl.float32)
    for start in range(0, hidden, hidden_):
        h = start + tl.arange(0, hidden_)
        w1 = tl.load(w1_at + i[:, None] * hidden + h[None, :]).to(x.dtype)
        w2 = tl.load(w2_at + h[:, None] * outputs + o[None, :]).to(x.dtype)
        before = tl.dot(x, w1, input_precision=exact) + tl.load(b1_at + h)[None, :]
        dh = tl.where(before > 0.0, tl.dot(dy, tl.trans(w2), input_precision=exact), 0.0)
        if drop > 0.0:
            dh *= _kept(seed_at, rows, h, hidden, drop)
        dx += tl.dot(dh.to(x.dtype), tl.trans(w1), input_precision=exact)
    if relu_in:
        dx = tl.where(raw > 0.0, dx, 0.0)
    tl.store(
        dx_at + rows[:, None].to(tl.int64) * inputs + i[None, :],
        dx.to(dx_at.dtype.element_ty),
        mask=inside,
    )


@triton.jit
def _backward_weights(
    x_at,
    w1_at,
    b1_at,
    w2_at,
    dy_at,
    dw1_at,
    db1_at,
    dw2_at,
    db2_at,
    count,
    seed_at,
    per_chunk: tl.constexpr,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    relu_in: tl.constexpr,
    drop: tl.constexpr,
    exact: tl.constexpr,
    rows_: tl.constexpr,
    hidden_: tl.constexpr,
):
    chunk = tl.program_id(1)
    h = tl.program_id(0) * hidden_ + tl.arange(0, hidden_)
    i, o = tl.arange(0, inputs), tl.arange(0, outputs)
    b1 = tl.load(b1_at + h)
    w1 = tl.load(w1_at + i[:, None] * hidden + h[None, :]).to(x_at.dtype.element_ty)
    w2 = tl.load(w2_at + h[:, None] * outputs + o[None, :]).to(x_at.dtype.element_ty)
    dw1, dw2 = tl.zeros((inputs, hidden_), tl.float32), tl.zeros((hidden_, outputs), tl.float32)
    db1, db2 = tl.zeros((hidden_,), tl.float32), tl.zeros((outputs,), tl.float32)
    for start in range(0, per_chunk, rows_):
        rows = chunk * per_chunk + start + tl.arange(0, rows_)
        inside = rows[:, None] < count
        x = tl.load(x_at + rows[:, None].to(tl.int64) * inputs + i[None, :], mask=inside, other=0.0)
        if relu_in:
            x = tl.maximum(x, 0.0).to(x.dtype)
        dy = tl.load(
            dy_at + rows[:, None].to(tl.int64) * outputs + o[None, :], mask=inside, other=0.0
        ).to(x.dtype)
        before = tl.dot(x, w1, input_precision=exact) + b1[None, :]
        value = tl.maximum(before, 0.0)
        dh = tl.where(before > 0.0, tl.dot(dy, tl.trans(w2), input_precision=exact), 0.0)
        if drop > 0.0:
            kept = _kept(seed_at, rows, h, hidden, drop)
            value *= kept
            dh *= kept
        dw1 += tl.dot(tl.trans(x), dh.to(x.dtype), input_precision=exact)
        dw2 += tl.dot(tl.trans(value.to(x.dtype)), dy, input_precision=exact)
        db1 += tl.sum(dh, 0)
        db2 += tl.sum(dy.to(tl.float32), 0)
    place = chunk.to(tl.int64)
    tl.store(dw1_at + place * inputs * hidden + i[:, None] * hidden + h[None, :], dw1)
    tl.store(dw2_at + place * hidden * outputs + h[:, None] * outputs + o[None, :], dw2)
    tl.store(db1_at + place * hidden + h, db1)
    if tl.program_id(0) == 0:
        tl.store(db2_at + place * outputs + o, db2)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        relu_in: bool,
        drop: float,
        seed: Tensor | None,
        out: torch.dtype,
        exact: str,
    ) -> Tensor:
        (inputs, hidden), outputs = w1.shape, w2.shape[1]
        count = x.numel() // inputs
        y = torch.empty(*x.shape[:-1], outputs, device=x.device, dtype=out)
        ctx.sizes = dict(
            inputs=inputs,
            hidden=hidden,
            outputs=outputs,
            relu_in=relu_in,
            drop=drop,
            exact=exact,
            hidden_=min(HIDDEN, hidden & -hidden),
        )
        rows = ROWS[x.dtype]
        _forward[triton.cdiv(count, rows),](
            x, w1, b1, w2, b2, y, count, seed, **ctx.sizes, rows_=rows
        )
        ctx.save_for_backward(x, w1, b1, w2)
        ctx.seed = seed
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w1, b1, w2 = ctx.saved_tensors
        (inputs, hidden), outputs = w1.shape, w2.shape[1]
        count, dy, size = x.numel() // inputs, dy.contiguous(), ctx.sizes
        dx = torch.empty_like(x)
        rows = ROWS[x.dtype]
        _backward_rows[triton.cdiv(count, rows),](
            x, w1, b1, w2, dy, dx, count, ctx.seed, **size, rows_=rows
        )
        per_chunk = triton.cdiv(triton.cdiv(count, CHUNKS), WEIGHT_ROWS) * WEIGHT_ROWS
        chunks = triton.cdiv(count, per_chunk)

        def partial(*shape: int) -> Tensor:
            return torch.empty(chunks, *shape, device=x.device, dtype=torch.float32)

        dw1, db1, dw2, db2 = (
            partial(inputs, hidden),
            partial(hidden),
            partial(hidden, outputs),
            partial(outputs),
        )
        _backward_weights[hidden // size["hidden_"], chunks](
            x,
            w1,
            b1,
            w2,
            dy,
            dw1,
            db1,
            dw2,
            db2,
            count,
            ctx.seed,
            per_chunk,
            **size,
            rows_=WEIGHT_ROWS,
            num_warps=WEIGHT_WARPS[x.dtype],
        )
        return dx, dw1.sum(0), db1.sum(0), dw2.sum(0), db2.sum(0), None, None, None, None, None


def mlp(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    relu_in: bool = False,
    drop: float = 0.0,
    seed: Tensor | None = None,
    out: torch.dtype | None = None,
    exact: str = EXACT,
) -> Tensor:
    """relu(act(x) w1 + b1) w2 + b2 [..., O] of x [..., I], in x's type or `out`.

    w1 float32 [I, H], b1 [H], w2 [H, O], b2 [O]; products take the weights in x's type and sum in
    float32. relu_in: act is a ReLU. drop: share of hidden values set to 0 (the rest scaled up),
    chosen by `seed` (int64, one number on the device, so that a CUDA graph draws anew at every
    replay). exact: what float32 products are computed in ("ieee", "tf32x3" or "tf32").
    """
    assert w1.shape[1] % 16 == 0, w1.shape
    assert (
        x.shape[-1] == w1.shape[0]
        and w1.shape[1] == w2.shape[0] == b1.shape[0]
        and w2.shape[1] == b2.shape[0]
    )
    return _Mlp.apply(
        x.contiguous(),
        w1.contiguous(),
        b1.contiguous(),
        w2.contiguous(),
        b2.contiguous(),
        relu_in,
        drop,
        seed,
        out or x.dtype,
        exact,
    )
