"""Replay of small rasterizer calls as CUDA graphs, and an estimate of the buffers they need.

A call is some forty kernel launches. With few Gaussians these cost the host more time than the
device. So the stages are captured once on fixed buffers and replayed: inputs are copied in, results
are copied out. A call keeps its buffers until its backward pass is over; a call that starts before
that takes other buffers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from being.splat.cuda.stages import (
    CallSize,
    Splats,
    allocate_splats,
    gradients,
    project_batch,
    render,
)
from being.splat.graph_capture import capture_graph

# Estimated capacity, over what the last call of this image size needed per Gaussian.
CAPACITY_MARGIN = 1.25
MAX_PAIRS = 2**31 - 2**20
MAX_REPLAY_GAUSSIANS = 2**18  # of all frames: calls with more are not replayed
MAX_IDLE = 3  # sets of buffers that wait for the next call

# Pairs per Gaussian and frame of the last call, by device and image size.
_density: dict[tuple, float] = {}
_idle: list[tuple[tuple, _Buffers]] = []
_lock = threading.RLock()
_capture_streams: dict[torch.device, torch.cuda.Stream] = {}


class EstimatedCapacity:
    """The capacity for one call's pairs, estimated from the last call; 0 before the first call.

    The real number of pairs is read while the device works.
    """

    def __init__(self, size: CallSize, device: torch.device):
        self.key = (device, size.width, size.height)
        self.items = size.frames * size.gaussians
        self.pairs = 0
        if self.key in _density:
            self.pairs = rounded_capacity(_density[self.key] * self.items * CAPACITY_MARGIN)
        self.counted: torch.cuda.Event | None = None

    def start_count(self, splats: Splats) -> None:
        """Start to copy the number of pairs to the host."""
        self.needed = splats.needed.to("cpu", non_blocking=True)
        if splats.needed.is_cuda:
            self.counted = torch.cuda.Event()
            self.counted.record()

    def suffices(self) -> bool:
        """Wait for the number of pairs and return whether the estimate is large enough.

        If not, `pairs` is raised to a capacity that is.
        """
        if self.counted:
            self.counted.synchronize()
        needed = int(self.needed)
        _density[self.key] = needed / self.items
        if needed > MAX_PAIRS:
            raise MemoryError(
                "more than 2 billion (Gaussian, tile) pairs: Gaussians too many or too large"
            )
        if 0 < self.pairs >= needed:
            return True
        self.pairs = rounded_capacity(needed)
        return False


def last_pair_density(device: torch.device, width: int, height: int) -> float:
    """Return the pairs per Gaussian of the last call on this device with this image size.

    Calls with a fixed capacity do not count. 0 before the first call.
    """
    return _density.get((device, width, height), 0.0)


def rounded_capacity(pairs: float) -> int:
    """Return a capacity of at least `pairs`, in steps of an eighth of its power of two.

    The steps let calls of similar size use the same buffers.
    """
    step = 2 ** max(8, math.ceil(math.log2(max(pairs, 1))) - 3)
    return max(step, math.ceil(pairs / step) * step)


class _Buffers:
    """The fixed buffers of a call and the graphs of its stages."""

    def __init__(self, size: CallSize, capacity: int, inputs: list[Tensor]):
        self.size, self.inputs = size, [tensor.clone() for tensor in inputs]
        self.splats = allocate_splats(size, inputs[0])
        self.project_graph, _ = capture_call(lambda: project_batch(size, self.inputs, self.splats))
        self.render_graph, (self.record, self.images) = capture_call(
            lambda: render(size, self.splats, capacity)
        )
        # By which gradients come in and which are wanted: graph, its inputs, its results.
        self.backward_graphs: dict[
            tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor | None]]
        ] = {}

    def backward_graph(
        self, upstream: list[Tensor | None], wanted: tuple[bool, ...]
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor | None]]:
        """Return the graph for these gradients, its inputs (without None) and its results."""
        key = (*(gradient is not None for gradient in upstream), *wanted)
        if key not in self.backward_graphs:
            fixed = [None if gradient is None else gradient.clone() for gradient in upstream]
            graph, new = capture_call(
                lambda: gradients(
                    self.size,
                    self.inputs,
                    self.splats,
                    self.record,
                    self.images,
                    fixed,
                    wanted,
                )
            )
            inputs = [gradient for gradient in fixed if gradient is not None]
            self.backward_graphs[key] = graph, inputs, new
        return self.backward_graphs[key]


def capture_call(run: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Return a graph of the kernels that `run` launches, and its result in the graph's memory.

    `run` is called once before the capture, because that compiles the kernels.
    """
    current = torch.cuda.current_stream()
    stream = _capture_streams.setdefault(current.device, torch.cuda.Stream())
    stream.wait_stream(current)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        run()
        with capture_graph(graph):
            result = run()
    current.wait_stream(stream)
    return graph, result


class Replay:
    """One call on a set of buffers; they become idle when the last reference to this is gone."""

    def __init__(self, key: tuple, buffers: _Buffers):
        self.key, self.buffers = key, buffers
        self.splats = buffers.splats

    def __del__(self, lock=_lock, idle=_idle):
        with lock:
            idle.append((self.key, self.buffers))
            del idle[:-MAX_IDLE]

    def project(self, inputs: list[Tensor]) -> None:
        """Project these inputs."""
        torch._foreach_copy_(self.buffers.inputs, inputs)
        self.buffers.project_graph.replay()

    def render(self) -> tuple[Tensor, ...]:
        """Return rgb, alpha, depth and radii."""
        self.buffers.render_graph.replay()
        return *_copies(list(self.buffers.images)), self.splats.radii.clone()

    def backward(
        self, upstream: list[Tensor | None], wanted: tuple[bool, ...]
    ) -> list[Tensor | None]:
        """Return the gradients as `stages.gradients` does."""
        graph, fixed, new = self.buffers.backward_graph(upstream, wanted)
        torch._foreach_copy_(fixed, [gradient for gradient in upstream if gradient is not None])
        graph.replay()
        copies = iter(_copies([value for value in new if value is not None]))
        return [None if value is None else next(copies) for value in new]


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    copies = [torch.empty_like(tensor) for tensor in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies


def acquire_replay(size: CallSize, capacity: int, inputs: list[Tensor]) -> Replay:
    """Return idle buffers for such a call on the current stream, or new ones."""
    device = inputs[0].device
    shapes = tuple(tensor.shape for tensor in inputs)
    stream = torch.cuda.current_stream(device).cuda_stream
    # Inference tensors must not serve a call outside inference mode, and the reverse.
    key = (size, capacity, shapes, device, stream, torch.is_inference_mode_enabled())
    with _lock:
        for i, (idle_key, buffers) in enumerate(_idle):
            if idle_key == key:
                del _idle[i]
                return Replay(key, buffers)
    return Replay(key, _Buffers(size, capacity, inputs))
