"""The Triton rasterizer as one differentiable function: the choice of buffers, and what torch's
autograd asks for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from being.errors import UsageError
from being.splat.cuda.replay import REPLAYED, GuessedRoom, borrow
from being.splat.cuda.stages import (
    Size,
    gradients,
    make_splats,
    new_pictures,
    project_all,
    render,
)
from being.splat.pair_capacity import PairCapacity


def rasterize(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    world_to_camera: Tensor,
    focal: Tensor,
    width: int,
    height: int,
    sh_degree: int,
    screen_offsets: Tensor | None,
    room: PairCapacity | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb, alpha, depth, radii as `reference.rasterize` does; float32 tensors.

    Without `room` the host waits, at the end, until the device has counted this call's pairs.
    """
    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    size = Size(max(field.shape[0] for field in fields), means.shape[1], width, height, sh_degree)
    assert width * height < 2**31, f"picture of {width} x {height} px"
    if size.number == 0:
        rgb, alpha, depth = new_pictures(size, means)
        inputs = (*fields[:5], *([] if screen_offsets is None else [screen_offsets]))
        empty = torch.stack([field.sum() for field in inputs]).sum()  # zero; keeps the graph
        radii = torch.zeros(size.frames, 0, dtype=torch.int32, device=means.device)
        return rgb.zero_() + empty, alpha.zero_(), depth.zero_(), radii
    if room is None and means.is_cuda and torch.cuda.is_current_stream_capturing():
        raise UsageError(
            "a CUDA graph cannot capture a call without fixed room",
            "",
            "Give room=Room(pairs, device).",
        )
    return _Rasterize.apply(size, room, screen_offsets, *fields)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, size: Size, room: PairCapacity | None, offsets: Tensor | None, *fields: Tensor
    ):
        inputs = [_compact(field) for field in fields]
        inputs += [] if offsets is None else [offsets.contiguous()]
        ctx.set_materialize_grads(False)
        ctx.size, ctx.shapes, ctx.replay = size, [field.shape for field in fields[:5]], None
        if room is not None:
            splats = make_splats(size, inputs[0])
            project_all(size, inputs, splats)
            room.note(splats.needed)
            return _rendered(ctx, size, inputs, splats, room.pairs)
        guess = GuessedRoom(size, inputs[0].device)
        if guess.room and inputs[0].is_cuda and size.frames * size.number <= REPLAYED:
            replay = borrow(size, guess.room, inputs)
            replay.project(inputs)
            guess.count(replay.splats)
            pictures = replay.render()
            if guess.enough():
                ctx.replay = replay
                ctx.mark_non_differentiable(pictures[3])
                return pictures
        splats = make_splats(size, inputs[0])
        project_all(size, inputs, splats)
        guess.count(splats)
        if guess.room:
            result = _rendered(ctx, size, inputs, splats, guess.room)
        return (
            result
            if guess.enough() and guess.room
            else _rendered(ctx, size, inputs, splats, guess.room)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb: Tensor | None, d_alpha: Tensor | None, d_depth: Tensor | None, _radii):
        if d_rgb is None and d_alpha is None and d_depth is None:
            return (None,) * 10
        upstream = [
            None if given is None else given.contiguous() for given in (d_rgb, d_alpha, d_depth)
        ]
        wanted = (*ctx.needs_input_grad[3:8], ctx.needs_input_grad[2])
        if ctx.replay:
            new = ctx.replay.backward(upstream, wanted)
        else:
            pictures, inputs = ctx.saved_tensors[:3], list(ctx.saved_tensors[3:])
            new = gradients(ctx.size, inputs, ctx.splats, ctx.rendering, pictures, upstream, wanted)
        summed = [
            value.sum(0, keepdim=True)
            if value is not None and shape[0] < ctx.size.frames
            else value
            for value, shape in zip(new[:5], ctx.shapes, strict=True)
        ]
        return None, None, new[5], *summed, None, None


def _rendered(ctx, size: Size, inputs: list[Tensor], splats, room: int) -> tuple[Tensor, ...]:
    """Return the pictures and radii of projected splats, and keep what the backward pass needs."""
    rendering, pictures = render(size, splats, room)
    if any(ctx.needs_input_grad):
        ctx.splats, ctx.rendering = splats, rendering
        ctx.save_for_backward(*pictures, *inputs)
    ctx.mark_non_differentiable(splats.radii)
    return *pictures, splats.radii


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor contiguous, with one frame only where an expanded one repeats itself."""
    return (tensor[:1] if tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor).contiguous()
