"""The device that a model runs on."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import torch

from being.errors import EnvironmentFault, UsageError


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of handing it back to the system
    (nothing elsewhere).

    A training step frees and takes the same hundreds of MB again; mapping them anew each time, page
    by page, cost a third of a fine step on two cores. Call it before the first step.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in (
        (-4, 0),
        (-1, 2**31 - 1),
        (-8, 1),
    ):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
        libc.mallopt(option, value)


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one. Raises EnvironmentFault when it
    is not there, UsageError for a name that is none."""
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
