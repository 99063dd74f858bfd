"""Finds the best of the native libraries that `setup.py` built from one source for several
instruction sets.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

# Name in setup.py and the processor flags it needs, best first.
LIBRARIES = (
    ("x86_64_v4", ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma")),
    ("x86_64_v3", ("avx2", "fma")),
    ("baseline", ()),
)


def find(
    folder: Path,
    stem: str,
    what: str,
    interface: int,
    libraries: Sequence[tuple[str, Sequence[str]]] = LIBRARIES,
) -> tuple[ctypes.CDLL | None, str]:
    """Return the best library `_{stem}_{name}.so` in `folder` that this processor runs, or None and
    the reason.

    `what` names it to the user; its function `{stem}_interface` must return `interface`.
    """
    built = {name: folder / f"_{stem}_{name}.so" for name, _ in libraries}
    if not any(path.exists() for path in built.values()):
        return None, (
            f"the native {what} was not built at install; install a C++ compiler (`apt-get install g++`) "
            "and install this package again"
        )
    flags, reason = processor_flags(), "none of the built libraries fits this processor"
    for name, needed in libraries:
        if not built[name].exists() or not flags.issuperset(needed):
            continue
        try:
            library = ctypes.CDLL(str(built[name]))
            if library[f"{stem}_interface"]() == interface:
                return library, ""
            reason = f"{built[name].name} was built from another version of the source"
        except (OSError, AttributeError) as error:  # built for another system, or long ago
            reason = f"{built[name].name} cannot be loaded: {error}"
    return None, f"{reason}; install this package again on this machine"


def processor_flags() -> set[str]:
    """Return the processor's feature flags as Linux names them, as far as torch or the system
    tells.
    """
    flags = set()
    if platform.machine().lower() in ("x86_64", "amd64"):
        capability = torch.backends.cpu.get_cpu_capability()
        if capability in (
            "AVX2",
            "AVX512",
        ):  # what torch checked, the system's saved registers included
            flags |= {"avx2", "fma"}
        if capability == "AVX512":
            flags |= {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags |= set(
            next((line for line in lines if line.startswith("flags")), ":").split(":")[1].split()
        )
    except OSError:
        pass
    return flags
