"""The stages of a Triton rasterizer call on a whole batch: project, render, and the gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from being.splat.cuda.blend import GRADIENT_FLOATS, blend, blend_backward
from being.splat.cuda.geometry import LIST_TILE, SPLAT_FLOATS
from being.splat.cuda.project import project
from being.splat.cuda.project_backward import project_backward
from being.splat.cuda.tile_lists import TileLists, build_tile_lists

BLOCK = 64  # Gaussians of one program of the projection
BLOCK_BACKWARD = 32
CLEARED_PAIRS = 32  # pairs whose gradients are set to zero at once
# Multiply and add in one instruction. From Triton 3.10 on that is no longer the default.
FUSED_MULTIPLY_ADD = {"enable_fp_fusion": True}

Images = tuple[Tensor, Tensor, Tensor]  # rgb [B, 3, H, W], alpha and depth [B, 1, H, W]


class CallSize(NamedTuple):
    """The numbers that the sizes of a call's buffers depend on."""

    frames: int
    gaussians: int
    width: int
    height: int
    degree: int

    @property
    def tiles(self) -> tuple[int, int]:
        """Return the number of list tiles in x and y."""
        return -(-self.width // LIST_TILE.value), -(-self.height // LIST_TILE.value)


class Splats(NamedTuple):
    """The output of `project`."""

    records: Tensor  # [B, N, SPLAT_FLOATS] float32, see `geometry`
    depths: Tensor  # [B, N] float32, infinite where nothing is drawn
    radii: Tensor  # [B, N] int32 px
    touched: Tensor  # [B, N] int32 list tiles that the Gaussian meets
    needed: Tensor  # [1] int64 pairs of the whole call


class BlendRecord(NamedTuple):
    """The values that the backward pass needs besides images and splats."""

    lists: TileLists
    visited: Tensor  # [B * tiles] int32 pairs that each tile blended before it was opaque


def allocate_splats(size: CallSize, like: Tensor) -> Splats:
    """Return uninitialised splats on the device of `like`."""
    shape = (size.frames, size.gaussians)
    radii, touched = (torch.empty(shape, dtype=torch.int32, device=like.device) for _ in range(2))
    needed = torch.empty(1, dtype=torch.int64, device=like.device)
    records = like.new_empty(*shape, SPLAT_FLOATS.value)
    return Splats(records, like.new_empty(shape), radii, touched, needed)


def allocate_images(size: CallSize, like: Tensor) -> Images:
    """Return uninitialised images on the device of `like`."""
    rgb, alpha, depth = (
        like.new_empty(size.frames, channels, size.height, size.width) for channels in (3, 1, 1)
    )
    return rgb, alpha, depth


def project_batch(size: CallSize, inputs: list[Tensor], splats: Splats) -> None:
    """Fill `splats` from the inputs: the seven tensors from means to focal, then screen offsets.

    The screen offsets may be missing.
    """
    splats.needed.zero_()
    project[(triton.cdiv(size.gaussians, BLOCK), size.frames)](
        *inputs[:7],
        inputs[7] if len(inputs) > 7 else None,
        *_strides(inputs),
        *splats,
        size.gaussians,
        inputs[4].shape[2],
        size.width,
        size.height,
        *size.tiles,
        DEGREE=size.degree,
        BLOCK=BLOCK,
        num_warps=BLOCK // 32,
        **FUSED_MULTIPLY_ADD,
    )


def render(size: CallSize, splats: Splats, capacity: int) -> tuple[BlendRecord, Images]:
    """Return the images of projected splats; pairs beyond `capacity` are left out."""
    lists = build_tile_lists(splats.records, splats.depths, splats.touched, capacity, size.tiles)
    images = allocate_images(size, splats.records)
    tiles = size.tiles[0] * size.tiles[1]
    visited = torch.empty(tiles * size.frames, dtype=torch.int32, device=splats.records.device)
    blend[(tiles, size.frames)](
        splats.records,
        lists.splat,
        lists.bounds,
        *images,
        visited,
        size.width,
        size.height,
        size.tiles[0],
        tiles,
        tiles * size.frames,
        num_warps=1,
        **FUSED_MULTIPLY_ADD,
    )
    return BlendRecord(lists, visited), images


def gradients(
    size: CallSize,
    inputs: list[Tensor],
    splats: Splats,
    record: BlendRecord,
    images: Images,
    upstream: list[Tensor | None],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients [B, N, ...] of the five fields and of the screen offsets.

    upstream: the gradients of rgb, alpha and depth, None for those that are zero. wanted: which of
    the six gradients to compute; the others are None.
    """
    d_rgb, d_alpha, d_depth = upstream
    d_rgb = torch.zeros_like(images[0]) if d_rgb is None else d_rgb
    lists, tiles = record.lists, size.tiles[0] * size.tiles[1]

    # One gradient for every (Gaussian, tile) pair.
    pairs = d_rgb.new_empty(len(lists.slot), GRADIENT_FLOATS.value)
    blend_backward[(tiles, size.frames)](
        splats.records,
        lists.splat,
        lists.slot,
        lists.bounds,
        record.visited,
        *images,
        d_rgb,
        d_alpha,
        d_depth,
        pairs,
        size.width,
        size.height,
        size.tiles[0],
        tiles,
        tiles * size.frames,
        CLEAR=CLEARED_PAIRS,
        num_warps=1,
        **FUSED_MULTIPLY_ADD,
    )

    # The outputs. Coefficients of inactive degrees get zero, since the kernel does not write them.
    tails = [field.shape[1:] for field in inputs[:5]] + [(size.gaussians, 2)]
    new = [
        d_rgb.new_empty(size.frames, *tail) if want else None
        for want, tail in zip(wanted, tails, strict=True)
    ]
    if new[4] is not None and new[4].shape[2] > (size.degree + 1) ** 2:
        new[4].zero_()

    # Add up the pairs of each Gaussian and go back through the projection.
    project_backward[(triton.cdiv(size.gaussians, BLOCK_BACKWARD), size.frames)](
        *inputs[:7],
        *_strides(inputs),
        splats.records,
        splats.touched,
        lists.first_slot,
        pairs,
        len(pairs),
        *new,
        size.gaussians,
        inputs[4].shape[2],
        size.width,
        size.height,
        DEGREE=size.degree,
        DEPTH=d_depth is not None,
        BLOCK=BLOCK_BACKWARD,
        num_warps=1,
        **FUSED_MULTIPLY_ADD,
    )
    return new


def _strides(inputs: list[Tensor]) -> list[int]:
    """Return the floats from one frame to the next of the seven inputs; 0 for a shared one."""
    return [tensor.stride(0) if tensor.shape[0] > 1 else 0 for tensor in inputs[:7]]
