"""The kernels in their order, forward and backward, as one differentiable function; and the room for pairs."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from being.errors import UsageError
from being.splat.room import Room
from being.splat.triton import lists
from being.splat.triton.blend import PAIR, blend, blend_backward
from being.splat.triton.geometry import RECORD, TILE
from being.splat.triton.project import project
from being.splat.triton.project_backward import project_backward

BLOCK = 64  # Gaussians a program of the projection
CLEAR = 32  # pairs zeroed at once behind a walk's end
SPARE = 1.25  # room made for pairs, over what the last call of this picture size needed per Gaussian
MAX_PAIRS = 2**31 - 2**20


class _Size(NamedTuple):
    frames: int
    number: int  # of Gaussians
    width: int
    height: int
    degree: int

    @property
    def tiles(self) -> tuple[int, int]:
        return -(-self.width // TILE.value), -(-self.height // TILE.value)


class _Projected(NamedTuple):
    splats: Tensor  # [B, N, RECORD] float32
    depths: Tensor  # [B, N] float32, infinite where nothing is drawn
    radii: Tensor  # [B, N] int32 px
    touched: Tensor  # [B, N] int32 tiles
    needed: Tensor  # [1] int64 pairs


_density: dict[tuple[torch.device, int, int], float] = {}  # pairs per Gaussian and frame of the last call


def rasterize(
    means: Tensor, quaternions: Tensor, scales: Tensor, opacities: Tensor, sh: Tensor, world_to_camera: Tensor,
    focal: Tensor, width: int, height: int, sh_degree: int, screen_offsets: Tensor | None, room: Room | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return rgb, alpha, depth, radii as `reference.rasterize` does; float32 tensors.

    Without `room` the host waits, at the end, until the device has counted this call's pairs.
    """
    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    size = _Size(max(field.shape[0] for field in fields), means.shape[1], width, height, sh_degree)
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
    def forward(ctx, size: _Size, room: Room | None, offsets: Tensor | None, *fields: Tensor):
        tensors = [_compact(field) for field in fields]
        offsets = None if offsets is None else offsets.detach().contiguous()
        projected = _project(size, offsets, tensors)
        parts = _parts(size)
        if room is None:
            built, pictures, walked = _with_guessed_room(size, projected, parts)
        else:
            room.note(projected.needed)
            built, pictures, walked = _render(size, projected, room.pairs, parts)
        ctx.set_materialize_grads(False)
        ctx.size, ctx.parts, ctx.shapes = size, parts, [field.shape for field in fields[:5]]
        ctx.save_for_backward(*pictures, *tensors, projected.splats, projected.touched, *built, walked)
        ctx.mark_non_differentiable(projected.radii)
        return *pictures, projected.radii

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb: Tensor | None, d_alpha: Tensor | None, d_depth: Tensor | None, _radii):
        if d_rgb is None and d_alpha is None and d_depth is None:
            return (None,) * 10
        pictures, rest = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        tensors, (splats, touched, *built, walked) = rest[:7], rest[7:]
        size, made = ctx.size, lists.Lists(*built)
        d_rgb = torch.zeros_like(pictures[0]) if d_rgb is None else d_rgb.contiguous()
        d_alpha, d_depth = (None if given is None else given.contiguous() for given in (d_alpha, d_depth))
        pairs = torch.empty(len(made.slot) * ctx.parts, PAIR.value, dtype=torch.float32, device=splats.device)
        tiles = size.tiles[0] * size.tiles[1]
        depth = d_depth is not None
        blend_backward[(tiles * ctx.parts, size.frames)](
            splats, made.splat, made.slot, made.bounds, walked, *pictures, d_rgb, d_alpha, d_depth, pairs, size.width,
            size.height, size.tiles[0], tiles, tiles * size.frames, ALPHA=d_alpha is not None, DEPTH=depth,
            PARTS=ctx.parts, CLEAR=CLEAR, num_warps=_warps(ctx.parts))  # fmt: skip
        wanted = (*ctx.needs_input_grad[3:8], ctx.needs_input_grad[2])
        new = [torch.empty(size.frames, *shape[1:], dtype=torch.float32, device=splats.device) if want else None
               for want, shape in zip(wanted, (*ctx.shapes, (1, size.number, 2)), strict=True)]  # fmt: skip
        if new[4] is not None and new[4].shape[2] > (size.degree + 1) ** 2:
            new[4].zero_()  # coefficients of higher degrees
        project_backward[(triton.cdiv(size.number, BLOCK), size.frames)](
            *tensors, *_strides(tensors), splats, touched, made.first_slot, pairs, len(made.slot), *new, size.number,
            tensors[4].shape[2], size.width, size.height, DEGREE=size.degree, DEPTH=depth, PARTS=ctx.parts,
            BLOCK=BLOCK, num_warps=BLOCK // 32)  # fmt: skip
        summed = [value.sum(0, keepdim=True) if value is not None and shape[0] < size.frames else value
                  for value, shape in zip(new[:5], ctx.shapes, strict=True)]  # fmt: skip
        return None, None, new[5], *summed, None, None


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor contiguous, with one frame only where an expanded one repeats itself."""
    return (tensor[:1] if tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor).detach().contiguous()


def _strides(tensors: list[Tensor] | tuple[Tensor, ...]) -> list[int]:
    """Return floats from one frame to the next, 0 where one serves all."""
    return [tensor[0].numel() if tensor.shape[0] > 1 else 0 for tensor in tensors]


def _parts(size: _Size) -> int:
    """Return into how many strips a tile is cut: few tiles would leave the device idle."""
    return 4 if size.frames * size.tiles[0] * size.tiles[1] < 4096 else 1


def _warps(parts: int) -> int:
    return 1


def _pictures(size: _Size, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rgb, alpha, depth = (like.new_empty(size.frames, channels, size.height, size.width) for channels in (3, 1, 1))
    return rgb, alpha, depth


def _project(size: _Size, offsets: Tensor | None, tensors: list[Tensor]) -> _Projected:
    means = tensors[0]
    shape = (size.frames, size.number)
    splats = means.new_empty(*shape, RECORD.value)
    depths = means.new_empty(shape)
    radii, touched = (torch.empty(shape, dtype=torch.int32, device=means.device) for _ in range(2))
    needed = torch.zeros(1, dtype=torch.int64, device=means.device)
    project[(triton.cdiv(size.number, BLOCK), size.frames)](
        *tensors, offsets, *_strides(tensors), splats, depths, radii, touched, needed, size.number, tensors[4].shape[2],
        size.width, size.height, *size.tiles, DEGREE=size.degree, BLOCK=BLOCK, num_warps=BLOCK // 32)  # fmt: skip
    return _Projected(splats, depths, radii, touched, needed)


def _render(size: _Size, projected: _Projected, room: int, parts: int):
    """Return the lists in `room`, the pictures and how far each walk went."""
    built = lists.build(projected.splats, projected.depths, projected.radii, projected.touched, room, size.tiles)
    pictures = _pictures(size, projected.splats)
    tiles = size.tiles[0] * size.tiles[1]
    walked = torch.empty(tiles * size.frames * parts, dtype=torch.int32, device=projected.splats.device)
    blend[(tiles * parts, size.frames)](
        projected.splats, built.splat, built.bounds, *pictures, walked, size.width, size.height, size.tiles[0], tiles,
        tiles * size.frames, PARTS=parts, num_warps=_warps(parts))  # fmt: skip
    return built, pictures, walked


def _with_guessed_room(size: _Size, projected: _Projected, parts: int):
    """Return `_render` in room enough: guessed from the last call, so that the device need not wait for the host.

    The count of this call's pairs is on its way while the device works; should the guess be too small, all is listed
    and blended again.
    """
    if projected.needed.is_cuda and torch.cuda.is_current_stream_capturing():
        raise UsageError("a CUDA graph cannot capture a call without fixed room", "", "Give room=Room(pairs, device).")
    device = projected.splats.device
    key, items = (device, size.width, size.height), size.frames * size.number
    needed = projected.needed.to("cpu", non_blocking=True)
    counted = torch.cuda.Event() if projected.needed.is_cuda else None
    if counted:
        counted.record(torch.cuda.current_stream(device))
    guess, result = _density.get(key), None
    if guess is not None:
        room = _rounded(guess * items * SPARE)
        result = _render(size, projected, room, parts)
    if counted:
        counted.synchronize()
    pairs = int(needed)
    _density[key] = pairs / items
    if pairs > MAX_PAIRS:
        raise MemoryError("more than 2 billion (Gaussian, tile) pairs: Gaussians too many or too large")
    if result is None or pairs > room:
        result = _render(size, projected, _rounded(pairs), parts)
    return result


def _rounded(pairs: float) -> int:
    """Return at least `pairs`, in steps of an eighth of its power of two, so that memory is used again."""
    step = 2 ** max(8, math.ceil(math.log2(max(pairs, 1))) - 3)
    return max(step, math.ceil(pairs / step) * step)
