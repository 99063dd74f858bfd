"""Kernels of the engine: the sound nets and tokens, the deformation of all Gaussians, the finished
picture.
"""
