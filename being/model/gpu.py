"""The GPU that torch sees, and why it sees none."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

DRIVER = Path("/proc/driver/nvidia/version")  # on Linux, with an NVIDIA driver
GIB = 1 << 30


def gpu_status() -> str:
    """ "OK (name, memory, CUDA version)", "OK (none: ...)" without an NVIDIA driver, or why torch
    cannot use the GPU and what to do.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        names = []
        for number in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(number)
            names.append(f"{found.name}, {found.total_memory / GIB:.0f} GiB")
        return f"OK ({'; '.join(names)}; CUDA {torch.version.cuda})"
    driver = _driver_version()
    if not driver:
        return "OK (none: without an NVIDIA driver, everything runs on the CPU)"
    if torch.version.cuda is None:
        return (
            f"there is an NVIDIA driver ({driver}), but torch {torch.__version__} is built without "
            "CUDA; install torch from PyPI's default index: pip install --force-reinstall torch"
        )
    reason = str(told[0].message).splitlines()[0] if told else "no GPU is visible to this process"
    return (
        f"torch is built for CUDA {torch.version.cuda} and cannot use the NVIDIA driver {driver} "
        f"({reason}); update the driver, or install a torch for its CUDA version (pytorch.org)"
    )


def _driver_version() -> str:
    """The version of the NVIDIA driver; "" without one, or on a system that does not tell."""
    try:
        text = DRIVER.read_text()
    except OSError:
        return ""
    words = text.splitlines()[0].split() if text else []
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown version")
