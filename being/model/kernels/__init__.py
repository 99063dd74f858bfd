"""The deformation network's three row-wise pieces as Triton kernels with gradients; `fused.py` is
the door.
"""
