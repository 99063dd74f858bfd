"""Tile lists: which Gaussians each tile blends, front to back; Triton kernels and sorts.

The Gaussians of a frame are sorted by depth once, and their (Gaussian, tile) pairs are written in
that order. A stable sort by tile number then brings each tile's pairs together, still by depth. The
slot of a pair is its index in the first order, where the pairs of one Gaussian are neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from being.splat.cuda.geometry import SPLAT_FLOATS, ellipse, row_of_tiles, tile_rectangle

BLOCK = 128
# Tiles of a batch that 16 bits can number; one number is left for unused pairs.
MAX_SHORT_KEYS = 65535


class TileLists(NamedTuple):
    """The lists of all tiles of a batch; `capacity` is the number of pairs that fit."""

    splat: Tensor  # [capacity] int32 row of the splat in [B * N], in tile order
    slot: Tensor  # [capacity] int64 slot of the pair
    bounds: Tensor  # [2, B * tiles] int32 first and past-the-last index of a tile's list
    first_slot: Tensor  # [B, N] int64 of each Gaussian


def build_tile_lists(
    splats: Tensor, depths: Tensor, touched: Tensor, capacity: int, tiles: tuple[int, int]
) -> TileLists:
    """Return the lists from the output of `project`; pairs beyond `capacity` are left out."""
    frames, count = depths.shape
    total = frames * tiles[0] * tiles[1]

    # Gaussians by depth; `ends` is the slot behind each one's last pair.
    order = torch.sort(depths, dim=1, stable=True).indices
    ends = torch.gather(touched, 1, order).view(-1).cumsum(0)

    # Write the pairs with their tile numbers as sort keys. 16-bit keys sort faster; they are
    # signed, so they start at -32768.
    narrow = total <= MAX_SHORT_KEYS
    base = 32768 if narrow else 0
    keys = torch.full(
        (capacity,),
        total - base,
        dtype=torch.int16 if narrow else torch.int32,
        device=splats.device,
    )
    pairs = torch.empty(capacity, dtype=torch.int32, device=splats.device)
    first_slot = torch.empty(frames, count, dtype=torch.int64, device=splats.device)
    write_pairs[(triton.cdiv(count, BLOCK), frames)](
        splats,
        touched,
        order,
        ends,
        keys,
        pairs,
        first_slot,
        count,
        capacity,
        base,
        *tiles,
        BLOCK=BLOCK,
        enable_fp_fusion=True,
    )

    # Sort by tile; the sort is stable, so each tile's pairs stay in depth order.
    sorted_keys, slot = torch.sort(keys, stable=True)
    splat = torch.empty(capacity, dtype=torch.int32, device=splats.device)
    bounds = torch.zeros(2, total, dtype=torch.int32, device=splats.device)
    grid = (triton.cdiv(capacity, 4 * BLOCK),)
    write_lists[grid](
        sorted_keys, slot, pairs, splat, bounds, capacity, base, total, BLOCK=4 * BLOCK
    )
    return TileLists(splat, slot, bounds, first_slot)


@triton.jit(do_not_specialize=["count", "capacity", "base", "tiles_x", "tiles_y"])
def write_pairs(
    splats, touched, order, ends, keys, pairs, first_slot,
    count, capacity, base, tiles_x, tiles_y,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the pairs of a block of Gaussians in depth order: tile number and row of the splat."""
    frame = tl.program_id(1).to(tl.int64)
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = position < count
    row = frame * count + tl.load(order + frame * count + position, mask, 0)
    number = tl.load(touched + row, mask, 0)
    slot = tl.load(ends + frame * count + position, mask, 0) - number
    tl.store(first_slot + row, slot, mask)

    # The ellipse of each Gaussian that is drawn.
    drawn = mask & (number > 0)
    end = slot + number
    splat = splats + row * SPLAT_FLOATS
    x, y = tl.load(splat, drawn, 0.0), tl.load(splat + 1, drawn, 0.0)
    a, a_lean = tl.load(splat + 2, drawn, 1.0), tl.load(splat + 3, drawn, 0.0)
    b, opacity = tl.load(splat + 4, drawn, 1.0), tl.load(splat + 5, drawn, 1.0)
    left, top, right, bottom = tile_rectangle(
        x, y, tl.load(splat + 10, drawn, 0.0), tiles_x, tiles_y
    )
    bottom = tl.where(drawn, bottom, top)
    level, half, extreme, lean = ellipse(a, a_lean, b, opacity)

    # Go through its rows of tiles, and through the tiles of each row.
    step = 0
    rows = tl.max(bottom - top, 0)
    while step < rows:
        at = top + step
        first, last = row_of_tiles(at, x, y, a, b, level, half, extreme, lean, left, right)
        last = tl.where(at < bottom, last, first)
        column = 0
        columns = tl.max(last - first, 0)
        while column < columns:
            write = (first + column < last) & (slot < end) & (slot < capacity)
            tile = (frame.to(tl.int32) * tiles_y + at) * tiles_x + first + column
            tl.store(keys + slot, (tile - base).to(keys.dtype.element_ty), write)
            tl.store(pairs + slot, row.to(tl.int32), write)
            slot += tl.where(first + column < last, 1, 0)
            column += 1
        step += 1


@triton.jit(do_not_specialize=["capacity", "base", "total"])
def write_lists(
    sorted_keys, slot, pairs, splat, bounds, capacity, base, total, BLOCK: tl.constexpr
):
    """Copy the rows of the splats into tile order; write where each tile's list begins and ends."""
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = position < capacity
    tile = tl.load(sorted_keys + position, mask, 0).to(tl.int32) + base
    used = mask & (tile < total)
    before = tl.load(sorted_keys + position - 1, mask & (position > 0), 0).to(tl.int32) + base
    after = tl.load(sorted_keys + position + 1, position + 1 < capacity, 0).to(tl.int32) + base
    tl.store(bounds + tile, position, used & ((position == 0) | (before != tile)))
    tl.store(
        bounds + total + tile, position + 1, used & ((position + 1 >= capacity) | (after != tile))
    )
    where = tl.load(slot + position, used, 0)
    tl.store(splat + position, tl.load(pairs + where, used, 0), used)
