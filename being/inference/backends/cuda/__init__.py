"""The CUDA renderer and its Triton kernels."""
