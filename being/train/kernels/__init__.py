"""Triton kernels of the training losses."""
