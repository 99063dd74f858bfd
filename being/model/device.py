"""Choice and properties of the device that a model runs on."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import torch

from being.errors import EnvironmentFault, UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # options of glibc's mallopt


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of returning it to the system.

    A training step frees and allocates the same hundreds of MB again. Mapping them again each time,
    page by page, took a third of a fine step on two cores. Call it before the first step. It does
    nothing with another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_ARENA_MAX, 1)


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is CUDA if there is a GPU, else the CPU.

    Raises UsageError for an unknown name, EnvironmentFault for a GPU that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(
            f"unknown device '{name}'",
            "known are cpu, cuda, cuda:NUMBER and auto",
            "Use --device auto",
        )
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(
            f"there is no device '{name}' on this machine",
            f"torch sees {torch.cuda.device_count() or 'no'} CUDA GPU",
            "Use --device cpu",
        )
    return device
