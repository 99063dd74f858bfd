"""The CUDA kernels compile without a GPU, for compute capability 8.0 and 9.0, within the shared memory of either."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

SHARED_MEMORY = 48 * 1024  # bytes a block gets on any card without asking for more

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from being.splat.triton.blend import blend, blend_backward
from being.splat.triton.lists import arrange, emit
from being.splat.triton.project import COUNTS, STRIDES, project
from being.splat.triton.project_backward import project_backward

INTS = {*COUNTS, *STRIDES, "tiles", "total", "room", "base"}
POINTERS = {"radii": "i32", "touched": "i32", "needed": "i64", "rows": "i32", "slots": "i64", "bounds": "i32",
            "walked": "i32", "first_slot": "i64", "order": "i64", "ends": "i64", "keys": "i16", "pairs": "i32",
            "sorted_keys": "i16", "slot": "i64", "splat": "i32"}
KERNELS = [(project, {"DEGREE": 3, "BLOCK": 64, "offsets": None}, 2), (emit, {"BLOCK": 128}, 4),
           (arrange, {"BLOCK": 512}, 4), (blend, {}, 1), (blend_backward, {"CLEAR": 32, "d_depth": None}, 1),
           (project_backward, {"DEGREE": 3, "DEPTH": False, "BLOCK": 32}, 1)]
for capability in (80, 90):
    for kernel, constants, warps in KERNELS:
        types = {name: "constexpr" if name in constants else "i32" if name in INTS else "*" + POINTERS.get(name, "fp32")
                 for name in kernel.arg_names}
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        done = triton.compile(ASTSource(kernel, types, places), target=GPUTarget("cuda", capability, 32),
                              options={"num_warps": warps})
        assert f"sm_{capability}" in done.asm["ptx"] and len(done.asm["cubin"]) > 0
        print(kernel.__name__, capability, done.metadata.shared)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_compile_for_a100_and_h200(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    (tmp_path / "compile.py").write_text(COMPILE)
    done = subprocess.run([sys.executable, tmp_path / "compile.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) == 12 and all(int(line.split()[2]) <= SHARED_MEMORY for line in lines)
