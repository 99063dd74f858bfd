"""Triton kernels compiled without a GPU, for compute capability 8.0 (A100) and 9.0 (H200): for the
compile tests.

A kernel knows from its definition on whether it is interpreted, so the compiling is done by a
script in a process of its own, in which the interpreter is off: `compiled` runs the script, the
script calls `for_both` for every kernel.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CAPABILITIES = (80, 90)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def for_both(
    kernel: Any, constants: dict[str, Any], kind: Callable[[str], str], warps: int
) -> None:
    """Compile `kernel` for both and print a line for each: name, capability, bytes of shared memory
    a block takes.

    constants: its constexpr arguments; kind: the type of any other argument by its name, such as
    "i32" or "*fp32".
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: "constexpr" if name in constants else kind(name) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    for capability in CAPABILITIES:
        done = triton.compile(
            ASTSource(kernel, types, places),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": warps},
        )
        assert f"sm_{capability}" in done.asm["ptx"] and len(done.asm["cubin"]) > 0
        print(kernel.__name__, capability, done.metadata.shared)


def compiled(script: str, folder: Path) -> list[int]:
    """Bytes of shared memory of each kernel that the script compiles, for both capabilities;
    `folder` is scratch.
    """
    (folder / "compile.py").write_text(script)
    environment = {
        **os.environ,
        "TRITON_CACHE_DIR": str(folder),
        "TRITON_INTERPRET": "0",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, folder / "compile.py"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [int(line.split()[2]) for line in done.stdout.splitlines()]
