"""Triton kernel: deforms and activates the canonical Gaussians for each frame, in one pass.

A frame's tokens come as its record (see `being.model.folding`). For each Gaussian: its tri-plane
features attend to the tokens; each layer adds, normalises and runs its feed-forward part; then come
the five decoding heads and the activations. Nothing in between is stored. Only the factors of
products may be narrower than float32 (`product_type`); sums, normalisation and everything that is
added to the canonical parameters are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

# A float32 product as three of tf32: exact to 1e-6, and on the matrix units.
EXACT = tl.constexpr("tf32x3")
# Outputs of the four small heads: mean 3, log scale 3, quaternion 4, opacity 1, padding 5.
SMALL_OUTPUTS = tl.constexpr(16)
TOKENS = tl.constexpr(4)
HIDDEN_PART = tl.constexpr(64)  # hidden values of a layer that are computed at a time


@triton.jit
def _norm(x, gamma_at, beta_at, d, width: tl.constexpr, eps: tl.constexpr):
    """Layer normalisation of rows x [rows, width]."""
    x -= (tl.sum(x, 1) / width)[:, None]
    scale = tl.rsqrt(tl.sum(x * x, 1) / width + eps)
    return x * scale[:, None] * tl.load(gamma_at + d)[None, :] + tl.load(beta_at + d)[None, :]


@triton.jit
def _hidden(x, w_at, b_at, start, stride, d, part: tl.constexpr):
    """relu(x w + b): the hidden values from `start` to `start + part`."""
    h = start + tl.arange(0, part)
    w = tl.load(w_at + d[:, None] * stride + h[None, :])
    return tl.maximum(tl.dot(x, w, input_precision=EXACT) + tl.load(b_at + h)[None, :], 0.0).to(
        x.dtype
    )


@triton.jit
def _attend(
    x,
    record,
    width: tl.constexpr,
    heads: tl.constexpr,
    product_type: tl.constexpr,
    rows_: tl.constexpr,
):
    """x [rows_, width] plus its attention over the tokens.

    record: one layer's A [width, T], c [T], U [T, width]. Logits x A + c, softmax per head, output
    = shares U.
    """
    both: tl.constexpr = heads * TOKENS
    d, t = tl.arange(0, width), tl.arange(0, both)
    a = tl.load(record + d[:, None] * both + t[None, :]).to(product_type)
    logits = tl.dot(x.to(product_type), a, input_precision=EXACT)
    logits += tl.load(record + width * both + t)[None, :]
    logits = tl.reshape(logits, (rows_, heads, TOKENS))
    share = tl.exp(logits - tl.max(logits, 2)[:, :, None])
    share = tl.reshape(share / tl.sum(share, 2)[:, :, None], (rows_, both))
    u = tl.load(record + (width + 1) * both + t[:, None] * width + d[None, :]).to(product_type)
    return x + tl.dot(share.to(product_type), u, input_precision=EXACT)


@triton.jit
def _second_layer(
    y,
    narrow,
    w1,
    b1,
    w2,
    first,
    stride,
    hidden: tl.constexpr,
    columns: tl.constexpr,
    width: tl.constexpr,
    part: tl.constexpr,
):
    """y + relu(narrow w1 + b1) w2, for the hidden values from `first` to `first + hidden`.

    narrow [rows, width], w1 [width, stride], w2 [hidden, columns]; `part` hidden values at a time.
    """
    d, n = tl.arange(0, width), tl.arange(0, columns)
    for start in range(0, hidden, part):
        h = _hidden(narrow, w1, b1, first + start, stride, d, part)
        k = start + tl.arange(0, part)
        w = tl.load(w2 + k[:, None] * columns + n[None, :])
        y += tl.dot(h, w, input_precision=EXACT)
    return y


@triton.jit(do_not_specialize=["length", "count"])  # one compilation for every avatar of a network
def deform(
    queries,
    records,
    length,
    gammas,
    betas,
    ffn1,
    ffn1_bias,
    ffn2,
    ffn2_bias,
    heads1,
    heads1_bias,
    small2,
    small2_bias,
    sh2,
    sh2_bias,
    raw,
    raw_sh,
    means,
    quaternions,
    scales,
    opacities,
    sh,
    count,
    width: tl.constexpr,
    heads: tl.constexpr,
    layers: tl.constexpr,
    ffn: tl.constexpr,
    decoder_width: tl.constexpr,
    coefficients: tl.constexpr,
    sh_padded: tl.constexpr,
    eps: tl.constexpr,
    product_type: tl.constexpr,
    rows_: tl.constexpr,
):
    """Write the Gaussians of block `program_id(0)` in frame `program_id(1)`.

    queries float32 [N, width]; records float32 [B, length]; weights [in, out] of type
    `product_type`, stacked layer by layer; heads1 [width, 5 decoder_width] with the SH head last;
    raw float32 [N, 11], raw_sh [N, coefficients].
    """
    both: tl.constexpr = heads * TOKENS
    part: tl.constexpr = min(HIDDEN_PART, ffn)
    decoder_part: tl.constexpr = min(HIDDEN_PART, decoder_width)
    frame = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    inside = (rows < count)[:, None]
    d = tl.arange(0, width)
    x = tl.load(queries + rows[:, None] * width + d[None, :], inside, 0.0)

    # The transformer: attention, add, norm; feed-forward, add, norm.
    for layer in tl.static_range(layers):
        record = records + frame * length + layer * both * (2 * width + 1)
        x = _attend(x, record, width, heads, product_type, rows_)
        x = _norm(x, gammas + layer * 2 * width, betas + layer * 2 * width, d, width, eps)
        x = _second_layer(
            x,
            x.to(product_type),
            ffn1 + layer * width * ffn,
            ffn1_bias + layer * ffn,
            ffn2 + layer * ffn * width,
            0,
            ffn,
            ffn,
            width,
            width,
            part,
        )
        x += tl.load(ffn2_bias + layer * width + d)[None, :]
        x = _norm(
            x, gammas + (layer * 2 + 1) * width, betas + (layer * 2 + 1) * width, d, width, eps
        )

    narrow = tl.maximum(x, 0.0).to(product_type)
    row = frame * count + rows.to(tl.int64)[:, None]
    stride: tl.constexpr = 5 * decoder_width
    small_hidden: tl.constexpr = 4 * decoder_width

    # The four small heads: their outputs side by side, added to the raw parameters and activated.
    y = tl.zeros((rows_, SMALL_OUTPUTS), tl.float32)
    y = _second_layer(
        y,
        narrow,
        heads1,
        heads1_bias,
        small2,
        0,
        stride,
        small_hidden,
        SMALL_OUTPUTS,
        width,
        decoder_part,
    )
    o = tl.arange(0, SMALL_OUTPUTS)
    y += tl.load(small2_bias + o)[None, :]
    o = o[None, :]
    y += tl.load(raw + rows[:, None] * 11 + o, inside & (o < 11), 0.0)
    tl.store(means + row * 3 + o, y, inside & (o < 3))
    tl.store(scales + row * 3 + o - 3, tl.exp(y), inside & (o >= 3) & (o < 6))
    tl.store(quaternions + row * 4 + o - 6, y, inside & (o >= 6) & (o < 10))
    tl.store(opacities + row + o - 10, tl.sigmoid(y), inside & (o == 10))

    # The SH head.
    y = tl.zeros((rows_, sh_padded), tl.float32)
    y = _second_layer(
        y,
        narrow,
        heads1,
        heads1_bias,
        sh2,
        small_hidden,
        stride,
        decoder_width,
        sh_padded,
        width,
        decoder_part,
    )
    o = tl.arange(0, sh_padded)
    y += tl.load(sh2_bias + o)[None, :]
    o = o[None, :]
    y += tl.load(raw_sh + rows[:, None] * coefficients + o, inside & (o < coefficients), 0.0)
    tl.store(sh + row * coefficients + o, y, inside & (o < coefficients))
