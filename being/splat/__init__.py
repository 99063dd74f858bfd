"""Rasterizer package: Gaussians and cameras to colour, alpha and depth images, with gradients."""

from being.splat.api import (
    Cameras,
    Gaussians,
    RenderOutput,
    available_backends,
    composite,
    rasterize,
    resolve_backend,
    select_backend,
)
from being.splat.cuda import pairs_per_gaussian
from being.splat.pair_capacity import PairCapacity

__all__ = [
    "Cameras",
    "Gaussians",
    "PairCapacity",
    "RenderOutput",
    "available_backends",
    "composite",
    "pairs_per_gaussian",
    "rasterize",
    "resolve_backend",
    "select_backend",
]
