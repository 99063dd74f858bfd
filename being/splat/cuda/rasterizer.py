"""The Triton rasterizer as a differentiable function: choice of buffers, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from being.errors import UsageError
from being.splat.cuda.graph_replay import (
    MAX_REPLAY_GAUSSIANS,
    EstimatedCapacity,
    acquire_replay,
)
from being.splat.cuda.stages import (
    CallSize,
    Splats,
    allocate_images,
    allocate_splats,
    gradients,
    project_batch,
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
    capacity: PairCapacity | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb, alpha, depth, radii as `torch_rasterizer.rasterize` does; float32 tensors.

    Without `capacity` the host waits, at the end, until the device has counted this call's pairs.
    """
    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    frames = max(field.shape[0] for field in fields)
    size = CallSize(frames, means.shape[1], width, height, sh_degree)
    assert width * height < 2**31, f"image of {width} x {height} px"

    # No Gaussians: empty images that still belong to the autograd graph.
    if size.gaussians == 0:
        rgb, alpha, depth = allocate_images(size, means)
        inputs = (*fields[:5], *([] if screen_offsets is None else [screen_offsets]))
        empty = torch.stack([field.sum() for field in inputs]).sum()  # zero
        radii = torch.zeros(frames, 0, dtype=torch.int32, device=means.device)
        return rgb.zero_() + empty, alpha.zero_(), depth.zero_(), radii

    if capacity is None and means.is_cuda and torch.cuda.is_current_stream_capturing():
        raise UsageError(
            "a CUDA graph cannot capture a call without a fixed capacity",
            "such a call reads the number of pairs back to the host",
            "Give capacity=PairCapacity(pairs, device).",
        )
    return _Rasterize.apply(size, capacity, screen_offsets, *fields)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        size: CallSize,
        capacity: PairCapacity | None,
        offsets: Tensor | None,
        *fields: Tensor,
    ):
        inputs = [_compact(field) for field in fields]
        inputs += [] if offsets is None else [offsets.contiguous()]
        ctx.set_materialize_grads(False)
        ctx.size, ctx.shapes, ctx.replay = size, [field.shape for field in fields[:5]], None

        # A fixed capacity: nothing is read back.
        if capacity is not None:
            splats = allocate_splats(size, inputs[0])
            project_batch(size, inputs, splats)
            capacity.record(splats.needed)
            return _render_and_save(ctx, size, inputs, splats, capacity.pairs)

        # Few Gaussians: replay a CUDA graph, if the estimated capacity turns out to be enough.
        estimate = EstimatedCapacity(size, inputs[0].device)
        small = size.frames * size.gaussians <= MAX_REPLAY_GAUSSIANS
        if estimate.pairs and inputs[0].is_cuda and small:
            replay = acquire_replay(size, estimate.pairs, inputs)
            replay.project(inputs)
            estimate.start_count(replay.splats)
            images = replay.render()
            if estimate.suffices():
                ctx.replay = replay
                ctx.mark_non_differentiable(images[3])
                return images

        # Launch the kernels. Render with the estimate while the pairs are counted, and render
        # again if there was no estimate or it was too small.
        splats = allocate_splats(size, inputs[0])
        project_batch(size, inputs, splats)
        estimate.start_count(splats)
        had_estimate = estimate.pairs > 0
        if had_estimate:
            result = _render_and_save(ctx, size, inputs, splats, estimate.pairs)
        if estimate.suffices() and had_estimate:
            return result
        return _render_and_save(ctx, size, inputs, splats, estimate.pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb: Tensor | None, d_alpha: Tensor | None, d_depth: Tensor | None, _radii):
        if d_rgb is None and d_alpha is None and d_depth is None:
            return (None,) * 10
        upstream = [
            None if gradient is None else gradient.contiguous()
            for gradient in (d_rgb, d_alpha, d_depth)
        ]
        wanted = (*ctx.needs_input_grad[3:8], ctx.needs_input_grad[2])
        if ctx.replay:
            new = ctx.replay.backward(upstream, wanted)
        else:
            images, inputs = ctx.saved_tensors[:3], list(ctx.saved_tensors[3:])
            new = gradients(ctx.size, inputs, ctx.splats, ctx.record, images, upstream, wanted)

        # A field that all frames share gets the sum over the frames.
        summed = [
            value.sum(0, keepdim=True)
            if value is not None and shape[0] < ctx.size.frames
            else value
            for value, shape in zip(new[:5], ctx.shapes, strict=True)
        ]
        return None, None, new[5], *summed, None, None


def _render_and_save(
    ctx, size: CallSize, inputs: list[Tensor], splats: Splats, capacity: int
) -> tuple[Tensor, ...]:
    """Return the images and radii of projected splats; save what the backward pass needs."""
    record, images = render(size, splats, capacity)
    if any(ctx.needs_input_grad):
        ctx.splats, ctx.record = splats, record
        ctx.save_for_backward(*images, *inputs)
    ctx.mark_non_differentiable(splats.radii)
    return *images, splats.radii


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor contiguous; an expanded one is reduced to a single frame."""
    repeated = tensor.shape[0] > 1 and tensor.stride(0) == 0
    return (tensor[:1] if repeated else tensor).contiguous()
