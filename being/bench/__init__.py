"""Benchmarks: speed of the rasterizer and of a rendered avatar."""
