"""The CUDA kernels of the rasterizer compile without a GPU and fit the shared memory.

They are compiled for compute capability 8.0 and 9.0.
"""

from __future__ import annotations

import pytest
from ahead_of_time import compiled, needs_triton

SHARED_MEMORY = 48 * 1024  # bytes a block gets on any card without asking for more

COMPILE = """
from ahead_of_time import for_both
from being.splat.cuda.blend import blend, blend_backward
from being.splat.cuda.project import COUNTS, STRIDES, project
from being.splat.cuda.project_backward import project_backward
from being.splat.cuda.tile_lists import write_lists, write_pairs

INTS = {*COUNTS, *STRIDES, "tiles", "total", "capacity", "base"}
POINTERS = {
    "radii": "i32", "touched": "i32", "needed": "i64", "rows": "i32", "slots": "i64",
    "bounds": "i32", "visited": "i32", "first_slot": "i64", "order": "i64", "ends": "i64",
    "keys": "i16", "pairs": "i32", "sorted_keys": "i16", "slot": "i64", "splat": "i32",
}
KERNELS = [
    (project, {"DEGREE": 3, "BLOCK": 64, "offsets": None}, 2),
    (write_pairs, {"BLOCK": 128}, 4),
    (write_lists, {"BLOCK": 512}, 4),
    (blend, {}, 1),
    (blend_backward, {"CLEAR": 32, "d_depth": None}, 1),
    (project_backward, {"DEGREE": 3, "DEPTH": False, "BLOCK": 32}, 1),
]


def type_of(name):
    return "i32" if name in INTS else "*" + POINTERS.get(name, "fp32")


for kernel, constants, warps in KERNELS:
    for_both(kernel, constants, type_of, warps)
"""


@pytest.mark.slow
@needs_triton
def test_kernels_compile_for_a100_and_h200(tmp_path):
    assert max(compiled(COMPILE, tmp_path)) <= SHARED_MEMORY
