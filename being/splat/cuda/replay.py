"""Calls of few Gaussians replayed as CUDA graphs, and the room for pairs guessed without asking the
device.

A call is some forty launches. With few Gaussians these cost the host more time than the device, so
there the stages are captured once on fixed buffers and replayed: inputs are copied in, results out.
A call keeps its buffers until its backward pass is over; a call that comes before takes others.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from being.splat.cuda.stages import Size, Splats, gradients, make_splats, project_all, render
from being.splat.graph_capture import captured

SPARE = (
    1.25  # room made for pairs, over what the last call of this picture size needed per Gaussian
)
MAX_PAIRS = 2**31 - 2**20
REPLAYED = 2**18  # Gaussians of all frames, up to which graphs are used
KEPT = 3  # idle sets of buffers

_density: dict[
    tuple, float
] = {}  # pairs per Gaussian and frame of the last call on a device with one picture size
_idle: list[tuple[tuple, _Buffers]] = []
_lock = threading.RLock()
_aside: dict[torch.device, torch.cuda.Stream] = {}  # graphs are captured there


class GuessedRoom:
    """Room for one call's pairs, guessed from the last call (0 at first); its count is read while
    the device works.
    """

    def __init__(self, size: Size, device: torch.device):
        self.key, self.items = (device, size.width, size.height), size.frames * size.number
        self.room = rounded(_density[self.key] * self.items * SPARE) if self.key in _density else 0
        self.counted: torch.cuda.Event | None = None

    def count(self, splats: Splats) -> None:
        """Send the count of pairs to the host."""
        self.needed = splats.needed.to("cpu", non_blocking=True)
        if splats.needed.is_cuda:
            self.counted = torch.cuda.Event()
            self.counted.record()

    def enough(self) -> bool:
        """Wait for the count; False, with the room made larger, when it was too little."""
        if self.counted:
            self.counted.synchronize()
        pairs = int(self.needed)
        _density[self.key] = pairs / self.items
        if pairs > MAX_PAIRS:
            raise MemoryError(
                "more than 2 billion (Gaussian, tile) pairs: Gaussians too many or too large"
            )
        if 0 < self.room >= pairs:
            return True
        self.room = rounded(pairs)
        return False


def known_density(device: torch.device, width: int, height: int) -> float:
    """Return the pairs per Gaussian of the last call with guessed room on this device and of this
    size; 0 before.
    """
    return _density.get((device, width, height), 0.0)


def rounded(pairs: float) -> int:
    """Return at least `pairs`, in steps of an eighth of its power of two, so that buffers serve
    again.
    """
    step = 2 ** max(8, math.ceil(math.log2(max(pairs, 1))) - 3)
    return max(step, math.ceil(pairs / step) * step)


class _Buffers:
    """The fixed buffers of a call and the graphs of its stages."""

    def __init__(self, size: Size, room: int, inputs: list[Tensor]):
        self.size, self.inputs = size, [tensor.clone() for tensor in inputs]
        self.splats = make_splats(size, inputs[0])
        self.project_graph, _ = capture(lambda: project_all(size, self.inputs, self.splats))
        self.render_graph, (self.rendering, self.pictures) = capture(
            lambda: render(size, self.splats, room)
        )
        self.backward_graphs: dict[
            tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor | None]]
        ] = {}

    def backward_graph(self, upstream: list[Tensor | None], wanted: tuple[bool, ...]):
        """Return the graph for these gradients, its inputs (None left out) and its results."""
        key = (*(given is not None for given in upstream), *wanted)
        if key not in self.backward_graphs:
            fixed = [None if given is None else given.clone() for given in upstream]
            graph, new = capture(
                lambda: gradients(
                    self.size,
                    self.inputs,
                    self.splats,
                    self.rendering,
                    self.pictures,
                    fixed,
                    wanted,
                )
            )
            self.backward_graphs[key] = graph, [given for given in fixed if given is not None], new
        return self.backward_graphs[key]


def capture(run: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Return a graph of what `run` launches, after one run of it, and its result in the graph's
    memory.
    """
    current = torch.cuda.current_stream()
    aside = _aside.setdefault(current.device, torch.cuda.Stream())
    aside.wait_stream(current)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(aside):
        run()  # compiles the kernels
        with captured(graph):
            result = run()
    current.wait_stream(aside)
    return graph, result


class Replay:
    """One call on borrowed buffers, which are idle again once nobody holds this."""

    def __init__(self, key: tuple, buffers: _Buffers):
        self.key, self.buffers = key, buffers
        self.splats = buffers.splats

    def __del__(self, lock=_lock, idle=_idle):
        with lock:
            idle.append((self.key, self.buffers))
            del idle[:-KEPT]

    def project(self, inputs: list[Tensor]) -> None:
        """Project these inputs."""
        torch._foreach_copy_(self.buffers.inputs, inputs)
        self.buffers.project_graph.replay()

    def render(self) -> tuple[Tensor, ...]:
        """Return rgb, alpha, depth and radii."""
        self.buffers.render_graph.replay()
        return *_copies(list(self.buffers.pictures)), self.splats.radii.clone()

    def backward(
        self, upstream: list[Tensor | None], wanted: tuple[bool, ...]
    ) -> list[Tensor | None]:
        """Return what `stages.gradients` does."""
        graph, fixed, new = self.buffers.backward_graph(upstream, wanted)
        torch._foreach_copy_(fixed, [given for given in upstream if given is not None])
        graph.replay()
        copies = iter(_copies([value for value in new if value is not None]))
        return [None if value is None else next(copies) for value in new]


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    copies = [torch.empty_like(tensor) for tensor in tensors]
    torch._foreach_copy_(copies, tensors)
    return copies


def borrow(size: Size, room: int, inputs: list[Tensor]) -> Replay:
    """Return buffers for such a call on the current stream, new ones if none are idle."""
    device = inputs[0].device
    shapes = tuple(tensor.shape for tensor in inputs)
    stream = torch.cuda.current_stream(device).cuda_stream
    key = (
        size,
        room,
        shapes,
        device,
        stream,
        torch.is_inference_mode_enabled(),
    )  # its tensors serve there alone
    with _lock:
        for at, (of, buffers) in enumerate(_idle):
            if of == key:
                del _idle[at]
                return Replay(key, buffers)
    return Replay(key, _Buffers(size, room, inputs))
