"""Kernels: a tile's Gaussians blended front to back, and the gradients by the same walk again.

One program takes one tile, or one of PARTS strips of its rows, with its pixels in registers. The backward walk writes
one gradient a pair and strip, to be added up Gaussian by Gaussian: nothing depends on the order in which programs run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.triton.geometry import ALPHA_MAX, ALPHA_MIN, RECORD, TILE, TRANSMITTANCE_MIN

PAIR = tl.constexpr(10)  # floats of a pair's gradient: sums of g, gu, gv, guu, guv, gvv with g = alpha dL/dalpha; of
#                          dL/d(red, green, blue, depth)
LOOK = tl.constexpr(8)  # pairs between looks at whether any pixel still lets light through


@triton.jit
def load_splat(splats, row):
    base = splats + row.to(tl.int64) * RECORD
    return (tl.load(base), tl.load(base + 1), tl.load(base + 2), tl.load(base + 3), tl.load(base + 4),
            tl.load(base + 5), tl.load(base + 6), tl.load(base + 7), tl.load(base + 8), tl.load(base + 9))  # fmt: skip


@triton.jit
def whitened(x, y, a, leaning, b, left, top, column, line):
    """u and v at the pixels of a tile."""
    x0, y0 = left - x, top - y
    return a * column + ((a * x0 - leaning * y0) - leaning * line), b * line + b * y0


@triton.jit
def blend(splats, list_splat, bounds, rgb, alpha_out, depth_out, walked, width, height, tiles_x, tiles, total,
          PARTS: tl.constexpr):  # fmt: skip
    """Blend one strip of a tile; `walked` [B * tiles * PARTS] gets the number of pairs looked at."""
    PIXELS: tl.constexpr = TILE * TILE // PARTS
    tile, part, frame = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS, tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, PIXELS)
    left, top = tile % tiles_x * TILE, tile // tiles_x * TILE + part * (TILE // PARTS)
    inside = (left + pixel % TILE < width) & (top + pixel // TILE < height)
    column, line = (pixel % TILE).to(tl.float32), (pixel // TILE).to(tl.float32)
    light = tl.where(inside, 1.0, 0.0)  # transmittance; 0 once it is used up
    red, green, blue = tl.zeros_like(light), tl.zeros_like(light), tl.zeros_like(light)
    far, weights = tl.zeros_like(light), tl.zeros_like(light)

    start, end = tl.load(bounds + frame * tiles + tile), tl.load(bounds + total + frame * tiles + tile)
    place = start
    row = tl.load(list_splat + place, place < end, 0)
    ahead = tl.load(list_splat + place + 1, place + 1 < end, 0)
    x, y, a, leaning, b, opacity, r, g, bl, z = load_splat(splats, row)
    while place < end:
        coming = tl.load(list_splat + place + 2, place + 2 < end, 0)
        x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_ = load_splat(splats, ahead)
        u, v = whitened(x, y, a, leaning, b, left, top, column, line)
        alpha = tl.minimum(opacity * tl.exp2(-(u * u + v * v)), ALPHA_MAX)
        after = light - light * alpha
        counts, lit = alpha >= ALPHA_MIN, after >= TRANSMITTANCE_MIN
        weight = tl.where(counts & lit, light * alpha, 0.0)
        light = tl.where(counts, tl.where(lit, after, 0.0), light)
        red += weight * r
        green += weight * g
        blue += weight * bl
        far += weight * z
        weights += weight
        x, y, a, leaning, b, opacity, r, g, bl, z = x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_
        ahead = coming
        place += 1
        if (place - start) % LOOK == 0:
            if tl.max(light, 0) == 0.0:
                end = place
    tl.store(walked + (frame * tiles + tile) * PARTS + part, place - start)
    plane = width * height
    at = (top + pixel // TILE) * width + left + pixel % TILE
    tl.store(rgb + frame * 3 * plane + at, red, inside)
    tl.store(rgb + (frame * 3 + 1) * plane + at, green, inside)
    tl.store(rgb + (frame * 3 + 2) * plane + at, blue, inside)
    tl.store(alpha_out + frame * plane + at, weights, inside)
    tl.store(depth_out + frame * plane + at, far, inside)


@triton.jit
def blend_backward(
    splats, list_splat, slots, bounds, walked, rgb, alpha_out, depth_out, d_rgb, d_alpha, d_depth, gradients,
    width, height, tiles_x, tiles, total, ALPHA: tl.constexpr, DEPTH: tl.constexpr, PARTS: tl.constexpr,
    CLEAR: tl.constexpr,
):  # fmt: skip
    """Write a strip's gradient of each of its pairs to `gradients` [room * PARTS, PAIR], zero behind the walk's end.

    ALPHA and DEPTH say whether there are upstream gradients of these; CLEAR is how many pairs are zeroed at once.
    """
    PIXELS: tl.constexpr = TILE * TILE // PARTS
    tile, part, frame = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS, tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, PIXELS)
    left, top = tile % tiles_x * TILE, tile // tiles_x * TILE + part * (TILE // PARTS)
    inside = (left + pixel % TILE < width) & (top + pixel // TILE < height)
    column, line = (pixel % TILE).to(tl.float32), (pixel // TILE).to(tl.float32)
    light = tl.where(inside, 1.0, 0.0)
    plane = width * height
    at = (top + pixel // TILE) * width + left + pixel % TILE
    colours = frame * 3 * plane + at
    g_red, g_green = tl.load(d_rgb + colours, inside, 0.0), tl.load(d_rgb + colours + plane, inside, 0.0)
    g_blue = tl.load(d_rgb + colours + 2 * plane, inside, 0.0)
    # the gradient-weighted sum of what lies behind the current Gaussian, at first of everything
    behind = g_red * tl.load(rgb + colours, inside, 0.0) + g_green * tl.load(rgb + colours + plane, inside, 0.0)
    behind += g_blue * tl.load(rgb + colours + 2 * plane, inside, 0.0)
    g_alpha, g_far = tl.zeros_like(light), tl.zeros_like(light)
    if ALPHA:
        g_alpha = tl.load(d_alpha + frame * plane + at, inside, 0.0)
        behind += g_alpha * tl.load(alpha_out + frame * plane + at, inside, 0.0)
    if DEPTH:
        g_far = tl.load(d_depth + frame * plane + at, inside, 0.0)
        behind += g_far * tl.load(depth_out + frame * plane + at, inside, 0.0)

    place, listed = tl.load(bounds + frame * tiles + tile), tl.load(bounds + total + frame * tiles + tile)
    end = place + tl.load(walked + (frame * tiles + tile) * PARTS + part)
    row = tl.load(list_splat + place, place < end, 0)
    ahead = tl.load(list_splat + place + 1, place + 1 < end, 0)
    x, y, a, leaning, b, opacity, r, g, bl, z = load_splat(splats, row)
    while place < end:
        coming = tl.load(list_splat + place + 2, place + 2 < end, 0)
        x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_ = load_splat(splats, ahead)
        out = gradients + (tl.load(slots + place) * PARTS + part) * PAIR
        u, v = whitened(x, y, a, leaning, b, left, top, column, line)
        unlimited = opacity * tl.exp2(-(u * u + v * v))
        alpha = tl.minimum(unlimited, ALPHA_MAX)
        after = light - light * alpha
        counts, lit = alpha >= ALPHA_MIN, after >= TRANSMITTANCE_MIN
        blends = counts & lit
        weight = tl.where(blends, light * alpha, 0.0)
        value = r * g_red + g * g_green + bl * g_blue + g_alpha
        if DEPTH:
            value += z * g_far
        behind -= weight * value
        d = alpha * (light * value - behind / (1.0 - alpha))
        d = tl.where(blends & (unlimited <= ALPHA_MAX), d, 0.0)
        light = tl.where(counts, tl.where(lit, after, 0.0), light)
        du, dv = d * u, d * v
        tl.store(out, tl.sum(d, 0))
        tl.store(out + 1, tl.sum(du, 0))
        tl.store(out + 2, tl.sum(dv, 0))
        tl.store(out + 3, tl.sum(du * u, 0))
        tl.store(out + 4, tl.sum(du * v, 0))
        tl.store(out + 5, tl.sum(dv * v, 0))
        tl.store(out + 6, tl.sum(weight * g_red, 0))
        tl.store(out + 7, tl.sum(weight * g_green, 0))
        tl.store(out + 8, tl.sum(weight * g_blue, 0))
        if DEPTH:
            tl.store(out + 9, tl.sum(weight * g_far, 0))
        x, y, a, leaning, b, opacity, r, g, bl, z = x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_
        ahead = coming
        place += 1
    while place < listed:
        ahead_places = place + tl.arange(0, CLEAR)
        slot = tl.load(slots + ahead_places, ahead_places < listed, 0)
        item = tl.arange(0, 16)
        out = gradients + ((slot * PARTS + part) * PAIR)[:, None] + item[None, :]
        tl.store(out, tl.zeros([CLEAR, 16], tl.float32), (ahead_places < listed)[:, None] & (item < PAIR)[None, :])
        place += CLEAR
