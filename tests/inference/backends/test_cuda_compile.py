"""The engine's kernels compile without a GPU for compute capability 8.0 and 9.0, within the shared
memory of both.
"""

from __future__ import annotations

import pytest
from ahead_of_time import compiled, needs_triton

SHARED_MEMORY = 160 * 1024  # bytes a block may have on an A100

COMPILE = """
import triton
from ahead_of_time import for_both
from being.inference.backends.cuda.kernels.blend import blend_part
from being.inference.backends.cuda.kernels.deform import deform
from being.inference.backends.cuda.kernels.finish import finish
from being.inference.backends.cuda.kernels.tokens import hear, tokens

INTS = {"given_stride", "windows", "frames", "length", "count", "pixels", "width", "height", "tiles_x", "tiles",
        "total"}
POINTERS = {"given": "i32", "places": "i32", "plates": "u8", "pictures": "u8", "rows": "i32", "bounds": "i32"}
NARROW = {"ffn1", "ffn2", "heads1", "small2", "sh2"}
SHAPE = {"width": 64, "heads": 4, "layers": 1, "ffn": 128, "deep": 128, "coefficients": 48, "sh_wide": 64,
         "eps": 1e-12, "rows_": 64}
KERNELS = [(hear, {"channels": 44, "part": 32}, "fp32"),
           (tokens, {"width": 64, "columns": 258, "channels": 19}, "fp32"),
           (deform, {**SHAPE, "kind": triton.language.float16}, "fp16"),
           (deform, {**SHAPE, "kind": triton.language.bfloat16, "layers": 2}, "bf16"),
           (deform, {**SHAPE, "kind": triton.language.float32}, "fp32"),
           (finish, {"PARTS": 4, "BLOCK": 1024}, "fp32"), (blend_part, {}, "fp32")]
for kernel, constants, wide in KERNELS:
    for_both(kernel, constants, lambda name: "i32" if name in INTS else
             "*" + (wide if name in NARROW else POINTERS.get(name, "fp32")), 4)
"""


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_a100_and_h200(tmp_path):
    assert max(compiled(COMPILE, tmp_path)) <= SHARED_MEMORY
