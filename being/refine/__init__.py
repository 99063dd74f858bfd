"""Refinement: rendered frames to better frames by a local diffusion model, an optional pass."""
