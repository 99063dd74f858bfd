"""Triton kernels: the audio net, and the tokens of each frame.

`encode_audio` turns feature windows into audio vectors; `tokens` turns the vectors, the expression
and the pose of a frame into its record.

`being.model.folding` defines the record; its `token_records` computes the same in torch. One
program takes 16 rows through a chain of small dense layers. Between two layers the rows go through
scratch memory, with a barrier, because the next layer needs all of a row in every thread. Buffers
have a multiple of 16 rows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.model.tokens import LEAKY_SLOPE

ROWS = tl.constexpr(16)  # that a program takes
STEPS = tl.constexpr(16)  # of a feature window
WINDOWS = tl.constexpr(8)  # of a frame
VECTOR = tl.constexpr(32)  # floats of an audio vector
SLOPE = tl.constexpr(LEAKY_SLOPE)
# A float32 product as three of tf32: exact to 1e-6, and on the matrix units.
EXACT = tl.constexpr("tf32x3")
SCRATCH = tl.constexpr(256)  # floats of a row between layers
CHANNELS = tl.constexpr(64)  # expression channels after the blink, padded
HALF = tl.constexpr(16)  # sines, and as many cosines, of the blink
PART = tl.constexpr(64)  # inputs or outputs of a layer that are computed at a time


@triton.jit
def _product(
    x_at,
    w_at,
    rows,
    n,
    stride,
    columns,
    width_in: tl.constexpr,
    wide: tl.constexpr,
    part: tl.constexpr,
):
    """Rows [16, width_in] times columns `n` of a weight [width_in, columns]."""
    k = tl.arange(0, part)
    total = tl.zeros((ROWS, wide), tl.float32)
    for start in range(0, width_in, part):
        x = tl.load(x_at + rows[:, None] * stride + start + k[None, :])
        w = tl.load(
            w_at + (start + k)[:, None] * columns + n[None, :], mask=n[None, :] < columns, other=0.0
        )
        total += tl.dot(x, w, input_precision=EXACT)
    return total


@triton.jit
def _layer(
    x_at,
    w_at,
    b_at,
    y_at,
    rows,
    x_stride,
    y_stride,
    width_in: tl.constexpr,
    width_out: tl.constexpr,
    slope: tl.constexpr,
):
    """y = act(x w + b) for 16 rows; act multiplies what is negative by `slope`."""
    part: tl.constexpr = min(PART, width_in)
    wide: tl.constexpr = min(PART, width_out)
    for start in range(0, width_out, wide):
        n = start + tl.arange(0, wide)
        y = _product(x_at, w_at, rows, n, x_stride, width_out, width_in, wide, part)
        if b_at is not None:
            y += tl.load(b_at + n)[None, :]
        y = tl.where(y > 0.0, y, y * slope)
        tl.store(y_at + rows[:, None] * y_stride + n[None, :], y)
    tl.debug_barrier()


@triton.jit(do_not_specialize=["input_stride", "windows"])  # one compilation for every batch
def encode_audio(
    features,
    inputs,
    input_stride,
    windows,
    conv,
    conv_b,
    w2,
    b2,
    w3,
    b3,
    w4,
    b4,
    w5,
    b5,
    w6,
    b6,
    scratch1,
    scratch2,
    vectors,
    channels: tl.constexpr,
    part: tl.constexpr,
):
    """Write the audio vectors [windows, 32] of the feature windows of all frames.

    features float32 [rows, 16, channels]: the feature pool; inputs int32 [B, input_stride]: the
    first WINDOWS numbers of a frame are its rows of the pool.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    spread = tl.arange(0, ROWS * WINDOWS)  # 16 windows x 8 positions of the first convolution
    window, position = tl.program_id(0) * ROWS + spread // WINDOWS, spread % WINDOWS
    valid = window < windows
    at = tl.load(inputs + window // WINDOWS * input_stride + window % WINDOWS, valid, 0)
    at = at.to(tl.int64)

    # The first convolution: kernel 3, stride 2, a step of zeros in front.
    n, c = tl.arange(0, VECTOR), tl.arange(0, part)
    total = tl.zeros((ROWS * WINDOWS, VECTOR), tl.float32)
    for tap in tl.static_range(3):
        step = 2 * position + tap - 1
        for start in range(0, channels, part):
            inside = start + c < channels
            x = tl.load(
                features + ((at * STEPS + step) * channels)[:, None] + (start + c)[None, :],
                (valid & (step >= 0))[:, None] & inside[None, :],
                0.0,
            )
            w = tl.load(
                conv + (tap * channels + start + c)[:, None] * VECTOR + n[None, :],
                inside[:, None],
                0.0,
            )
            total += tl.dot(x, w, input_precision=EXACT)
    total += tl.load(conv_b + n)[None, :]
    total = tl.where(total > 0.0, total, total * SLOPE)
    tl.store(scratch1 + (window * SCRATCH + position * VECTOR)[:, None] + n[None, :], total)
    tl.debug_barrier()

    # The dense layers behind it.
    _layer(scratch1, w2, b2, scratch2, rows, SCRATCH, SCRATCH, 256, 128, SLOPE)
    _layer(scratch2, w3, b3, scratch1, rows, SCRATCH, SCRATCH, 128, 128, SLOPE)
    _layer(scratch1, w4, b4, scratch2, rows, SCRATCH, SCRATCH, 128, 64, SLOPE)
    _layer(scratch2, w5, b5, scratch1, rows, SCRATCH, SCRATCH, 64, 64, SLOPE)
    _layer(scratch1, w6, b6, vectors, rows, SCRATCH, VECTOR, 64, 32, 1.0)


@triton.jit
def _into_record(
    hidden,
    w_at,
    b_at,
    n,
    positions,
    records,
    rows,
    stride,
    length,
    width: tl.constexpr,
    columns: tl.constexpr,
):
    """Write columns `n` of (hidden rows [16, width] times a weight, plus bias) into the records."""
    inside = n < columns
    y = _product(hidden, w_at, rows, n, stride, columns, width, PART, min(PART, width & -width))
    y += tl.load(b_at + n, inside, 0.0)[None, :]
    position = tl.load(positions + n, inside, 0)
    tl.store(
        records + (rows.to(tl.int64) * length)[:, None] + position[None, :], y, inside[None, :]
    )


@triton.jit
def _mix_vectors(vectors, rows, a1, c1, a2, c2, a3, c3, a4, c4, a5, c5, a6, c6, scratch1, scratch2):
    """Write the audio attention's mixtures [16, 32] of eight vectors each to `scratch1`."""
    # The share of each vector.
    _layer(vectors, a1, c1, scratch1, rows, WINDOWS * VECTOR, SCRATCH, 256, 128, SLOPE)
    _layer(scratch1, a2, c2, scratch2, rows, SCRATCH, SCRATCH, 128, 64, SLOPE)
    _layer(scratch2, a3, c3, scratch1, rows, SCRATCH, SCRATCH, 64, 32, SLOPE)
    _layer(scratch1, a4, c4, scratch2, rows, SCRATCH, SCRATCH, 32, 16, SLOPE)
    # The last two layers have 8 outputs, padded to 16.
    _layer(scratch2, a5, c5, scratch1, rows, SCRATCH, SCRATCH, 16, 16, SLOPE)
    s = tl.arange(0, ROWS)
    logits = _product(scratch1, a6, rows, s, SCRATCH, ROWS, ROWS, ROWS, ROWS)
    logits += tl.load(c6 + s)[None, :]
    share = tl.exp(logits - tl.max(logits, 1)[:, None])
    tl.store(scratch2 + rows[:, None] * SCRATCH + s[None, :], share / tl.sum(share, 1)[:, None])
    tl.debug_barrier()

    v = tl.arange(0, VECTOR)
    speech = tl.zeros((ROWS, VECTOR), tl.float32)
    for window in tl.static_range(WINDOWS):
        weight = tl.load(scratch2 + rows * SCRATCH + window)
        speech += weight[:, None] * tl.load(
            vectors + (rows * WINDOWS + window)[:, None] * VECTOR + v[None, :]
        )
    tl.store(scratch1 + rows[:, None] * SCRATCH + v[None, :], speech)
    tl.debug_barrier()


@triton.jit
def _expression_rows(
    float_inputs,
    input_stride,
    rows,
    valid,
    blink_hidden,
    scratch1,
    width: tl.constexpr,
    channels: tl.constexpr,
):
    """Write the blink's hidden rows [16, width] and the other expression channels to `scratch1`."""
    d = tl.arange(0, width)
    angle = (
        tl.load(float_inputs + rows * input_stride + WINDOWS + 1, valid, 0.0)[:, None]
        * tl.load(blink_hidden + 2 * HALF * width + tl.arange(0, HALF))[None, :]
    )
    weight = tl.load(blink_hidden + tl.arange(0, HALF)[:, None] * width + d[None, :])
    hidden = tl.dot(tl.sin(angle), weight, input_precision=EXACT)
    weight = tl.load(blink_hidden + (tl.arange(0, HALF) + HALF)[:, None] * width + d[None, :])
    hidden += tl.dot(tl.cos(angle), weight, input_precision=EXACT)
    tl.store(scratch1 + rows[:, None] * SCRATCH + d[None, :], tl.maximum(hidden, 0.0))
    e = tl.arange(0, CHANNELS)
    more = tl.load(
        float_inputs + (rows * input_stride + WINDOWS + 2)[:, None] + e[None, :],
        valid[:, None] & (e < channels - 1)[None, :],
        0.0,
    )
    tl.store(scratch1 + rows[:, None] * SCRATCH + width + e[None, :], more)
    tl.debug_barrier()


@triton.jit(do_not_specialize=["input_stride", "frames", "length"])
def tokens(
    vectors,
    inputs,
    input_stride,
    float_inputs,
    frames,
    a1,
    c1,
    a2,
    c2,
    a3,
    c3,
    a4,
    c4,
    a5,
    c5,
    a6,
    c6,
    audio_hidden,
    audio,
    audio_bias,
    blink_hidden,
    expression,
    expression_bias,
    camera,
    positions,
    scratch1,
    scratch2,
    records,
    length,
    width: tl.constexpr,
    columns: tl.constexpr,
    channels: tl.constexpr,
):
    """Write the records [B, length] of frames.

    vectors float32 [B, 8 * 32]; inputs int32 [B, input_stride]: the pose at WINDOWS; float_inputs:
    the same memory as float32, the expression from WINDOWS + 1 on. Program (i, j) writes the
    columns from j * PART on. The layers before them are so small that each program computes all of
    them, in scratch memory of its own.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = rows < frames
    n = tl.program_id(1) * PART + tl.arange(0, PART)
    scratch1 += tl.program_id(1) * tl.num_programs(0) * (ROWS * SCRATCH)
    scratch2 += tl.program_id(1) * tl.num_programs(0) * (ROWS * SCRATCH)

    # The audio token.
    _mix_vectors(vectors, rows, a1, c1, a2, c2, a3, c3, a4, c4, a5, c5, a6, c6, scratch1, scratch2)
    _layer(scratch1, audio_hidden, None, scratch2, rows, SCRATCH, SCRATCH, VECTOR, width, 0.0)
    _into_record(
        scratch2,
        audio,
        audio_bias,
        n,
        positions,
        records,
        rows,
        SCRATCH,
        length,
        width,
        columns,
    )

    # The expression token.
    _expression_rows(
        float_inputs, input_stride, rows, valid, blink_hidden, scratch1, width, channels
    )
    _into_record(
        scratch1,
        expression,
        expression_bias,
        n,
        positions + columns,
        records,
        rows,
        SCRATCH,
        length,
        width + CHANNELS,
        columns,
    )

    # The camera token: its columns are known for every pose.
    pose = tl.load(inputs + rows * input_stride + WINDOWS, valid, 0).to(tl.int64)
    inside = n < columns
    y = tl.load(camera + (pose * columns)[:, None] + n[None, :], inside[None, :], 0.0)
    position = tl.load(positions + 2 * columns + n, inside, 0)
    tl.store(
        records + (rows.to(tl.int64) * length)[:, None] + position[None, :], y, inside[None, :]
    )
