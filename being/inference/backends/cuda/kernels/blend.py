"""Kernel: a tile's Gaussians blended in parts, each by a program of its own.

A tile's list is walked one Gaussian after another, so with few frames the longest list is what all
wait for. Here it is cut into parts of one length; `finish` lays the parts over each other, front to
back. A pixel that its first parts have filled gets at most 1e-4 of the light from the others (where
a single walk would have stopped).
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.cuda.blend import SIZES, walk
from being.splat.cuda.geometry import SIDE


@triton.jit(do_not_specialize=SIZES)
def blend_part(splats, rows, bounds, out, width, height, tiles_x, tiles, total):
    """out [B, parts, 4, H, W]: red, green, blue, and the share of light that the part lets through."""
    tile, frame, part = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    pixel = tl.arange(0, SIDE * SIDE)
    left, top = tile % tiles_x * SIDE, tile // tiles_x * SIDE
    inside = (left + pixel % SIDE < width) & (top + pixel // SIDE < height)
    column, line = (pixel % SIDE).to(tl.float32), (pixel // SIDE).to(tl.float32)
    first, last = (
        tl.load(bounds + frame * tiles + tile),
        tl.load(bounds + total + frame * tiles + tile),
    )
    length = (last - first) // tl.num_programs(2) + 1
    start = tl.minimum(first + part * length, last)
    end = tl.minimum(start + length, last)
    red, green, blue, _, weights, _ = walk(
        splats, rows, start, end, left, top, column, line, inside
    )
    plane = width * height
    out += (
        (frame * tl.num_programs(2) + part) * 4 * plane
        + (top + pixel // SIDE) * width
        + left
        + pixel % SIDE
    )
    tl.store(out, red, inside)
    tl.store(out + plane, green, inside)
    tl.store(out + 2 * plane, blue, inside)
    tl.store(out + 3 * plane, 1.0 - weights, inside)
