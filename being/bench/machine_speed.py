"""A fixed piece of arithmetic, timed beside every benchmark, that tells how fast the machine was
just then.
"""

from __future__ import annotations

import time

import torch

SIDE, REPEATS = 2048, 9


def matmul_ms() -> float:
    """Median ms of a float32 2048 x 2048 matrix product on the CPU with the threads that torch
    uses.
    """
    a = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        a @ a
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[REPEATS // 2]
