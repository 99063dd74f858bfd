"""The stages of a call, each on whole batches: project, list and blend, and the gradients back."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from being.splat.cuda.blend import PAIR, blend, blend_backward
from being.splat.cuda.geometry import RECORD, SIDE
from being.splat.cuda.lists import Lists, build
from being.splat.cuda.project import project
from being.splat.cuda.project_backward import project_backward

BLOCK = 64  # Gaussians a program of the projection
BLOCK_BACKWARD = 32
CLEAR = 32  # pairs zeroed at once behind a walk's end
FUSED = {
    "enable_fp_fusion": True
}  # multiply and add in one instruction: from Triton 3.10 on that is no default

Pictures = tuple[Tensor, Tensor, Tensor]  # rgb [B, 3, H, W], alpha and depth [B, 1, H, W]


class Size(NamedTuple):
    """What a call's buffers depend on."""

    frames: int
    number: int  # of Gaussians
    width: int
    height: int
    degree: int

    @property
    def tiles(self) -> tuple[int, int]:
        """List tiles in x and y."""
        return -(-self.width // SIDE.value), -(-self.height // SIDE.value)


class Splats(NamedTuple):
    """What `project` writes."""

    records: Tensor  # [B, N, RECORD] float32
    depths: Tensor  # [B, N] float32, infinite where nothing is drawn
    radii: Tensor  # [B, N] int32 px
    touched: Tensor  # [B, N] int32 list tiles
    needed: Tensor  # [1] int64 pairs


class Rendering(NamedTuple):
    """What the backward pass needs of the forward one besides pictures and splats."""

    lists: Lists
    walked: Tensor  # [B * tiles] int32 pairs that each tile looked at


def make_splats(size: Size, like: Tensor) -> Splats:
    """Return room for splats, not filled."""
    shape = (size.frames, size.number)
    radii, touched = (torch.empty(shape, dtype=torch.int32, device=like.device) for _ in range(2))
    needed = torch.empty(1, dtype=torch.int64, device=like.device)
    return Splats(
        like.new_empty(*shape, RECORD.value), like.new_empty(shape), radii, touched, needed
    )


def new_pictures(size: Size, like: Tensor) -> Pictures:
    """Return pictures, not filled."""
    rgb, alpha, depth = (
        like.new_empty(size.frames, channels, size.height, size.width) for channels in (3, 1, 1)
    )
    return rgb, alpha, depth


def project_all(size: Size, inputs: list[Tensor], splats: Splats) -> None:
    """Fill `splats` from the seven inputs (means to focal) and, if given, screen offsets as the
    eighth.
    """
    splats.needed.zero_()
    project[(triton.cdiv(size.number, BLOCK), size.frames)](
        *inputs[:7],
        inputs[7] if len(inputs) > 7 else None,
        *_strides(inputs),
        *splats,
        size.number,
        inputs[4].shape[2],
        size.width,
        size.height,
        *size.tiles,
        DEGREE=size.degree,
        BLOCK=BLOCK,
        num_warps=BLOCK // 32,
        **FUSED,
    )


def render(size: Size, splats: Splats, room: int) -> tuple[Rendering, Pictures]:
    """Return the pictures of projected splats; pairs that do not fit into `room` are left out."""
    made = build(splats.records, splats.depths, splats.touched, room, size.tiles)
    pictures = new_pictures(size, splats.records)
    tiles = size.tiles[0] * size.tiles[1]
    walked = torch.empty(tiles * size.frames, dtype=torch.int32, device=splats.records.device)
    blend[(tiles, size.frames)](
        splats.records,
        made.splat,
        made.bounds,
        *pictures,
        walked,
        size.width,
        size.height,
        size.tiles[0],
        tiles,
        tiles * size.frames,
        num_warps=1,
        **FUSED,
    )
    return Rendering(made, walked), pictures


def gradients(
    size: Size,
    inputs: list[Tensor],
    splats: Splats,
    rendering: Rendering,
    pictures: Pictures,
    upstream: list[Tensor | None],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients [B, N, ...] of the five fields and of the screen offsets, None for those
    not wanted.

    `upstream` are the gradients of rgb, alpha and depth, None for those that are zero.
    """
    d_rgb, d_alpha, d_depth = upstream
    d_rgb = torch.zeros_like(pictures[0]) if d_rgb is None else d_rgb
    made, tiles = rendering.lists, size.tiles[0] * size.tiles[1]
    pairs = d_rgb.new_empty(len(made.slot), PAIR.value)
    blend_backward[(tiles, size.frames)](
        splats.records,
        made.splat,
        made.slot,
        made.bounds,
        rendering.walked,
        *pictures,
        d_rgb,
        d_alpha,
        d_depth,
        pairs,
        size.width,
        size.height,
        size.tiles[0],
        tiles,
        tiles * size.frames,
        CLEAR=CLEAR,
        num_warps=1,
        **FUSED,
    )
    tails = [field.shape[1:] for field in inputs[:5]] + [(size.number, 2)]
    new = [
        d_rgb.new_empty(size.frames, *tail) if want else None
        for want, tail in zip(wanted, tails, strict=True)
    ]
    if new[4] is not None and new[4].shape[2] > (size.degree + 1) ** 2:
        new[4].zero_()  # coefficients of higher degrees
    project_backward[(triton.cdiv(size.number, BLOCK_BACKWARD), size.frames)](
        *inputs[:7],
        *_strides(inputs),
        splats.records,
        splats.touched,
        made.first_slot,
        pairs,
        len(pairs),
        *new,
        size.number,
        inputs[4].shape[2],
        size.width,
        size.height,
        DEGREE=size.degree,
        DEPTH=d_depth is not None,
        BLOCK=BLOCK_BACKWARD,
        num_warps=1,
        **FUSED,
    )
    return new


def _strides(inputs: list[Tensor]) -> list[int]:
    """Return floats from one frame to the next of each of the seven inputs, 0 where one serves all."""
    return [tensor.stride(0) if tensor.shape[0] > 1 else 0 for tensor in inputs[:7]]
