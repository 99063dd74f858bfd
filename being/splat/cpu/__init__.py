"""The native CPU backend: a C++ library built at install, loaded through ctypes."""

from __future__ import annotations

from torch import Tensor


def status() -> str:
    """Return "OK (instruction set)" or why the library cannot be used and what to do."""
    return "the native rasterizer was not built"


def rasterize(*arguments) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb, alpha, depth, radii; see `reference.rasterize`."""
    raise NotImplementedError
