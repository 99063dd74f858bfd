"""The CUDA renderer's Triton kernels: audio net and tokens, deformation, blending, final image."""
