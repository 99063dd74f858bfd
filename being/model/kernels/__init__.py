"""Triton kernels of the deformation network, with gradients; `fused` is the module to import."""
