"""The gsplat backend (Apache-2.0), where installed; it compiles its CUDA code at first use.

That needs nvcc. gsplat draws by rules of its own: it chooses tiles by its own bounds, not by the
square of three standard deviations, and its alpha goes up to 0.999. Single pixels differ from those
of the torch rasterizer by up to a few hundredths.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from being.conventions import LOW_PASS, NEAR_PLANE, TILE

DEVICE = "a CUDA device"
FAR_PLANE = 1e10


@functools.cache
def status() -> str:
    """Return "OK (version)" or why the backend cannot be used."""
    if importlib.util.find_spec("gsplat") is None:
        return "not installed: pip install gsplat (needs nvcc)"
    if not torch.cuda.is_available():
        return "no CUDA device"
    from gsplat.version import __version__

    return f"OK (gsplat {__version__})"


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
    """Return rgb, alpha, depth, radii as `torch_rasterizer.rasterize` does, by gsplat's rules."""
    from gsplat import (
        fully_fused_projection,
        isect_offset_encode,
        isect_tiles,
        rasterize_to_pixels,
        spherical_harmonics,
    )

    # One copy of every field for each frame; gsplat takes no broadcast ones.
    fields = (means, quaternions, scales, opacities, sh)
    frames = max(field.shape[0] for field in (*fields, world_to_camera, focal))
    means, quaternions, scales, opacities, sh = (
        field.expand(frames, *field.shape[1:]) for field in fields
    )
    world_to_camera = world_to_camera.expand(frames, 4, 4)

    # Project. gsplat's pixel centres lie at halves, so the principal point is half of the size.
    matrix = torch.zeros(frames, 3, 3, device=means.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = focal
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = width / 2, height / 2, 1
    projected = fully_fused_projection(
        means.contiguous(),
        None,
        quaternions.contiguous(),
        scales.contiguous(),
        world_to_camera[:, None].contiguous(),
        matrix[:, None],
        width,
        height,
        eps2d=LOW_PASS,
        near_plane=NEAR_PLANE,
        far_plane=FAR_PLANE,
        opacities=opacities.contiguous(),
    )
    radii, centres, depths, conics = (value[:, 0] for value in projected[:4])
    if screen_offsets is not None:
        centres = centres + screen_offsets

    # Colour from spherical harmonics; the camera's centre is -R^T t.
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
    direction = means + (rotation.transpose(1, 2) @ translation[:, :, None]).transpose(1, 2)
    colours = (
        spherical_harmonics(sh_degree, direction, sh, masks=(radii > 0).all(-1)) + 0.5
    ).clamp_min(0)

    # Sort the Gaussians into tiles and blend; depth is blended as a fourth colour.
    tiles = -(-width // TILE), -(-height // TILE)
    _, keys, order = isect_tiles(
        centres, radii, depths, TILE, *tiles, packed=False, n_images=frames
    )
    bounds = isect_offset_encode(keys, frames, *tiles).reshape(frames, tiles[1], tiles[0])
    features = torch.cat([colours, depths[..., None]], 2)
    image, alpha = rasterize_to_pixels(
        centres, conics, features, opacities, width, height, TILE, bounds, order
    )
    image = image.permute(0, 3, 1, 2)
    return image[:, :3], alpha.permute(0, 3, 1, 2), image[:, 3:], radii.amax(-1).to(torch.int32)
