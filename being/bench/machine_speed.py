"""The speed of this machine: the time of a fixed matrix product, taken with every benchmark."""

from __future__ import annotations

import time

import torch

SIDE = 2048
REPEATS = 9


def matmul_ms() -> float:
    """Median ms of a float32 2048 x 2048 matrix product on the CPU, with torch's threads."""
    a = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        a @ a
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[REPEATS // 2]
