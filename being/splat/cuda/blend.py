"""Kernels: a tile's Gaussians blended front to back, and the gradients by the same walk again.

One program, of one warp, takes one tile of SIDE px with its pixels in registers and goes through
the tile's list; what the next step needs is loaded a step ahead. The backward walk writes one
gradient a pair, to be added up Gaussian by Gaussian: nothing depends on the order in which programs
run. Forward, two Gaussians a step keep the warp busy; backward that was slower.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.cuda.geometry import ALPHA_MAX, ALPHA_MIN, RECORD, SIDE, TRANSMITTANCE_MIN

PAIR = tl.constexpr(
    10
)  # floats of a pair's gradient: sums of g, gu, gv, guu, guv, gvv with g = alpha dL/dalpha; of
#                          dL/d(red, green, blue, depth)
SIZES = ["width", "height", "tiles_x", "tiles", "total"]
LOOK = tl.constexpr(8)  # pairs between looks at whether any pixel still lets light through


@triton.jit
def load_splat(splats, row, listed):
    """The splat of a row, zeros (of opacity 0, so that it is skipped) unless `listed`: a row that
    no tile lists may hold anything."""
    base = splats + row.to(tl.int64) * RECORD
    return (
        tl.load(base, listed, 0.0),
        tl.load(base + 1, listed, 0.0),
        tl.load(base + 2, listed, 0.0),
        tl.load(base + 3, listed, 0.0),
        tl.load(base + 4, listed, 0.0),
        tl.load(base + 5, listed, 0.0),
        tl.load(base + 6, listed, 0.0),
        tl.load(base + 7, listed, 0.0),
        tl.load(base + 8, listed, 0.0),
        tl.load(base + 9, listed, 0.0),
    )


@triton.jit
def whitened(x, y, a, leaning, b, left, top, column, line):
    """u and v at the pixels of a tile."""
    x0, y0 = left - x, top - y
    return a * column + ((a * x0 - leaning * y0) - leaning * line), b * line + b * y0


@triton.jit
def blend_one(
    light,
    red,
    green,
    blue,
    far,
    weights,
    left,
    top,
    column,
    line,
    x,
    y,
    a,
    leaning,
    b,
    opacity,
    r,
    g,
    bl,
    z,
):
    """The pixels' state behind one more Gaussian."""
    u, v = whitened(x, y, a, leaning, b, left, top, column, line)
    alpha = tl.minimum(opacity * tl.exp2(-(u * u + v * v)), ALPHA_MAX)
    after = light - light * alpha
    counts, lit = alpha >= ALPHA_MIN, after >= TRANSMITTANCE_MIN
    weight = tl.where(counts & lit, light * alpha, 0.0)
    light = tl.where(counts, tl.where(lit, after, 0.0), light)
    return (
        light,
        red + weight * r,
        green + weight * g,
        blue + weight * bl,
        far + weight * z,
        weights + weight,
    )


@triton.jit
def walk(splats, rows, start, end, left, top, column, line, inside):
    """The pixels of a tile behind the pairs from `start` to `end`: red, green, blue, depth and
    weights, each the sum so far, and the pair after the last that was looked at."""
    light = tl.where(inside, 1.0, 0.0)  # transmittance; 0 once it is used up
    red, green, blue, far, weights = light * 0.0, light * 0.0, light * 0.0, light * 0.0, light * 0.0
    place = start
    row = tl.load(rows + place, place < end, 0)
    x, y, a, leaning, b, opacity, r, g, bl, z = load_splat(splats, row, place < end)
    row = tl.load(rows + place + 1, place + 1 < end, 0)
    x2, y2, a2, leaning2, b2, opacity2, r2, g2, bl2, z2 = load_splat(splats, row, place + 1 < end)
    ahead, ahead2 = (
        tl.load(rows + place + 2, place + 2 < end, 0),
        tl.load(rows + place + 3, place + 3 < end, 0),
    )
    while place < end:
        x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_ = load_splat(
            splats, ahead, place + 2 < end
        )
        ahead = tl.load(rows + place + 4, place + 4 < end, 0)
        light, red, green, blue, far, weights = blend_one(
            light,
            red,
            green,
            blue,
            far,
            weights,
            left,
            top,
            column,
            line,
            x,
            y,
            a,
            leaning,
            b,
            opacity,
            r,
            g,
            bl,
            z,
        )
        x, y, a, leaning, b, opacity, r, g, bl, z = (
            x_,
            y_,
            a_,
            leaning_,
            b_,
            opacity_,
            r_,
            g_,
            bl_,
            z_,
        )
        x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_ = load_splat(
            splats, ahead2, place + 3 < end
        )
        ahead2 = tl.load(rows + place + 5, place + 5 < end, 0)
        light, red, green, blue, far, weights = blend_one(
            light,
            red,
            green,
            blue,
            far,
            weights,
            left,
            top,
            column,
            line,
            x2,
            y2,
            a2,
            leaning2,
            b2,
            opacity2,
            r2,
            g2,
            bl2,
            z2,
        )
        x2, y2, a2, leaning2, b2, opacity2, r2, g2, bl2, z2 = (
            x_,
            y_,
            a_,
            leaning_,
            b_,
            opacity_,
            r_,
            g_,
            bl_,
            z_,
        )
        place += 2
        if (place - start) % LOOK == 0:
            if tl.max(light, 0) == 0.0:
                end = tl.minimum(place, end)
    return red, green, blue, far, weights, end


