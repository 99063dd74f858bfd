"""The buffers between the kernels of one call, and how large the room for pairs is made without asking the device.

Listing the pairs takes some thirty small launches. For a call of few Gaussians these cost the host more time than the
device, so there they are captured once as a CUDA graph on fixed buffers and replayed; a call keeps its buffers until
its backward pass is over, the next call takes others.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from being.errors import UsageError
from being.splat.triton import lists
from being.splat.triton.geometry import RECORD
from being.splat.triton.lists import Lists

if TYPE_CHECKING:
    from being.splat.triton.rasterizer import Size

SPARE = 1.25  # room made for pairs, over what the last call of this picture size needed per Gaussian
MAX_PAIRS = 2**31 - 2**20
REPLAYED = 2**18  # Gaussians of all frames, up to which lists are built by a captured graph
KEPT = 4  # idle workspaces with graphs

_density: dict[tuple, float] = {}  # pairs per Gaussian and frame of the last call on a device with one picture size
_idle: list[tuple[tuple, Workspace]] = []
_lock = threading.RLock()


class Splats(NamedTuple):
    """What `project` writes."""

    records: Tensor  # [B, N, RECORD] float32
    depths: Tensor  # [B, N] float32, infinite where nothing is drawn
    touched: Tensor  # [B, N] int32 list tiles
    needed: Tensor  # [1] int64 pairs


class Workspace:
    """Splats and lists of one call."""

    def __init__(self, size: Size, room: int, device: torch.device, other: Workspace | _Lent | None = None):
        self.size, self.room, self.other = size, room, other  # the splats may be those of another workspace
        self.graph: torch.cuda.CUDAGraph | None = None
        shape = (size.frames, size.number)
        new = functools.partial(torch.empty, device=device)
        self.splats: Splats = other.splats if other else Splats(
            new(*shape, RECORD.value), new(shape), new(shape, dtype=torch.int32), new(1, dtype=torch.int64))  # fmt: skip

    def build(self) -> Lists:
        """Return the lists of the splats as they are now."""
        if self.graph:
            self.graph.replay()
        else:
            self.lists: Lists = self._build()
        return self.lists

    def _build(self) -> Lists:
        records, depths, touched, _ = self.splats
        return lists.build(records, depths, touched, self.room, self.size.tiles, self.size.side)

    def capture(self) -> None:
        """Make `build` replay a graph on these buffers from now on."""
        self.splats.touched.zero_()
        self.splats.depths.zero_()
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            self._build()  # compiles the kernels
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.lists = self._build()
            finally:
                graph.capture_end()
        current.wait_stream(aside)
        self.graph = graph


class _Lent:
    """A workspace that is idle again once nobody holds this."""

    def __init__(self, key: tuple, workspace: Workspace):
        self.key, self.workspace = key, workspace
        self.splats, self.build = workspace.splats, workspace.build

    @property
    def lists(self) -> Lists:
        """The lists last built."""
        return self.workspace.lists

    def __del__(self, lock=_lock, idle=_idle):
        with lock:
            idle.append((self.key, self.workspace))
            del idle[:-KEPT]


class GuessedRoom:
    """Room for one call's pairs, guessed from the last call, and the count on its way to the host meanwhile."""

    def __init__(self, size: Size, device: torch.device):
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise UsageError("a CUDA graph cannot capture a call without fixed room", "", "Give room=Room(...).")
        self.size, self.device = size, device
        self.key = (device, size.width, size.height, size.side)
        guess = _density.get(self.key)
        self.room = 0 if guess is None else _rounded(guess * size.frames * size.number * SPARE)
        self.counted: torch.cuda.Event | None = None

    def workspace(self, other: Workspace | _Lent | None = None) -> Workspace | _Lent:
        """Return a workspace with the present room, on the splats of `other` if given; the first one of a picture size
        has too little on purpose."""
        few = self.size.frames * self.size.number <= REPLAYED
        if other or self.device.type != "cuda" or not self.room or not few:
            return Workspace(self.size, max(self.room, 1), self.device, other)
        key = (self.size, self.room, self.device, torch.cuda.current_stream().cuda_stream)
        with _lock:
            for at, (of, workspace) in enumerate(_idle):
                if of == key:
                    del _idle[at]
                    return _Lent(key, workspace)
        workspace = Workspace(self.size, self.room, self.device)
        workspace.capture()
        return _Lent(key, workspace)

    def count(self, splats: Splats) -> None:
        """Send the count of pairs to the host."""
        self.needed = splats.needed.to("cpu", non_blocking=True)
        if self.device.type == "cuda":
            self.counted = torch.cuda.Event()
            self.counted.record()

    def enough(self) -> bool:
        """Wait for the count; False, with the room made larger, when it was too little."""
        if self.counted:
            self.counted.synchronize()
        pairs = int(self.needed)
        _density[self.key] = pairs / (self.size.frames * self.size.number)
        if pairs > MAX_PAIRS:
            raise MemoryError("more than 2 billion (Gaussian, tile) pairs: Gaussians too many or too large")
        if pairs <= self.room:
            return True
        self.room = _rounded(pairs)
        return False


def _rounded(pairs: float) -> int:
    """Return at least `pairs`, in steps of an eighth of its power of two, so that buffers serve again."""
    step = 2 ** max(8, math.ceil(math.log2(max(pairs, 1))) - 3)
    return max(step, math.ceil(pairs / step) * step)
