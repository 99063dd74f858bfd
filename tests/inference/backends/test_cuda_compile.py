"""The CUDA renderer's kernels compile without a GPU for compute capability 8.0 and 9.0.

They stay within the shared memory of both.
"""

from __future__ import annotations

import pytest
from ahead_of_time import compiled, needs_triton

SHARED_MEMORY = 160 * 1024  # bytes that a block may have on an A100

COMPILE = """
from ahead_of_time import for_both
from being.inference.backends.cuda.kernels.bases import deform_by_bases
from being.inference.backends.cuda.kernels.blend import blend_part
from being.inference.backends.cuda.kernels.deform import deform
from being.inference.backends.cuda.kernels.finish import finish
from being.inference.backends.cuda.kernels.i420 import to_i420
from being.inference.backends.cuda.kernels.tokens import encode_audio, tokens

INTS = {
    "input_stride", "windows", "frames", "length", "count", "pixels", "width", "height", "tiles_x",
    "tiles", "total", "height",
}
POINTERS = {
    "inputs": "i32", "positions": "i32", "plates": "u8", "images": "u8", "rows": "i32",
    "bounds": "i32", "kinds": "i32", "matrices": "i32", "planes": "u8",
}
# Weights, and bases, of type `product_type`
FACTORS = {"ffn1", "ffn2", "heads1", "small2", "sh2", "basis"}
BASES = {"bases": 16, "harmonics": 48, "sh_padded": 64, "rows_": 64}
SHAPE = {
    "width": 64, "heads": 4, "layers": 1, "ffn": 128, "decoder_width": 128, "coefficients": 48,
    "sh_padded": 64, "eps": 1e-12, "rows_": 64,
}
from triton.language import bfloat16, float16, float32
KERNELS = [
    (encode_audio, {"channels": 44, "part": 32}, "fp32"),
    (tokens, {"width": 64, "columns": 258, "channels": 19}, "fp32"),
    (deform, {**SHAPE, "product_type": float16}, "fp16"),
    (deform, {**SHAPE, "product_type": bfloat16, "layers": 2}, "bf16"),
    (deform, {**SHAPE, "product_type": float32}, "fp32"),
    (deform_by_bases, BASES, "fp16"),
    (deform_by_bases, {**BASES, "bases": 7, "harmonics": 3, "sh_padded": 16}, "fp32"),
    (finish, {"PARTS": 4, "BLOCK": 1024}, "fp32"),
    (blend_part, {}, "fp32"),
    (to_i420, {"BLOCK": 256}, "fp32"),
]


def argument_type(name, product_type):
    if name in INTS:
        return "i32"
    return "*" + (product_type if name in FACTORS else POINTERS.get(name, "fp32"))


for kernel, constants, product_type in KERNELS:
    for_both(kernel, constants, lambda name: argument_type(name, product_type), 4)
"""


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_a100_and_h200(tmp_path):
    assert max(compiled(COMPILE, tmp_path)) <= SHARED_MEMORY
