"""Triton kernels that blend a tile's Gaussians front to back, and their gradients.

One program of one warp takes one tile of LIST_TILE px, with its pixels in registers, and goes
through the tile's list; it loads the data of the next step one step ahead. The backward pass goes
through the list again and writes one gradient for each pair. Another kernel adds these up for each
Gaussian, so no result depends on the order in which programs run. Forward, two Gaussians a step
keep the warp busy; backward, that was slower.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.cuda.geometry import (
    ALPHA_MAX,
    ALPHA_MIN,
    LIST_TILE,
    SPLAT_FLOATS,
    TRANSMITTANCE_MIN,
)

# Floats of a pair's gradient: sums over the pixels of g, gu, gv, guu, guv, gvv with
# g = alpha dL/dalpha, and of dL/d(red, green, blue, depth).
GRADIENT_FLOATS = tl.constexpr(10)
CHECK_INTERVAL = tl.constexpr(8)  # pairs between checks whether all pixels of the tile are opaque
SIZES = ["width", "height", "tiles_x", "tiles", "total"]  # arguments that are not specialised


@triton.jit
def load_splat(splats, row, listed):
    """Return the ten numbers of the splat at `row`; zeros where `listed` is false.

    A splat of opacity 0 is skipped. The row of a splat that no tile lists may hold anything.
    """
    base = splats + row.to(tl.int64) * SPLAT_FLOATS
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
def whitened(x, y, a, a_lean, b, left, top, pixel_x, pixel_y):
    """Return the whitened coordinates u and v at the pixels of a tile (see `geometry`)."""
    x0, y0 = left - x, top - y
    return a * pixel_x + ((a * x0 - a_lean * y0) - a_lean * pixel_y), b * pixel_y + b * y0


@triton.jit
def blend_one(
    transmittance, red, green, blue, depth, weights,
    left, top, pixel_x, pixel_y,
    x, y, a, a_lean, b, opacity, r, g, bl, z,
):  # fmt: skip
    """Return the state of the pixels after one more Gaussian."""
    u, v = whitened(x, y, a, a_lean, b, left, top, pixel_x, pixel_y)
    alpha = tl.minimum(opacity * tl.exp2(-(u * u + v * v)), ALPHA_MAX)
    after = transmittance - transmittance * alpha
    counts, goes_on = alpha >= ALPHA_MIN, after >= TRANSMITTANCE_MIN
    weight = tl.where(counts & goes_on, transmittance * alpha, 0.0)
    transmittance = tl.where(counts, tl.where(goes_on, after, 0.0), transmittance)
    return (
        transmittance,
        red + weight * r,
        green + weight * g,
        blue + weight * bl,
        depth + weight * z,
        weights + weight,
    )


@triton.jit
def blend_list(splats, rows, start, end, left, top, pixel_x, pixel_y, inside):
    """Blend the pairs from `start` to `end` over the pixels of a tile.

    Returns the sums of red, green, blue, depth and weights, and the index behind the last pair that
    was blended: the walk stops when all pixels are opaque.
    """
    # The transmittance is 0 once a pixel is finished.
    transmittance = tl.where(inside, 1.0, 0.0)
    red, green, blue = transmittance * 0.0, transmittance * 0.0, transmittance * 0.0
    depth, weights = transmittance * 0.0, transmittance * 0.0

    # Splats without a number and with a 2 are those of this step; `ahead` and `ahead2` are the rows
    # of the next step's.
    pair = start
    row = tl.load(rows + pair, pair < end, 0)
    x, y, a, a_lean, b, opacity, r, g, bl, z = load_splat(splats, row, pair < end)
    row = tl.load(rows + pair + 1, pair + 1 < end, 0)
    x2, y2, a2, a_lean2, b2, opacity2, r2, g2, bl2, z2 = load_splat(splats, row, pair + 1 < end)
    ahead = tl.load(rows + pair + 2, pair + 2 < end, 0)
    ahead2 = tl.load(rows + pair + 3, pair + 3 < end, 0)

    while pair < end:
        # The first splat of this step; the one of the next step is loaded before.
        x3, y3, a3, a_lean3, b3, opacity3, r3, g3, bl3, z3 = load_splat(
            splats, ahead, pair + 2 < end
        )
        ahead = tl.load(rows + pair + 4, pair + 4 < end, 0)
        transmittance, red, green, blue, depth, weights = blend_one(
            transmittance, red, green, blue, depth, weights,
            left, top, pixel_x, pixel_y,
            x, y, a, a_lean, b, opacity, r, g, bl, z,
        )  # fmt: skip
        x, y, a, a_lean, b, opacity, r, g, bl, z = (
            x3, y3, a3, a_lean3, b3, opacity3, r3, g3, bl3, z3,
        )  # fmt: skip

        # The second splat of this step, in the same way.
        x3, y3, a3, a_lean3, b3, opacity3, r3, g3, bl3, z3 = load_splat(
            splats, ahead2, pair + 3 < end
        )
        ahead2 = tl.load(rows + pair + 5, pair + 5 < end, 0)
        transmittance, red, green, blue, depth, weights = blend_one(
            transmittance, red, green, blue, depth, weights,
            left, top, pixel_x, pixel_y,
            x2, y2, a2, a_lean2, b2, opacity2, r2, g2, bl2, z2,
        )  # fmt: skip
        x2, y2, a2, a_lean2, b2, opacity2, r2, g2, bl2, z2 = (
            x3, y3, a3, a_lean3, b3, opacity3, r3, g3, bl3, z3,
        )  # fmt: skip

        pair += 2
        if (pair - start) % CHECK_INTERVAL == 0:
            if tl.max(transmittance, 0) == 0.0:
                end = tl.minimum(pair, end)
    return red, green, blue, depth, weights, end


@triton.jit(do_not_specialize=SIZES)
def blend(
    splats, rows, bounds, rgb, alpha_out, depth_out, visited, width, height, tiles_x, tiles, total
):
    """Blend one tile; `visited` [B * tiles] gets the number of pairs that were blended."""
    # The tile's pixels and its list.
    tile, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, LIST_TILE * LIST_TILE)
    left, top = tile % tiles_x * LIST_TILE, tile // tiles_x * LIST_TILE
    inside = (left + pixel % LIST_TILE < width) & (top + pixel // LIST_TILE < height)
    pixel_x, pixel_y = (pixel % LIST_TILE).to(tl.float32), (pixel // LIST_TILE).to(tl.float32)
    start = tl.load(bounds + frame * tiles + tile)
    end = tl.load(bounds + total + frame * tiles + tile)

    red, green, blue, depth, weights, end = blend_list(
        splats, rows, start, end, left, top, pixel_x, pixel_y, inside
    )
    tl.store(visited + frame * tiles + tile, end - start)

    plane = width * height
    at = (top + pixel // LIST_TILE) * width + left + pixel % LIST_TILE
    tl.store(rgb + frame * 3 * plane + at, red, inside)
    tl.store(rgb + (frame * 3 + 1) * plane + at, green, inside)
    tl.store(rgb + (frame * 3 + 2) * plane + at, blue, inside)
    tl.store(alpha_out + frame * plane + at, weights, inside)
    tl.store(depth_out + frame * plane + at, depth, inside)


@triton.jit
def blend_one_backward(
    out,
    transmittance, behind, g_red, g_green, g_blue, g_alpha, g_depth,
    left, top, pixel_x, pixel_y,
    x, y, a, a_lean, b, opacity, r, g, bl, z,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """Write the gradient of one pair to `out`; return the pixels' transmittance and `behind`."""
    # The forward pass again.
    u, v = whitened(x, y, a, a_lean, b, left, top, pixel_x, pixel_y)
    unlimited = opacity * tl.exp2(-(u * u + v * v))
    alpha = tl.minimum(unlimited, ALPHA_MAX)
    after = transmittance - transmittance * alpha
    counts, goes_on = alpha >= ALPHA_MIN, after >= TRANSMITTANCE_MIN
    blends = counts & goes_on
    weight = tl.where(blends, transmittance * alpha, 0.0)

    # d = alpha dL/dalpha. There is none where alpha is limited to ALPHA_MAX.
    value = r * g_red + g * g_green + bl * g_blue + g_alpha
    if DEPTH:
        value += z * g_depth
    behind -= weight * value
    d = alpha * (transmittance * value - behind / (1.0 - alpha))
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
        tl.store(out + 9, tl.sum(weight * g_depth, 0))
    return tl.where(counts, tl.where(goes_on, after, 0.0), transmittance), behind


