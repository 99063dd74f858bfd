"""The rasterizer: Gaussians and cameras in, colour, alpha and depth pictures with gradients out."""

from being.splat.api import (
    Cameras,
    Gaussians,
    RenderOutput,
    available_backends,
    choose_backend,
    chosen_backend,
    composite,
    pick_backend,
    rasterize,
    using_backend,
)
from being.splat.cuda import pairs_per_gaussian
from being.splat.pair_capacity import PairCapacity

__all__ = [
    "Cameras",
    "Gaussians",
    "RenderOutput",
    "PairCapacity",
    "available_backends",
    "choose_backend",
    "chosen_backend",
    "composite",
    "pairs_per_gaussian",
    "pick_backend",
    "rasterize",
    "using_backend",
]