@triton.jit(do_not_specialize=SIZES)
def blend(
    splats, rows, bounds, rgb, alpha_out, depth_out, walked, width, height, tiles_x, tiles, total
):
    """Blend one tile; `walked` [B * tiles] gets the number of pairs looked at."""
    tile, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, SIDE * SIDE)
    left, top = tile % tiles_x * SIDE, tile // tiles_x * SIDE
    inside = (left + pixel % SIDE < width) & (top + pixel // SIDE < height)
    column, line = (pixel % SIDE).to(tl.float32), (pixel // SIDE).to(tl.float32)
    start, end = (
        tl.load(bounds + frame * tiles + tile),
        tl.load(bounds + total + frame * tiles + tile),
    )
    red, green, blue, far, weights, end = walk(
        splats, rows, start, end, left, top, column, line, inside
    )
    tl.store(walked + frame * tiles + tile, end - start)
    plane = width * height
    at = (top + pixel // SIDE) * width + left + pixel % SIDE
    tl.store(rgb + frame * 3 * plane + at, red, inside)
    tl.store(rgb + (frame * 3 + 1) * plane + at, green, inside)
    tl.store(rgb + (frame * 3 + 2) * plane + at, blue, inside)
    tl.store(alpha_out + frame * plane + at, weights, inside)
    tl.store(depth_out + frame * plane + at, far, inside)


@triton.jit
def blend_one_backward(
    out,
    light,
    behind,
    g_red,
    g_green,
    g_blue,
    g_alpha,
    g_far,
    left,
    top,
    column,
    line,
    x,
    y,
    a,
    leaning,
    b,
    opacity,
    r,
    g,
    bl,
    z,
    DEPTH: tl.constexpr,
):
    """Write the gradient of one pair; return the pixels' state behind it."""
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
    return tl.where(counts, tl.where(lit, after, 0.0), light), behind


@triton.jit(do_not_specialize=SIZES)
def blend_backward(
    splats,
    rows,
    slots,
    bounds,
    walked,
    rgb,
    alpha_out,
    depth_out,
    d_rgb,
    d_alpha,
    d_depth,
    gradients,
    width,
    height,
    tiles_x,
    tiles,
    total,
    CLEAR: tl.constexpr,
):
    """Write a tile's gradient of each of its pairs to `gradients` [room, PAIR], zero behind the
    walk's end.

    `d_alpha` and `d_depth` may be None; CLEAR is how many pairs are zeroed at once.
    """
    DEPTH: tl.constexpr = d_depth is not None
    tile, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, SIDE * SIDE)
    left, top = tile % tiles_x * SIDE, tile // tiles_x * SIDE
    inside = (left + pixel % SIDE < width) & (top + pixel // SIDE < height)
    column, line = (pixel % SIDE).to(tl.float32), (pixel // SIDE).to(tl.float32)
    light = tl.where(inside, 1.0, 0.0)
    plane = width * height
    at = (top + pixel // SIDE) * width + left + pixel % SIDE
    colours = frame * 3 * plane + at
    g_red, g_green = (
        tl.load(d_rgb + colours, inside, 0.0),
        tl.load(d_rgb + colours + plane, inside, 0.0),
    )
    g_blue = tl.load(d_rgb + colours + 2 * plane, inside, 0.0)
    # the gradient-weighted sum of what lies behind the current Gaussian, at first of everything
    behind = g_red * tl.load(rgb + colours, inside, 0.0) + g_green * tl.load(
        rgb + colours + plane, inside, 0.0
    )
    behind += g_blue * tl.load(rgb + colours + 2 * plane, inside, 0.0)
    g_alpha, g_far = light * 0.0, light * 0.0
    if d_alpha is not None:
        g_alpha = tl.load(d_alpha + frame * plane + at, inside, 0.0)
        behind += g_alpha * tl.load(alpha_out + frame * plane + at, inside, 0.0)
    if d_depth is not None:
        g_far = tl.load(d_depth + frame * plane + at, inside, 0.0)
        behind += g_far * tl.load(depth_out + frame * plane + at, inside, 0.0)

    place, listed = (
        tl.load(bounds + frame * tiles + tile),
        tl.load(bounds + total + frame * tiles + tile),
    )
    end = place + tl.load(walked + frame * tiles + tile)
    row = tl.load(rows + place, place < end, 0)
    ahead = tl.load(rows + place + 1, place + 1 < end, 0)
    x, y, a, leaning, b, opacity, r, g, bl, z = load_splat(splats, row, place < end)
    while place < end:
        coming = tl.load(rows + place + 2, place + 2 < end, 0)
        x_, y_, a_, leaning_, b_, opacity_, r_, g_, bl_, z_ = load_splat(
            splats, ahead, place + 1 < end
        )
        light, behind = blend_one_backward(
            gradients + tl.load(slots + place) * PAIR,
            light,
            behind,
            g_red,
            g_green,
            g_blue,
            g_alpha,
            g_far,
            left,
            top,
            column,
            line,
            x,
            y,
            a,
            leaning,
            b,
            opacity,
            r,
            g,
            bl,
            z,
            DEPTH,
        )
        x, y, a, leaning, b, opacity, r, g, bl, z = (
            x_,
            y_,
            a_,
            leaning_,
            b_,
            opacity_,
            r_,
            g_,
            bl_,
            z_,
        )
        ahead = coming
        place += 1
    while place < listed:
        places = place + tl.arange(0, CLEAR)
        slot = tl.load(slots + places, places < listed, 0)
        item = tl.arange(0, 16)
        out = gradients + (slot * PAIR)[:, None] + item[None, :]
        tl.store(
            out,
            tl.zeros([CLEAR, 16], tl.float32),
            (places < listed)[:, None] & (item < PAIR)[None, :],
        )
        place += CLEAR
