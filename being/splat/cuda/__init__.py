"""The Triton backend: CUDA kernels that Triton compiles at first use; no nvcc is needed.

Triton comes with torch. Its interpreter also runs the kernels, slowly and without a GPU: set
TRITON_INTERPRET=1 before Python starts. Importing this package imports neither Triton nor CUDA.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from being.splat.pair_capacity import PairCapacity

DEVICE = "a CUDA device"
CAPABILITY = (8, 0)  # the lowest compute capability that the kernels support


@functools.cache
def status() -> str:
    """Return "OK (detail)", or why the backend cannot be used and what to do."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton (Linux)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "OK (interpreter: slow, for tests)"
    if not torch.cuda.is_available():
        return "no CUDA device"
    major, minor = torch.cuda.get_device_capability()
    if (major, minor) < CAPABILITY:
        return f"the GPU has compute capability {major}.{minor}, 8.0 or later is needed"
    return f"OK ({torch.cuda.get_device_name()}, compute capability {major}.{minor})"


def supports(tensor: Tensor) -> bool:
    """Return whether this backend renders such tensors: float32 on a CUDA device.

    In Triton's interpreter it renders float32 tensors of any device.
    """
    return tensor.dtype == torch.float32 and (
        tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    )


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
    """Return rgb, alpha, depth, radii as `torch_rasterizer.rasterize` does.

    The tensors are float32 on a CUDA device. capacity: see `being.splat.rasterize`.
    """
    from being.splat.cuda import rasterizer

    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    if not means.is_cuda or means.device.index == torch.cuda.current_device():
        return rasterizer.rasterize(*fields, width, height, sh_degree, screen_offsets, capacity)
    with torch.cuda.device(means.device):
        return rasterizer.rasterize(*fields, width, height, sh_degree, screen_offsets, capacity)


def pairs_per_gaussian(device: torch.device, width: int, height: int) -> float:
    """Return the mean number of tiles of a Gaussian in the last call of this image size.

    Calls with a fixed capacity do not count. 0 before the first call.
    """
    from being.splat.cuda import graph_replay

    return graph_replay.last_pair_density(device, width, height)
