"""Loads one of the native libraries that `setup.py` built: the best one for this processor.

`setup.py` builds one source for several instruction sets.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

# Name in setup.py and the processor flags that it needs, best first.
LIBRARIES = (
    ("x86_64_v4", ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma")),
    ("x86_64_v3", ("avx2", "fma")),
    ("baseline", ()),
)


def load_best_library(
    folder: Path,
    stem: str,
    component: str,
    interface: int,
    libraries: Sequence[tuple[str, Sequence[str]]] = LIBRARIES,
) -> tuple[ctypes.CDLL | None, str]:
    """Return the best library `_{stem}_{name}.so` in `folder`, or None and the reason.

    component: its name in messages, such as "rasterizer". interface: version of the C functions;
    the library's function `{stem}_interface` must return it. libraries: names and the processor
    flags that they need, best first.
    """
    built = {name: folder / f"_{stem}_{name}.so" for name, _ in libraries}
    if not any(path.exists() for path in built.values()):
        return None, (
            f"the native {component} was not built at install; install a C++ compiler "
            "(`apt-get install g++`) and install this package again"
        )

    flags = processor_flags()
    reason = "none of the built libraries fits this processor"
    for name, needed in libraries:
        if not built[name].exists() or not flags.issuperset(needed):
            continue
        try:
            library = ctypes.CDLL(str(built[name]))
            if library[f"{stem}_interface"]() == interface:
                return library, ""
            reason = f"{built[name].name} was built from another version of the source"
        # It was built for another system, or it is too old to have the function.
        except (OSError, AttributeError) as error:
            reason = f"{built[name].name} cannot be loaded: {error}"
    return None, f"{reason}; install this package again on this machine"


def processor_flags() -> set[str]:
    """Return the processor's feature flags, named as in Linux.

    They come from torch and, on Linux, from the system.
    """
    flags: set[str] = set()

    # torch also checks that the system saves the registers.
    if platform.machine().lower() in ("x86_64", "amd64"):
        capability = torch.backends.cpu.get_cpu_capability()
        if capability in ("AVX2", "AVX512"):
            flags |= {"avx2", "fma"}
        if capability == "AVX512":
            flags |= {"avx512f", "avx512dq", "avx512bw", "avx512vl"}

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return flags
    listed = next((line for line in lines if line.startswith("flags")), ":")
    return flags | set(listed.split(":")[1].split())
