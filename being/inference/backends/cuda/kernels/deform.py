"""Kernel: a frame's record and the canonical Gaussians -> the frame's activated Gaussians, all in
one pass.

For each Gaussian: its tri-plane row meets the frame's tokens, two sums with normalisation and a
feed-forward part for every layer, five heads, and the activations. Nothing in between is stored.
Numbers narrower than float32 (`kind`) are the products' factors only; sums, normalisation and
everything added to the canonical parameters are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

EXACT = tl.constexpr("tf32x3")
SMALL = tl.constexpr(16)  # columns of means 3, log scales 3, quaternion 4, opacity 1, padding 5
TOKENS = tl.constexpr(4)
PART = tl.constexpr(64)  # of hidden values at a time


@triton.jit
def _norm(x, gamma_at, beta_at, d, width: tl.constexpr, eps: tl.constexpr):
    x -= (tl.sum(x, 1) / width)[:, None]
    scale = tl.rsqrt(tl.sum(x * x, 1) / width + eps)
    return x * scale[:, None] * tl.load(gamma_at + d)[None, :] + tl.load(beta_at + d)[None, :]


@triton.jit
def _hidden(x, w_at, b_at, start, stride, d, part: tl.constexpr):
    """relu(x w + b), hidden values start .. start + part."""
    h = start + tl.arange(0, part)
    w = tl.load(w_at + d[:, None] * stride + h[None, :])
    return tl.maximum(tl.dot(x, w, input_precision=EXACT) + tl.load(b_at + h)[None, :], 0.0).to(
        x.dtype
    )


@triton.jit(do_not_specialize=["length", "count"])  # one compilation for every avatar of a network
def deform(
    queries,
    record,
    length,
    gammas,
    betas,
    ffn1,
    ffn1_b,
    ffn2,
    ffn2_b,
    heads1,
    heads1_b,
    small2,
    small2_b,
    sh2,
    sh2_b,
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
    deep: tl.constexpr,
    coefficients: tl.constexpr,
    sh_wide: tl.constexpr,
    eps: tl.constexpr,
    kind: tl.constexpr,
    rows_: tl.constexpr,
):
    """Write the Gaussians of block `program_id(0)` in frame `program_id(1)`.

    queries float32 [N, width]; record float32 [B, length]; weights [in, out] of type `kind`,
    stacked layer by layer; heads1 [width, 5 deep] with the SH head last; raw float32 [N, 11],
    raw_sh [N, coefficients].
    """
    both: tl.constexpr = heads * TOKENS
    part: tl.constexpr = min(PART, ffn)
    frame = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * rows_ + tl.arange(0, rows_)
    inside = (rows < count)[:, None]
    d, t = tl.arange(0, width), tl.arange(0, both)
    x = tl.load(queries + rows[:, None] * width + d[None, :], inside, 0.0)
    for layer in tl.static_range(layers):
        at = record + frame * length + layer * both * (2 * width + 1)
        a = tl.load(at + d[:, None] * both + t[None, :]).to(kind)
        logits = (
            tl.dot(x.to(kind), a, input_precision=EXACT) + tl.load(at + width * both + t)[None, :]
        )
        logits = tl.reshape(logits, (rows_, heads, TOKENS))
        share = tl.exp(logits - tl.max(logits, 2)[:, :, None])
        share = tl.reshape(share / tl.sum(share, 2)[:, :, None], (rows_, both))
        u = tl.load(at + (width + 1) * both + t[:, None] * width + d[None, :]).to(kind)
        x += tl.dot(share.to(kind), u, input_precision=EXACT)
        x = _norm(x, gammas + layer * 2 * width, betas + layer * 2 * width, d, width, eps)
        low = x.to(kind)
        for start in range(0, ffn, part):
            h = _hidden(low, ffn1 + layer * width * ffn, ffn1_b + layer * ffn, start, ffn, d, part)
            w = tl.load(
                ffn2
                + layer * ffn * width
                + (start + tl.arange(0, part))[:, None] * width
                + d[None, :]
            )
            x += tl.dot(h, w, input_precision=EXACT)
        x += tl.load(ffn2_b + layer * width + d)[None, :]
        x = _norm(
            x, gammas + (layer * 2 + 1) * width, betas + (layer * 2 + 1) * width, d, width, eps
        )
    low = tl.maximum(x, 0.0).to(kind)
    some: tl.constexpr = min(PART, deep)
    row = frame * count + rows.to(tl.int64)[:, None]

    o = tl.arange(0, SMALL)
    y = tl.zeros((rows_, SMALL), tl.float32)
    for start in range(0, 4 * deep, some):
        h = _hidden(low, heads1, heads1_b, start, 5 * deep, d, some)
        w = tl.load(small2 + (start + tl.arange(0, some))[:, None] * SMALL + o[None, :])
        y += tl.dot(h, w, input_precision=EXACT)
    y += tl.load(small2_b + o)[None, :]
    o = o[None, :]
    y += tl.load(raw + rows[:, None] * 11 + o, inside & (o < 11), 0.0)
    tl.store(means + row * 3 + o, y, inside & (o < 3))
    tl.store(scales + row * 3 + o - 3, tl.exp(y), inside & (o >= 3) & (o < 6))
    tl.store(quaternions + row * 4 + o - 6, y, inside & (o >= 6) & (o < 10))
    tl.store(opacities + row + o - 10, tl.sigmoid(y), inside & (o == 10))

    o = tl.arange(0, sh_wide)
    y = tl.zeros((rows_, sh_wide), tl.float32)
    for start in range(0, deep, some):
        h = _hidden(low, heads1, heads1_b, 4 * deep + start, 5 * deep, d, some)
        w = tl.load(sh2 + (start + tl.arange(0, some))[:, None] * sh_wide + o[None, :])
        y += tl.dot(h, w, input_precision=EXACT)
    y += tl.load(sh2_b + o)[None, :]
    o = o[None, :]
    y += tl.load(raw_sh + rows[:, None] * coefficients + o, inside & (o < coefficients), 0.0)
    tl.store(sh + row * coefficients + o, y, inside & (o < coefficients))
