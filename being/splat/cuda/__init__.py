"""The Triton backend: CUDA kernels compiled at first use by the Triton that comes with torch; no
nvcc is needed.

The kernels also run, slowly and without a GPU, in Triton's interpreter: set TRITON_INTERPRET=1
before Python starts. Importing this package imports neither Triton nor CUDA.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from being.splat.pair_capacity import PairCapacity

DEVICE = "a CUDA device"
CAPABILITY = (8, 0)  # the least compute capability that the kernels are made for


@functools.cache
def status() -> str:
    """Return "OK (detail)" or why the backend cannot be used and what to do."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton (Linux)"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "OK (interpreter: slow, for tests)"
    if not torch.cuda.is_available():
        return "no CUDA device"
    capability = torch.cuda.get_device_capability()
    if capability < CAPABILITY:
        return f"the GPU has compute capability {capability[0]}.{capability[1]}, 8.0 or later is needed"
    return (
        f"OK ({torch.cuda.get_device_name()}, compute capability {capability[0]}.{capability[1]})"
    )


def takes(tensor: Tensor) -> bool:
    """True for the tensors that this backend renders: float32 on a CUDA device, on any in the
    interpreter.
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
    room: PairCapacity | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb, alpha, depth, radii as `reference.rasterize` does; float32 tensors on a CUDA
    device.
    """
    from being.splat.cuda import rasterizer

    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    if not means.is_cuda or means.device.index == torch.cuda.current_device():
        return rasterizer.rasterize(*fields, width, height, sh_degree, screen_offsets, room)
    with torch.cuda.device(means.device):
        return rasterizer.rasterize(*fields, width, height, sh_degree, screen_offsets, room)


def pairs_per_gaussian(device: torch.device, width: int, height: int) -> float:
    """Return how many tiles a Gaussian touched in the last call without fixed room of this picture
    size; 0 before.
    """
    from being.splat.cuda import replay

    return replay.known_density(device, width, height)
