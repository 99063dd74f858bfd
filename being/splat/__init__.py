"""The rasterizer: Gaussians and cameras in, colour, alpha and depth pictures with gradients out."""

from being.splat.api import (
    Cameras,
    Gaussians,
    RenderOutput,
    available_backends,
    choose_backend,
    composite,
    rasterize,
)
from being.splat.room import Room

__all__ = ["Cameras", "Gaussians", "RenderOutput", "Room", "available_backends", "choose_backend", "composite",
           "rasterize"]  # fmt: skip
