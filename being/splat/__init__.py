"""The rasterizer: Gaussians and cameras in, colour, alpha and depth pictures with gradients out."""

from being.splat.api import Cameras, Gaussians, RenderOutput, available_backends, composite, rasterize

__all__ = ["Cameras", "Gaussians", "RenderOutput", "available_backends", "composite", "rasterize"]
