"""The diff-gaussian-rasterization backend, where installed (Inria's non-commercial licence).

Building it needs nvcc. Every version works: the original, those that also return depth, and
GaussianTalker's fork, whose background is an image. They share the package name
`diff_gaussian_rasterization`. Each frame is rendered twice: once with its colours, once with
(1, depth, 0) as colours. So every version gives alpha and depth, with gradients.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

DEVICE = "a CUDA device"
# Clip planes of the projection matrix. Nothing reads the depth that they scale.
NEAR, FAR = 0.01, 100.0


@functools.cache
def status() -> str:
    """Return "OK" or why the backend cannot be used."""
    if importlib.util.find_spec("diff_gaussian_rasterization") is None:
        return "not installed: build diff-gaussian-rasterization from source (needs nvcc)"
    return "OK" if torch.cuda.is_available() else "no CUDA device"


def supports(tensor: Tensor) -> bool:
    """Return whether this backend renders such tensors: float32 on CUDA."""
    return tensor.dtype == torch.float32 and tensor.is_cuda


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb, alpha, depth, radii as `torch_rasterizer.rasterize` does.

    `screen_offsets` must be zeros: they get a gradient, but their values are not added.
    """
    inputs = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    frames = max(tensor.shape[0] for tensor in inputs)
    out = []
    for b in range(frames):
        frame = [tensor[b if tensor.shape[0] > 1 else 0] for tensor in inputs]
        offsets = torch.zeros_like(frame[0][:, :2]) if screen_offsets is None else screen_offsets[b]
        out.append(_render_frame(frame, offsets, width, height, sh_degree))
    rgb, alpha, depth, radii = (torch.stack(parts) for parts in zip(*out, strict=True))
    return rgb, alpha, depth, radii


def _render_frame(
    frame: list[Tensor], offsets: Tensor, width: int, height: int, sh_degree: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb [3, H, W], alpha [1, H, W], depth [1, H, W], radii [N] of one frame."""
    from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer

    means, quaternions, scales, opacities, sh, world_to_camera, focal = frame

    # Settings of every version; each version takes those that it knows.
    tangents = [side / (2 * float(focal)) for side in (width, height)]
    values = {
        "image_height": height,
        "image_width": width,
        "tanfovx": tangents[0],
        "tanfovy": tangents[1],
        # A version with a plain background colour reads the first three numbers of the image.
        "bg": means.new_zeros(3, height, width),
        "scale_modifier": 1.0,
        "viewmatrix": world_to_camera.T.contiguous(),
        "projmatrix": (_projection(tangents, means) @ world_to_camera).T.contiguous(),
        "sh_degree": sh_degree,
        "campos": -world_to_camera[:3, :3].T @ world_to_camera[:3, 3],
        "prefiltered": False,
        "debug": False,
        "antialiasing": False,
    }
    known = GaussianRasterizationSettings._fields
    render = GaussianRasterizer(
        GaussianRasterizationSettings(**{key: values[key] for key in known})
    )

    # The first pass renders colour. `scale` turns px into the unit of its 2-D means.
    scale = means.new_tensor([2 / width, 2 / height])
    common = {
        "means3D": means,
        "means2D": torch.nn.functional.pad(offsets * scale, (0, 1)),
        "opacities": opacities[:, None],
        "scales": scales,
        "rotations": torch.nn.functional.normalize(quaternions, dim=1),
    }
    rgb, radii = render(**common, shs=sh)[:2]

    # The second pass renders alpha and depth as if they were colours.
    view_z = means @ world_to_camera[2, :3] + world_to_camera[2, 3]
    features = torch.stack([torch.ones_like(view_z), view_z, torch.zeros_like(view_z)], 1)
    alpha, depth, _ = render(**common, colors_precomp=features)[0].split(1)
    return rgb, alpha, depth, radii.to(torch.int32)


def _projection(tangents: list[float], like: Tensor) -> Tensor:
    """Return the perspective matrix [4, 4]; `tangents` are those of half the fields of view."""
    matrix = like.new_zeros(4, 4)
    matrix[0, 0], matrix[1, 1] = 1 / tangents[0], 1 / tangents[1]
    matrix[2, 2], matrix[2, 3] = FAR / (FAR - NEAR), -FAR * NEAR / (FAR - NEAR)
    matrix[3, 2] = 1
    return matrix
