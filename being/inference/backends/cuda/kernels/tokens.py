"""Kernels: windows of speech features -> vectors; vectors, expression and pose -> a frame's record
(see `folded`).

One program takes 16 rows through a chain of small dense layers; rows go through scratch memory
between layers, with a barrier, because the next layer needs all of a row in every thread. Buffers
have a multiple of 16 rows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.model.tokens import LEAKY_SLOPE

ROWS = tl.constexpr(16)
STEPS = tl.constexpr(16)  # of a window of features
WINDOWS = tl.constexpr(8)  # of a frame
VECTOR = tl.constexpr(32)  # floats of a window's vector
SLOPE = tl.constexpr(LEAKY_SLOPE)
EXACT = tl.constexpr(
    "tf32x3"
)  # float32 products as three of tf32: as exact to 1e-6, and on the matrix units
SCRATCH = tl.constexpr(256)  # floats of a row between layers
CHANNELS = tl.constexpr(64)  # of expression behind the blink, padded
HALF = tl.constexpr(16)  # sines, and cosines, of the blink
PART = tl.constexpr(64)  # of a layer's sides at a time


@triton.jit
def _product(
    x_at,
    w_at,
    rows,
    n,
    stride,
    columns,
    inputs: tl.constexpr,
    wide: tl.constexpr,
    part: tl.constexpr,
):
    """Rows [16, inputs] times columns `n` of a weight [inputs, columns]."""
    k = tl.arange(0, part)
    total = tl.zeros((ROWS, wide), tl.float32)
    for start in range(0, inputs, part):
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
    inputs: tl.constexpr,
    outputs: tl.constexpr,
    slope: tl.constexpr,
):
    """y = act(x w + b) for 16 rows; act multiplies what is negative by `slope`."""
    part: tl.constexpr = min(PART, inputs)
    wide: tl.constexpr = min(PART, outputs)
    for start in range(0, outputs, wide):
        n = start + tl.arange(0, wide)
        y = _product(x_at, w_at, rows, n, x_stride, outputs, inputs, wide, part)
        if b_at is not None:
            y += tl.load(b_at + n)[None, :]
        y = tl.where(y > 0.0, y, y * slope)
        tl.store(y_at + rows[:, None] * y_stride + n[None, :], y)
    tl.debug_barrier()


@triton.jit(do_not_specialize=["given_stride", "windows"])  # one compilation for every batch
def hear(
    features,
    given,
    given_stride,
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
    one,
    two,
    vectors,
    channels: tl.constexpr,
    part: tl.constexpr,
):
    """Write the vectors [windows, 32] of windows: rows of `features` [., 16, channels] numbered in
    `given`.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    spread = tl.arange(0, ROWS * WINDOWS)  # 16 windows x 8 places of the first convolution
    window, place = tl.program_id(0) * ROWS + spread // WINDOWS, spread % WINDOWS
    there = window < windows
    at = tl.load(given + window // WINDOWS * given_stride + window % WINDOWS, there, 0).to(tl.int64)
    n, c = tl.arange(0, VECTOR), tl.arange(0, part)
    total = tl.zeros((ROWS * WINDOWS, VECTOR), tl.float32)
    for tap in tl.static_range(3):
        step = 2 * place + tap - 1
        for start in range(0, channels, part):
            inside = start + c < channels
            x = tl.load(
                features + ((at * STEPS + step) * channels)[:, None] + (start + c)[None, :],
                (there & (step >= 0))[:, None] & inside[None, :],
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
    tl.store(one + (window * SCRATCH + place * VECTOR)[:, None] + n[None, :], total)
    tl.debug_barrier()
    _layer(one, w2, b2, two, rows, SCRATCH, SCRATCH, 256, 128, SLOPE)
    _layer(two, w3, b3, one, rows, SCRATCH, SCRATCH, 128, 128, SLOPE)
    _layer(one, w4, b4, two, rows, SCRATCH, SCRATCH, 128, 64, SLOPE)
    _layer(two, w5, b5, one, rows, SCRATCH, SCRATCH, 64, 64, SLOPE)
    _layer(one, w6, b6, vectors, rows, SCRATCH, VECTOR, 64, 32, 1.0)


@triton.jit
def _into_record(
    hidden,
    w_at,
    b_at,
    n,
    places,
    record,
    rows,
    stride,
    length,
    width: tl.constexpr,
    columns: tl.constexpr,
):
    """Scatter hidden rows [16, width] through columns `n` of an affine map into the frames'
    records.
    """
    inside = n < columns
    y = _product(hidden, w_at, rows, n, stride, columns, width, PART, min(PART, width & -width))
    y += tl.load(b_at + n, inside, 0.0)[None, :]
    place = tl.load(places + n, inside, 0)
    tl.store(record + (rows.to(tl.int64) * length)[:, None] + place[None, :], y, inside[None, :])


@triton.jit(do_not_specialize=["given_stride", "frames", "length"])
def tokens(
    vectors,
    given,
    given_stride,
    numbers,
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
    lift,
    sound,
    sound_b,
    blink,
    face,
    face_b,
    camera,
    places,
    one,
    two,
    record,
    length,
    width: tl.constexpr,
    columns: tl.constexpr,
    channels: tl.constexpr,
):
    """Write records of frames: vectors [B, 8 * 32], poses in `given`, expression in `numbers`
    (`given` as floats).

    Program (i, j) writes columns from j * PART on; what comes before them is so little that each
    computes all of it, in scratch memory of its own.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = rows < frames
    n = tl.program_id(1) * PART + tl.arange(0, PART)
    one += tl.program_id(1) * tl.num_programs(0) * (ROWS * SCRATCH)
    two += tl.program_id(1) * tl.num_programs(0) * (ROWS * SCRATCH)
    _layer(vectors, a1, c1, one, rows, WINDOWS * VECTOR, SCRATCH, 256, 128, SLOPE)
    _layer(one, a2, c2, two, rows, SCRATCH, SCRATCH, 128, 64, SLOPE)
    _layer(two, a3, c3, one, rows, SCRATCH, SCRATCH, 64, 32, SLOPE)
    _layer(one, a4, c4, two, rows, SCRATCH, SCRATCH, 32, 16, SLOPE)
    _layer(two, a5, c5, one, rows, SCRATCH, SCRATCH, 16, 16, SLOPE)  # 8 in truth; padded
    s = tl.arange(0, ROWS)
    logits = _product(one, a6, rows, s, SCRATCH, ROWS, ROWS, ROWS, ROWS) + tl.load(c6 + s)[None, :]
    share = tl.exp(logits - tl.max(logits, 1)[:, None])
    tl.store(two + rows[:, None] * SCRATCH + s[None, :], share / tl.sum(share, 1)[:, None])
    tl.debug_barrier()
    v = tl.arange(0, VECTOR)
    speech = tl.zeros((ROWS, VECTOR), tl.float32)
    for window in tl.static_range(WINDOWS):
        weight = tl.load(two + rows * SCRATCH + window)
        speech += weight[:, None] * tl.load(
            vectors + (rows * WINDOWS + window)[:, None] * VECTOR + v[None, :]
        )
    tl.store(one + rows[:, None] * SCRATCH + v[None, :], speech)
    tl.debug_barrier()
    _layer(one, lift, None, two, rows, SCRATCH, SCRATCH, VECTOR, width, 0.0)
    _into_record(two, sound, sound_b, n, places, record, rows, SCRATCH, length, width, columns)

    d = tl.arange(0, width)
    angle = (
        tl.load(numbers + rows * given_stride + WINDOWS + 1, there, 0.0)[:, None]
        * tl.load(blink + 2 * HALF * width + tl.arange(0, HALF))[None, :]
    )
    weight = tl.load(blink + tl.arange(0, HALF)[:, None] * width + d[None, :])
    hidden = tl.dot(tl.sin(angle), weight, input_precision=EXACT)
    weight = tl.load(blink + (tl.arange(0, HALF) + HALF)[:, None] * width + d[None, :])
    hidden += tl.dot(tl.cos(angle), weight, input_precision=EXACT)
    tl.store(one + rows[:, None] * SCRATCH + d[None, :], tl.maximum(hidden, 0.0))
    e = tl.arange(0, CHANNELS)
    more = tl.load(
        numbers + (rows * given_stride + WINDOWS + 2)[:, None] + e[None, :],
        there[:, None] & (e < channels - 1)[None, :],
        0.0,
    )
    tl.store(one + rows[:, None] * SCRATCH + width + e[None, :], more)
    tl.debug_barrier()
    _into_record(
        one,
        face,
        face_b,
        n,
        places + columns,
        record,
        rows,
        SCRATCH,
        length,
        width + CHANNELS,
        columns,
    )
    pose = tl.load(given + rows * given_stride + WINDOWS, there, 0).to(tl.int64)
    inside = n < columns
    y = tl.load(camera + (pose * columns)[:, None] + n[None, :], inside[None, :], 0.0)
    place = tl.load(places + 2 * columns + n, inside, 0)
    tl.store(record + (rows.to(tl.int64) * length)[:, None] + place[None, :], y, inside[None, :])
