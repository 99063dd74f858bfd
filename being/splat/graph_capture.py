"""Capture of a CUDA graph: records kernel launches, so that they can be replayed together."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def capture_graph(graph: torch.cuda.CUDAGraph, **pool: Any) -> Iterator[None]:
    """Capture the kernels that are launched inside the `with` block as `graph`.

    `pool`: as `CUDAGraph.capture_begin` takes it. Only one capture at a time in a process. The
    garbage collector is off meanwhile: it could free device memory or another graph that an earlier
    stage left in a reference cycle, and that ends a capture (cudaErrorStreamCaptureInvalidated).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        graph.capture_begin(capture_error_mode="thread_local", **pool)
        try:
            yield
        finally:
            graph.capture_end()
    finally:
        if was_enabled:
            gc.enable()