@triton.jit(do_not_specialize=SIZES)
def blend_backward(
    splats, rows, slots, bounds, visited,
    rgb, alpha_out, depth_out, d_rgb, d_alpha, d_depth, gradients,
    width, height, tiles_x, tiles, total,
    CLEAR: tl.constexpr,
):  # fmt: skip
    """Write the gradient of each pair of a tile to `gradients` [capacity, GRADIENT_FLOATS].

    Pairs that the forward pass did not reach get zero, CLEAR of them at once. `d_alpha` and
    `d_depth` may be None.
    """
    # The tile's pixels.
    DEPTH: tl.constexpr = d_depth is not None
    tile, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, LIST_TILE * LIST_TILE)
    left, top = tile % tiles_x * LIST_TILE, tile // tiles_x * LIST_TILE
    inside = (left + pixel % LIST_TILE < width) & (top + pixel // LIST_TILE < height)
    pixel_x, pixel_y = (pixel % LIST_TILE).to(tl.float32), (pixel // LIST_TILE).to(tl.float32)
    transmittance = tl.where(inside, 1.0, 0.0)

    # The gradients of the images. `behind` is the gradient-weighted sum of what lies behind the
    # current Gaussian: at first, of everything.
    plane = width * height
    at = (top + pixel // LIST_TILE) * width + left + pixel % LIST_TILE
    colours = frame * 3 * plane + at
    g_red = tl.load(d_rgb + colours, inside, 0.0)
    g_green = tl.load(d_rgb + colours + plane, inside, 0.0)
    g_blue = tl.load(d_rgb + colours + 2 * plane, inside, 0.0)
    behind = g_red * tl.load(rgb + colours, inside, 0.0) + g_green * tl.load(
        rgb + colours + plane, inside, 0.0
    )
    behind += g_blue * tl.load(rgb + colours + 2 * plane, inside, 0.0)
    g_alpha, g_depth = transmittance * 0.0, transmittance * 0.0
    if d_alpha is not None:
        g_alpha = tl.load(d_alpha + frame * plane + at, inside, 0.0)
        behind += g_alpha * tl.load(alpha_out + frame * plane + at, inside, 0.0)
    if d_depth is not None:
        g_depth = tl.load(d_depth + frame * plane + at, inside, 0.0)
        behind += g_depth * tl.load(depth_out + frame * plane + at, inside, 0.0)

    # Go through the pairs of the forward pass; the splat of the next pair is loaded before.
    pair = tl.load(bounds + frame * tiles + tile)
    list_end = tl.load(bounds + total + frame * tiles + tile)
    end = pair + tl.load(visited + frame * tiles + tile)
    row = tl.load(rows + pair, pair < end, 0)
    ahead = tl.load(rows + pair + 1, pair + 1 < end, 0)
    x, y, a, a_lean, b, opacity, r, g, bl, z = load_splat(splats, row, pair < end)
    while pair < end:
        ahead2 = tl.load(rows + pair + 2, pair + 2 < end, 0)
        x2, y2, a2, a_lean2, b2, opacity2, r2, g2, bl2, z2 = load_splat(
            splats, ahead, pair + 1 < end
        )
        transmittance, behind = blend_one_backward(
            gradients + tl.load(slots + pair) * GRADIENT_FLOATS,
            transmittance, behind, g_red, g_green, g_blue, g_alpha, g_depth,
            left, top, pixel_x, pixel_y,
            x, y, a, a_lean, b, opacity, r, g, bl, z,
            DEPTH,
        )  # fmt: skip
        x, y, a, a_lean, b, opacity, r, g, bl, z = (
            x2, y2, a2, a_lean2, b2, opacity2, r2, g2, bl2, z2,
        )  # fmt: skip
        ahead = ahead2
        pair += 1

    # Zero for the pairs behind the end of the walk.
    while pair < list_end:
        pairs = pair + tl.arange(0, CLEAR)
        slot = tl.load(slots + pairs, pairs < list_end, 0)
        item = tl.arange(0, 16)
        out = gradients + (slot * GRADIENT_FLOATS)[:, None] + item[None, :]
        tl.store(
            out,
            tl.zeros([CLEAR, 16], tl.float32),
            (pairs < list_end)[:, None] & (item < GRADIENT_FLOATS)[None, :],
        )
        pair += CLEAR
