"""Triton kernel: blends each tile's list of Gaussians in several parts that run in parallel.

A program blends the list of a tile one Gaussian after another. With few frames, all programs wait
for the one with the longest list. So a list is cut into parts of equal length here; `finish` lays
the parts over each other, front to back. One program would stop at a pixel that is filled; the
later parts do not stop there, but they add at most 1e-4 of the light.
"""

from __future__ import annotations

import triton
import triton.language as tl

from being.splat.cuda.blend import SIZES, blend_list
from being.splat.cuda.geometry import LIST_TILE


@triton.jit(do_not_specialize=SIZES)
def blend_part(splats, rows, bounds, out, width, height, tiles_x, tiles, total):
    """Write out float32 [B, parts, 4, H, W]: red, green, blue and transmittance of each part."""
    tile, frame, part = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    pixel = tl.arange(0, LIST_TILE * LIST_TILE)
    left, top = tile % tiles_x * LIST_TILE, tile // tiles_x * LIST_TILE
    inside = (left + pixel % LIST_TILE < width) & (top + pixel // LIST_TILE < height)
    column, line = (pixel % LIST_TILE).to(tl.float32), (pixel // LIST_TILE).to(tl.float32)
    first, last = (
        tl.load(bounds + frame * tiles + tile),
        tl.load(bounds + total + frame * tiles + tile),
    )
    length = (last - first) // tl.num_programs(2) + 1
    start = tl.minimum(first + part * length, last)
    end = tl.minimum(start + length, last)
    red, green, blue, _, weights, _ = blend_list(
        splats, rows, start, end, left, top, column, line, inside
    )
    plane = width * height
    out += (
        (frame * tl.num_programs(2) + part) * 4 * plane
        + (top + pixel // LIST_TILE) * width
        + left
        + pixel % LIST_TILE
    )
    tl.store(out, red, inside)
    tl.store(out + plane, green, inside)
    tl.store(out + 2 * plane, blue, inside)
    tl.store(out + 3 * plane, 1.0 - weights, inside)
