"""Triton kernels of two linear layers with a ReLU between; the hidden layer is never stored.

y = relu(act(x) W1 + b1) W2 + b2, where act is a ReLU or nothing; in training, hidden values are
dropped at random. M rows, I inputs, H hidden values, O outputs; I and O are powers of two from 16,
H is a multiple of 16. Gradients of the weights are summed over `CHUNKS` groups of rows, and these
in a fixed order, so one seed gives one result.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# float32 products as three of tf32: exact to 1e-6, and on the matrix units.
FLOAT32_PRECISION = "tf32x3"
CHUNKS = 132  # one for each processor of an H200
# Rows of one program at a time: the fastest of 64 to 128, measured on an H200.
ROWS = {torch.float32: 64, torch.bfloat16: 128}
HIDDEN = 64  # hidden values of one program at a time
WEIGHT_ROWS = 64  # rows of one program at a time where gradients of weights are summed
WEIGHT_WARPS = {torch.float32: 8, torch.bfloat16: 4}


@triton.jit
def dropout_scale(seed_ptr, rows, columns, width, drop: tl.constexpr):
    """Return 0 or 1 / (1 - drop) for each (row, column), equal in forward and backward."""
    noise = tl.rand(tl.load(seed_ptr), (rows[:, None] * width + columns[None, :]).to(tl.int32))
    return tl.where(noise >= drop, 1.0 / (1.0 - drop), 0.0)


@triton.jit
def _forward(
    x_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    y_ptr,
    count,
    seed_ptr,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    relu_in: tl.constexpr,
    drop: tl.constexpr,
    precision: tl.constexpr,
    row_block: tl.constexpr,
    hidden_block: tl.constexpr,
):
    """Write y for a block of rows; the hidden layer is computed in pieces."""
    rows = tl.program_id(0) * row_block + tl.arange(0, row_block)
    i, o = tl.arange(0, inputs), tl.arange(0, outputs)
    valid = rows[:, None] < count
    x = tl.load(x_ptr + rows[:, None].to(tl.int64) * inputs + i[None, :], mask=valid, other=0.0)
    if relu_in:
        x = tl.maximum(x, 0.0).to(x.dtype)
    y = tl.zeros((row_block, outputs), tl.float32)
    for start in range(0, hidden, hidden_block):
        h = start + tl.arange(0, hidden_block)
        w1 = tl.load(w1_ptr + i[:, None] * hidden + h[None, :]).to(x.dtype)
        w2 = tl.load(w2_ptr + h[:, None] * outputs + o[None, :]).to(x.dtype)
        value = tl.maximum(
            tl.dot(x, w1, input_precision=precision) + tl.load(b1_ptr + h)[None, :], 0.0
        )
        if drop > 0.0:
            value *= dropout_scale(seed_ptr, rows, h, hidden, drop)
        y += tl.dot(value.to(x.dtype), w2, input_precision=precision)
    y += tl.load(b2_ptr + o)[None, :]
    tl.store(
        y_ptr + rows[:, None].to(tl.int64) * outputs + o[None, :],
        y.to(y_ptr.dtype.element_ty),
        mask=valid,
    )


@triton.jit
def _backward_rows(
    x_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    dy_ptr,
    dx_ptr,
    count,
    seed_ptr,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    relu_in: tl.constexpr,
    drop: tl.constexpr,
    precision: tl.constexpr,
    row_block: tl.constexpr,
    hidden_block: tl.constexpr,
):
    """Write the gradient of x for a block of rows; the hidden layer is computed again."""
    rows = tl.program_id(0) * row_block + tl.arange(0, row_block)
    i, o = tl.arange(0, inputs), tl.arange(0, outputs)
    valid = rows[:, None] < count
    raw = tl.load(x_ptr + rows[:, None].to(tl.int64) * inputs + i[None, :], mask=valid, other=0.0)
    x = tl.maximum(raw, 0.0).to(raw.dtype) if relu_in else raw
    dy = tl.load(
        dy_ptr + rows[:, None].to(tl.int64) * outputs + o[None, :], mask=valid, other=0.0
    ).to(x.dtype)
    dx = tl.zeros((row_block, inputs), tl.float32)
    for start in range(0, hidden, hidden_block):
        h = start + tl.arange(0, hidden_block)
        w1 = tl.load(w1_ptr + i[:, None] * hidden + h[None, :]).to(x.dtype)
        w2 = tl.load(w2_ptr + h[:, None] * outputs + o[None, :]).to(x.dtype)
        before = tl.dot(x, w1, input_precision=precision) + tl.load(b1_ptr + h)[None, :]
        dh = tl.where(before > 0.0, tl.dot(dy, tl.trans(w2), input_precision=precision), 0.0)
        if drop > 0.0:
            dh *= dropout_scale(seed_ptr, rows, h, hidden, drop)
        dx += tl.dot(dh.to(x.dtype), tl.trans(w1), input_precision=precision)
    if relu_in:
        dx = tl.where(raw > 0.0, dx, 0.0)
    tl.store(
        dx_ptr + rows[:, None].to(tl.int64) * inputs + i[None, :],
        dx.to(dx_ptr.dtype.element_ty),
        mask=valid,
    )


@triton.jit
def _backward_weights(
    x_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    dy_ptr,
    dw1_ptr,
    db1_ptr,
    dw2_ptr,
    db2_ptr,
    count,
    seed_ptr,
    per_chunk: tl.constexpr,
    inputs: tl.constexpr,
    hidden: tl.constexpr,
    outputs: tl.constexpr,
    relu_in: tl.constexpr,
    drop: tl.constexpr,
    precision: tl.constexpr,
    row_block: tl.constexpr,
    hidden_block: tl.constexpr,
):
    """Write the gradients of weights and biases for a block of hidden values, one chunk of rows."""
    chunk = tl.program_id(1)
    h = tl.program_id(0) * hidden_block + tl.arange(0, hidden_block)
    i, o = tl.arange(0, inputs), tl.arange(0, outputs)
    b1 = tl.load(b1_ptr + h)
    w1 = tl.load(w1_ptr + i[:, None] * hidden + h[None, :]).to(x_ptr.dtype.element_ty)
    w2 = tl.load(w2_ptr + h[:, None] * outputs + o[None, :]).to(x_ptr.dtype.element_ty)
    dw1, dw2 = (
        tl.zeros((inputs, hidden_block), tl.float32),
        tl.zeros((hidden_block, outputs), tl.float32),
    )
    db1, db2 = tl.zeros((hidden_block,), tl.float32), tl.zeros((outputs,), tl.float32)
    for start in range(0, per_chunk, row_block):
        rows = chunk * per_chunk + start + tl.arange(0, row_block)
        valid = rows[:, None] < count
        x = tl.load(x_ptr + rows[:, None].to(tl.int64) * inputs + i[None, :], mask=valid, other=0.0)
        if relu_in:
            x = tl.maximum(x, 0.0).to(x.dtype)
        dy = tl.load(
            dy_ptr + rows[:, None].to(tl.int64) * outputs + o[None, :], mask=valid, other=0.0
        ).to(x.dtype)
        before = tl.dot(x, w1, input_precision=precision) + b1[None, :]
        value = tl.maximum(before, 0.0)
        dh = tl.where(before > 0.0, tl.dot(dy, tl.trans(w2), input_precision=precision), 0.0)
        if drop > 0.0:
            kept = dropout_scale(seed_ptr, rows, h, hidden, drop)
            value *= kept
            dh *= kept
        dw1 += tl.dot(tl.trans(x), dh.to(x.dtype), input_precision=precision)
        dw2 += tl.dot(tl.trans(value.to(x.dtype)), dy, input_precision=precision)
        db1 += tl.sum(dh, 0)
        db2 += tl.sum(dy.to(tl.float32), 0)
    slot = chunk.to(tl.int64)
    tl.store(dw1_ptr + slot * inputs * hidden + i[:, None] * hidden + h[None, :], dw1)
    tl.store(dw2_ptr + slot * hidden * outputs + h[:, None] * outputs + o[None, :], dw2)
    tl.store(db1_ptr + slot * hidden + h, db1)
    if tl.program_id(0) == 0:
        tl.store(db2_ptr + slot * outputs + o, db2)


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
        precision: str,
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
            precision=precision,
            hidden_block=min(HIDDEN, hidden & -hidden),
        )
        rows = ROWS[x.dtype]
        _forward[triton.cdiv(count, rows),](
            x, w1, b1, w2, b2, y, count, seed, **ctx.sizes, row_block=rows
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
            x, w1, b1, w2, dy, dx, count, ctx.seed, **size, row_block=rows
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
        _backward_weights[hidden // size["hidden_block"], chunks](
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
            row_block=WEIGHT_ROWS,
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
    precision: str = FLOAT32_PRECISION,
) -> Tensor:
    """Return relu(act(x) w1 + b1) w2 + b2 [..., O] of x [..., I], in the type of x or `out`.

    w1 float32 [I, H], b1 [H], w2 [H, O], b2 [O]; products take the weights in the type of x and sum
    in float32.
    relu_in: act is a ReLU.
    drop: share of hidden values that are set to 0 (the others are scaled up).
    seed: of the dropout, int64, one number on the device, so each replay of a CUDA graph can have a
    new one.
    precision: of float32 products, "ieee", "tf32x3" or "tf32".
    """
    assert w1.shape[1] % 16 == 0, w1.shape
    assert x.shape[-1] == w1.shape[0], (x.shape, w1.shape)
    assert w1.shape[1] == w2.shape[0] == b1.shape[0], (w1.shape, w2.shape, b1.shape)
    assert w2.shape[1] == b2.shape[0], (w2.shape, b2.shape)
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
        precision,
    )
