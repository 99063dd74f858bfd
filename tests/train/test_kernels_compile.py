"""The network's and the losses' CUDA kernels compile without a GPU, for compute capability 8.0 and
9.0, and fit.
"""

from __future__ import annotations

import pytest
from ahead_of_time import compiled, needs_triton

SHARED_MEMORY = 163 * 1024  # bytes a block can ask for on an A100; an H200 has more

COMPILE = """
from ahead_of_time import for_both
from being.model.kernels import activate, attend, mlp
from being.train import triton_compare, triton_pool, triton_ssim

def layers(low, hidden, **more):
    return dict(inputs=64, hidden=hidden, outputs=64, exact="tf32x3", hidden_=64,
                rows_=128 if low else 64, **more)

HEADS, FFN = dict(relu_in=True, drop=0.0, seed_at=None), dict(relu_in=False, drop=0.2)
NORM = dict(width=64, drop=0.2, eps=1e-12, rows_=attend.ROWS)
MIX = dict(width=64, heads=2, tokens=4, exact="tf32x3", rows_=attend.ROWS)
ROW = dict(wide=64, numbers=48, block=64, rows_=activate.ROWS)
KERNELS = []
for low in (True, False):
    for hidden, kind in ((640, HEADS), (128, FFN)):
        size = layers(low, hidden, **kind)
        KERNELS += [(mlp._forward, size, low, 4), (mlp._backward_rows, size, low, 4),
                    (mlp._backward_weights, {**size, "rows_": 64, "per_chunk": 8192}, low, 4 if low else 8)]
    KERNELS += [(attend._attend, {**MIX, "heads": 4, "tokens": 4}, low, 4),
                (attend._attend_backward, {**MIX, "heads": 4, "tokens": 4, "per_chunk": 2048}, low, 4),
                (attend._add_norm, NORM, low, 4), (attend._add_norm_backward, {**NORM, "per_chunk": 4096}, low, 4),
                (triton_pool._forward, dict(block=1024), low, 4), (triton_pool._backward, dict(block=1024), low, 4),
                (triton_compare._difference, dict(block=4096), low, 4),
                (triton_compare._difference_back, dict(block=4096), low, 4)]
KERNELS += [(activate._forward, ROW, False, 4), (activate._backward, ROW, False, 4),
            *((kernel, dict(block=1024), False, 4) for kernel in (
                triton_compare._forward, triton_compare._backward, triton_ssim._columns, triton_ssim._rows,
                triton_ssim._back_columns, triton_ssim._back_rows))]
INTS = {"count", "frames", "queries", "x_stride", "side", "height", "width", "channels"}
ROWS_OF_THE_NETWORK = {"x_at", "y_at", "dx_at", "a_at", "da_at", "dy_at", "b_at", "d_at", "up_at"}
BYTES = {"target_at": "u8", "plate_at": "u8", "mask_at": "u8", "window_at": "i32", "lips_at": "i32", "eyes_at": "i32",
         "index_at": "i64", "seed_at": "i64"}

def kind(kernel, name, low):
    if name in INTS:
        return "i32"
    if name in BYTES and kernel.fn.__module__ != triton_ssim.__name__:
        return "*" + BYTES[name]
    attention = kernel in (attend._attend, attend._attend_backward) and name in ("a_at", "da_at")
    scalar = kernel is triton_compare._difference_back and name == "up_at"
    return "*bf16" if low and name in ROWS_OF_THE_NETWORK and not attention and not scalar else "*fp32"

for kernel, constants, low, warps in KERNELS:
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    for_both(kernel, constants, lambda name: kind(kernel, name, low), warps)
"""


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_a100_and_h200(tmp_path):
    assert max(compiled(COMPILE, tmp_path)) <= SHARED_MEMORY
