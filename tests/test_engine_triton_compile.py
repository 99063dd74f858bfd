"""The engine's kernels compile without a GPU for compute capability 8.0 and 9.0, within the shared memory of both."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

SHARED_MEMORY = 160 * 1024  # bytes a block may have on an A100

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from being.inference.triton.deform import deform
from being.inference.triton.finish import finish
from being.inference.triton.tokens import hear, tokens

INTS = {"given_stride", "windows", "frames", "length", "count", "pixels"}
POINTERS = {"given": "i32", "places": "i32", "plates": "u8", "pictures": "u8"}
NARROW = {"ffn1", "ffn2", "heads1", "small2", "sh2"}
SHAPE = {"width": 64, "heads": 4, "layers": 1, "ffn": 128, "deep": 128, "coefficients": 48, "sh_wide": 64,
         "eps": 1e-12, "rows_": 64}
KERNELS = [(hear, {"channels": 44, "part": 32}, "fp32"),
           (tokens, {"width": 64, "columns": 258, "channels": 19}, "fp32"),
           (deform, {**SHAPE, "kind": triton.language.float16}, "fp16"),
           (deform, {**SHAPE, "kind": triton.language.bfloat16, "layers": 2}, "bf16"),
           (deform, {**SHAPE, "kind": triton.language.float32}, "fp32"), (finish, {"BLOCK": 1024}, "fp32")]
for capability in (80, 90):
    for kernel, constants, kind in KERNELS:
        types = {name: "constexpr" if name in constants else "i32" if name in INTS else
                 "*" + (kind if name in NARROW else POINTERS.get(name, "fp32")) for name in kernel.arg_names}
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        done = triton.compile(ASTSource(kernel, types, places), target=GPUTarget("cuda", capability, 32),
                              options={"num_warps": 4})
        assert f"sm_{capability}" in done.asm["ptx"] and len(done.asm["cubin"]) > 0
        print(kernel.__name__, capability, done.metadata.shared, kind, "sin.approx" in done.asm["ptx"])
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
