"""The kernels in their order, forward and backward, as one differentiable function."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from being.splat.room import Room
from being.splat.triton.blend import PAIR, blend, blend_backward
from being.splat.triton.geometry import TILE
from being.splat.triton.lists import Lists
from being.splat.triton.project import project
from being.splat.triton.project_backward import project_backward
from being.splat.triton.workspace import GuessedRoom, Splats, Workspace

BLOCK = 64  # Gaussians a program of the projection
BLOCK_BACKWARD = 32
CLEAR = 32  # pairs zeroed at once behind a walk's end
FEW_TILES = 8192  # tiles of TILE px a batch; fewer are cut into tiles of half that, or the device would wait for a few


class Size(NamedTuple):
    """What a call's buffers and its tiles depend on."""

    frames: int
    number: int  # of Gaussians
    width: int
    height: int
    degree: int

    @property
    def side(self) -> int:
        """Side of a list tile, px."""
        large = -(-self.width // TILE.value) * -(-self.height // TILE.value)
        return TILE.value // 2 if self.frames * large < FEW_TILES else TILE.value

    @property
    def tiles(self) -> tuple[int, int]:
        """List tiles in x and y."""
        return -(-self.width // self.side), -(-self.height // self.side)


def rasterize(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, sh: Tensor, world_to_camera: Tensor,
    focal: Tensor, width: int, height: int, sh_degree: int, screen_offsets: Tensor | None, room: Room | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return rgb, alpha, depth, radii as `reference.rasterize` does; float32 tensors.

    Without `room` the host waits, at the end, until the device has counted this call's pairs.
    """
    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    size = Size(max(field.shape[0] for field in fields), means.shape[1], width, height, sh_degree)
    assert width * height < 2**31, f"picture of {width} x {height} px"
    if size.number == 0:
        rgb, alpha, depth = _pictures(size, means)
        inputs = (*fields[:5], *([] if screen_offsets is None else [screen_offsets]))
        empty = torch.stack([field.sum() for field in inputs]).sum()  # zero; keeps the graph
        radii = torch.zeros(size.frames, 0, dtype=torch.int32, device=means.device)
        return rgb.zero_() + empty, alpha.zero_(), depth.zero_(), radii
    return _Rasterize.apply(size, room, screen_offsets, *fields)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, size: Size, room: Room | None, offsets: Tensor | None, *fields: Tensor):
        tensors = [_compact(field) for field in fields]
        offsets = None if offsets is None else offsets.contiguous()
        radii = torch.empty(size.frames, size.number, dtype=torch.int32, device=tensors[0].device)
        if room is None:
            guess = GuessedRoom(size, tensors[0].device)
            space = guess.workspace()
            _project(size, offsets, tensors, space.splats, radii)
            guess.count(space.splats)
            pictures, walked = _blend(size, space.splats, space.build())
            if not guess.enough():
                space = guess.workspace(space)
                pictures, walked = _blend(size, space.splats, space.build())
        else:
            space = Workspace(size, room.pairs, tensors[0].device)
            _project(size, offsets, tensors, space.splats, radii)
            room.note(space.splats.needed)
            pictures, walked = _blend(size, space.splats, space.build())
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radii)
        if any(ctx.needs_input_grad):
            ctx.size, ctx.space, ctx.shapes = size, space, [field.shape for field in fields[:5]]
            ctx.save_for_backward(*pictures, walked, *tensors)
        return *pictures, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb: Tensor | None, d_alpha: Tensor | None, d_depth: Tensor | None, _radii):
        if d_rgb is None and d_alpha is None and d_depth is None:
            return (None,) * 10
        rgb, alpha, depth, walked, *tensors = ctx.saved_tensors
        d_rgb = torch.zeros_like(rgb) if d_rgb is None else d_rgb.contiguous()
        d_alpha, d_depth = (None if given is None else given.contiguous() for given in (d_alpha, d_depth))
        size, splats, made = ctx.size, ctx.space.splats, ctx.space.lists
        pairs = rgb.new_empty(len(made.slot), PAIR.value)
        tiles = size.tiles[0] * size.tiles[1]
        blend_backward[(tiles, size.frames)](
            splats.records, made.splat, made.slot, made.bounds, walked, rgb, alpha, depth, d_rgb, d_alpha, d_depth,
            pairs, size.width, size.height, size.tiles[0], tiles, tiles * size.frames, SIDE=size.side,
            TWO=size.side < TILE.value, CLEAR=CLEAR, num_warps=1)  # fmt: skip
        wanted = (*ctx.needs_input_grad[3:8], ctx.needs_input_grad[2])
        new = [rgb.new_empty(size.frames, *shape[1:]) if want else None
               for want, shape in zip(wanted, (*ctx.shapes, (1, size.number, 2)), strict=True)]  # fmt: skip
        if new[4] is not None and new[4].shape[2] > (size.degree + 1) ** 2:
            new[4].zero_()  # coefficients of higher degrees
        project_backward[(triton.cdiv(size.number, BLOCK_BACKWARD), size.frames)](
            *tensors, *_strides(tensors), splats.records, splats.touched, made.first_slot, pairs, len(pairs), *new,
            size.number, tensors[4].shape[2], size.width, size.height, DEGREE=size.degree, DEPTH=d_depth is not None,
            BLOCK=BLOCK_BACKWARD, num_warps=1)  # fmt: skip
        summed = [value.sum(0, keepdim=True) if value is not None and shape[0] < size.frames else value
                  for value, shape in zip(new[:5], ctx.shapes, strict=True)]  # fmt: skip
        return None, None, new[5], *summed, None, None


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor contiguous, with one frame only where an expanded one repeats itself."""
    return (tensor[:1] if tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor).contiguous()


def _strides(tensors: list[Tensor]) -> list[int]:
    """Return floats from one frame to the next, 0 where one serves all."""
    return [tensor.stride(0) if tensor.shape[0] > 1 else 0 for tensor in tensors]


def _pictures(size: Size, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rgb, alpha, depth = (like.new_empty(size.frames, channels, size.height, size.width) for channels in (3, 1, 1))
    return rgb, alpha, depth


def _project(size: Size, offsets: Tensor | None, tensors: list[Tensor], splats: Splats, radii: Tensor) -> None:
    """Write the splats and radii, and count their pairs."""
    splats.needed.zero_()
    project[(triton.cdiv(size.number, BLOCK), size.frames)](
        *tensors, offsets, *_strides(tensors), splats.records, splats.depths, radii, splats.touched, splats.needed,
        size.number, tensors[4].shape[2], size.width, size.height, *size.tiles, DEGREE=size.degree, SIDE=size.side,
        BLOCK=BLOCK, num_warps=BLOCK // 32)  # fmt: skip


def _blend(size: Size, splats: Splats, made: Lists) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return the pictures and how far each tile's walk went."""
    pictures = _pictures(size, splats.records)
    tiles = size.tiles[0] * size.tiles[1]
    walked = torch.empty(tiles * size.frames, dtype=torch.int32, device=splats.records.device)
    blend[(tiles, size.frames)](
        splats.records, made.splat, made.bounds, *pictures, walked, size.width, size.height, size.tiles[0], tiles,
        tiles * size.frames, SIDE=size.side, TWO=size.side < TILE.value, num_warps=1)  # fmt: skip
    return pictures, walked
