"""Which Gaussians each tile blends, front to back: kernels that list (Gaussian, tile) pairs, and
the sorts between.

The frame's Gaussians are sorted by depth once; pairs are written in that order, and a stable sort
by tile number alone brings each tile's together. A pair's slot is its place in the first order,
where a Gaussian's pairs are neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from being.splat.cuda.geometry import RECORD, ellipse, row_of_tiles, tile_rectangle

BLOCK = 128
SHORT_KEYS = 65535  # tiles of a batch that 16 bits can number, with one number left for unused room


class Lists(NamedTuple):
    """The lists of all tiles of a batch; `room` is the number of pairs that fit."""

    splat: Tensor  # [room] int32 row of the splat in [B * N], in tile order
    slot: Tensor  # [room] int64 slot of the pair
    bounds: Tensor  # [2, B * tiles] int32 first and past-the-last place of a tile's list
    first_slot: Tensor  # [B, N] int64 of each Gaussian


def build(
    splats: Tensor, depths: Tensor, touched: Tensor, room: int, tiles: tuple[int, int]
) -> Lists:
    """Return the lists from what `project` wrote; pairs that do not fit into `room` are left out."""
    frames, count = depths.shape
    total = frames * tiles[0] * tiles[1]
    order = torch.sort(depths, dim=1, stable=True).indices
    ends = torch.gather(touched, 1, order).view(-1).cumsum(0)
    narrow = total <= SHORT_KEYS
    base = 32768 if narrow else 0  # 16-bit keys are signed
    keys = torch.full(
        (room,), total - base, dtype=torch.int16 if narrow else torch.int32, device=splats.device
    )
    pairs = torch.empty(room, dtype=torch.int32, device=splats.device)
    first_slot = torch.empty(frames, count, dtype=torch.int64, device=splats.device)
    emit[(triton.cdiv(count, BLOCK), frames)](
        splats,
        touched,
        order,
        ends,
        keys,
        pairs,
        first_slot,
        count,
        room,
        base,
        *tiles,
        BLOCK=BLOCK,
        enable_fp_fusion=True,
    )
    sorted_keys, slot = torch.sort(keys, stable=True)
    splat = torch.empty(room, dtype=torch.int32, device=splats.device)
    bounds = torch.zeros(2, total, dtype=torch.int32, device=splats.device)
    grid = (triton.cdiv(room, 4 * BLOCK),)
    arrange[grid](sorted_keys, slot, pairs, splat, bounds, room, base, total, BLOCK=4 * BLOCK)
    return Lists(splat, slot, bounds, first_slot)


@triton.jit(do_not_specialize=["count", "room", "base", "tiles_x", "tiles_y"])
def emit(
    splats,
    touched,
    order,
    ends,
    keys,
    pairs,
    first_slot,
    count,
    room,
    base,
    tiles_x,
    tiles_y,
    BLOCK: tl.constexpr,
):
    """Write the pairs of a block of Gaussians in depth order: the tile's number and the splat's
    row.
    """
    frame = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    row = frame * count + tl.load(order + frame * count + place, mask, 0)
    number = tl.load(touched + row, mask, 0)
    slot = tl.load(ends + frame * count + place, mask, 0) - number
    tl.store(first_slot + row, slot, mask)
    drawn = mask & (number > 0)
    end = slot + number
    splat = splats + row * RECORD
    x, y = tl.load(splat, drawn, 0.0), tl.load(splat + 1, drawn, 0.0)
    a, leaning = tl.load(splat + 2, drawn, 1.0), tl.load(splat + 3, drawn, 0.0)
    b, opacity = tl.load(splat + 4, drawn, 1.0), tl.load(splat + 5, drawn, 1.0)
    left, top, right, bottom = tile_rectangle(
        x, y, tl.load(splat + 10, drawn, 0.0), tiles_x, tiles_y
    )
    bottom = tl.where(drawn, bottom, top)
    level, half, extreme, lean = ellipse(a, leaning, b, opacity)
    step = 0
    rows = tl.max(bottom - top, 0)
    while step < rows:
        at = top + step
        first, last = row_of_tiles(at, x, y, a, b, level, half, extreme, lean, left, right)
        last = tl.where(at < bottom, last, first)
        column = 0
        columns = tl.max(last - first, 0)
        while column < columns:
            write = (first + column < last) & (slot < end) & (slot < room)
            tile = (frame.to(tl.int32) * tiles_y + at) * tiles_x + first + column
            tl.store(keys + slot, (tile - base).to(keys.dtype.element_ty), write)
            tl.store(pairs + slot, row.to(tl.int32), write)
            slot += tl.where(first + column < last, 1, 0)
            column += 1
        step += 1


@triton.jit(do_not_specialize=["room", "base", "total"])
def arrange(sorted_keys, slot, pairs, splat, bounds, room, base, total, BLOCK: tl.constexpr):
    """Copy the splats' rows into tile order and note where each tile's list begins and ends."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = place < room
    tile = tl.load(sorted_keys + place, mask, 0).to(tl.int32) + base
    used = mask & (tile < total)
    before = tl.load(sorted_keys + place - 1, mask & (place > 0), 0).to(tl.int32) + base
    after = tl.load(sorted_keys + place + 1, place + 1 < room, 0).to(tl.int32) + base
    tl.store(bounds + tile, place, used & ((place == 0) | (before != tile)))
    tl.store(bounds + total + tile, place + 1, used & ((place + 1 >= room) | (after != tile)))
    where = tl.load(slot + place, used, 0)
    tl.store(splat + place, tl.load(pairs + where, used, 0), used)
