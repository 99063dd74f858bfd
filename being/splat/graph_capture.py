"""CUDA graphs: what is launched once, to be launched again as a whole."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def captured(graph: torch.cuda.CUDAGraph, **pool: Any) -> Iterator[None]:
    """What is launched within becomes `graph`; `pool`: as `CUDAGraph.capture_begin` takes it.

    One capture at a time in a process. No garbage is collected meanwhile: what an earlier stage
    left in a cycle, device memory or a graph of its own, is freed whenever Python comes to it, and
    in the midst of a capture that ends it (cudaErrorStreamCaptureInvalidated).
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        graph.capture_begin(capture_error_mode="thread_local", **pool)
        try:
            yield
        finally:
            graph.capture_end()
    finally:
        if collected:
            gc.enable()
