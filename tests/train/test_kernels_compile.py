"""The CUDA kernels of network and losses compile without a GPU, and fit the shared memory.

They are compiled for compute capability 8.0 and 9.0.
"""

from __future__ import annotations

import pytest
from ahead_of_time import compiled, needs_triton

SHARED_MEMORY = 163 * 1024  # bytes a block can ask for on an A100; an H200 has more

COMPILE = """
from ahead_of_time import for_both
from being.metrics import ssim_kernel
from being.model.kernels import activate, attend, mlp
from being.train.kernels import image_loss, max_pool

def layers(low, hidden, **more):
    return dict(inputs=64, hidden=hidden, outputs=64, precision="tf32x3", hidden_block=64,
                row_block=128 if low else 64, **more)

HEADS, FFN = dict(relu_in=True, drop=0.0, seed_ptr=None), dict(relu_in=False, drop=0.2)
NORM = dict(width=64, drop=0.2, eps=1e-12, row_block=attend.ROWS)
MIX = dict(width=64, heads=2, tokens=4, precision="tf32x3", row_block=attend.ROWS)
ROW = dict(packed_width=64, sh_floats=48, sh_block=64, row_block=activate.ROWS)

# (kernel, constants, bfloat16 or not, warps)
KERNELS = []
for low in (True, False):
    for hidden, more in ((640, HEADS), (128, FFN)):
        size = layers(low, hidden, **more)
        weights = {**size, "row_block": 64, "per_chunk": 8192}
        KERNELS += [
            (mlp._forward, size, low, 4),
            (mlp._backward_rows, size, low, 4),
            (mlp._backward_weights, weights, low, 4 if low else 8),
        ]
    mix = {**MIX, "heads": 4, "tokens": 4}
    KERNELS += [
        (attend._attend, mix, low, 4),
        (attend._attend_backward, {**mix, "per_chunk": 2048}, low, 4),
        (attend._add_norm, NORM, low, 4),
        (attend._add_norm_backward, {**NORM, "per_chunk": 4096}, low, 4),
        (max_pool._forward, dict(block=1024), low, 4),
        (max_pool._backward, dict(block=1024), low, 4),
        (image_loss._difference, dict(block=4096), low, 4),
        (image_loss._difference_back, dict(block=4096), low, 4),
    ]
KERNELS += [(activate._forward, ROW, False, 4), (activate._backward, ROW, False, 4)]
KERNELS += [
    (kernel, dict(block=1024), False, 4)
    for kernel in (
        image_loss._forward,
        image_loss._backward,
        ssim_kernel._blur_columns,
        ssim_kernel._similarity_rows,
        ssim_kernel._backward_columns,
        ssim_kernel._backward_rows,
    )
]

INTS = {"count", "frames", "queries", "x_stride", "side", "height", "width", "channels"}
# Pointers, without their suffix: those of the network have its precision.
NETWORK = {"x", "y", "dx", "a", "da", "dy", "b", "d"}
BYTES = {"target": "u8", "plate": "u8", "mask": "u8"}
BYTES |= {"window": "i32", "lips": "i32", "eyes": "i32", "index": "i64", "seed": "i64"}

def type_of(kernel, name, low):
    if name in INTS:
        return "i32"
    base = name.removesuffix("_ptr").removesuffix("_at")
    if base in BYTES and kernel.fn.__module__ != ssim_kernel.__name__:
        return "*" + BYTES[base]
    attention = kernel in (attend._attend, attend._attend_backward) and base in ("a", "da")
    return "*bf16" if low and base in NETWORK and not attention else "*fp32"

for kernel, constants, low, warps in KERNELS:
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    for_both(kernel, constants, lambda name: type_of(kernel, name, low), warps)
"""


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_a100_and_h200(tmp_path):
    assert max(compiled(COMPILE, tmp_path)) <= SHARED_MEMORY
