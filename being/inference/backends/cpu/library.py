"""Loads the native renderer's C++ library (`head.cpp`) through ctypes.

`setup.py` builds it at install, as it builds the rasterizer; both share projection, tile lists and
vector types.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from being.splat.cpu import library as native

_BFLOAT16_FLAGS = (*native.LIBRARIES[0][1], "avx512_bf16")
# Name of each build and the processor flags that it needs, best first.
LIBRARIES = (
    ("x86_64_v4_amx", (*_BFLOAT16_FLAGS, "amx_tile", "amx_bf16")),
    ("x86_64_v4_bf16", _BFLOAT16_FLAGS),
    *native.LIBRARIES,
)
# Never chosen automatically: it has run on an emulation of its instructions only, not on such a
# processor yet.
ONLY_BY_NAME = ("x86_64_v4_amx",)
# Version of the C functions; as in head.cpp, raised with every change of them.
INTERFACE = 3
STAGES = (
    "fold",
    "attention",
    "feed-forward",
    "geometry heads",
    "projection",
    "colour head",
    "sort",
    "lists",
    "blend",
)
MAX_SIDE = 65_520  # px: tiles are numbered in 24 bits
_POINTER, _INT64 = ctypes.c_void_p, ctypes.c_int64


class HeadDescription(ctypes.Structure):
    """A head's sizes and its tensors, in the order in which network.h and deform.h read them."""

    _fields_ = [
        *(
            (name, _INT64)
            for name in (
                "count",
                "width",
                "heads",
                "layers",
                "hidden",
                "decoder_width",
                "degree",
                "size",
                "low_precision",
                "bases",
            )
        ),
        ("focal", ctypes.c_double),
        ("tensors", ctypes.POINTER(_POINTER)),
    ]


class FrameBatch(ctypes.Structure):
    """The arguments of `head_render`: what it reads and where it writes; see head.cpp."""

    _fields_ = [
        *((name, _POINTER) for name in ("tokens", "world_to_camera", "plates", "out")),
        *((name, _INT64) for name in ("count", "tokens_per_frame", "threads")),
        ("seconds", ctypes.POINTER(ctypes.c_double)),
        *((name, _POINTER) for name in ("slots", "before", "after", "share")),
    ]


@functools.cache
def load(name: str | None = None) -> tuple[ctypes.CDLL | None, str]:
    """Return the library and its instruction set, or None and the reason.

    name: one of LIBRARIES; default: the best that this processor runs.
    """
    wanted = [
        entry
        for entry in LIBRARIES
        if entry[0] == name or name is None and entry[0] not in ONLY_BY_NAME
    ]
    library, reason = native.load_best_library(
        Path(__file__).parent, "head", "renderer", INTERFACE, wanted
    )
    if library is None:
        return None, reason

    library.head_isa.restype = ctypes.c_char_p
    library.head_create.argtypes = [ctypes.POINTER(HeadDescription)]
    library.head_create.restype = _POINTER
    library.head_render.argtypes = [_POINTER, ctypes.POINTER(FrameBatch)]
    library.head_release.argtypes = [_POINTER]
    return library, library.head_isa().decode()


def status() -> str:
    """Return "OK (instruction set)", or why the library cannot be used and what to do."""
    library, detail = load()
    return f"OK ({detail})" if library else detail


class NativeHandle:
    """A head in the library's memory; the memory is freed with this object."""

    def __init__(self, library: ctypes.CDLL, description: HeadDescription, tensors: list[Tensor]):
        """tensors: float32, contiguous, on the CPU; the library copies them."""
        self._library = library
        for tensor in tensors:
            assert (
                tensor.dtype == torch.float32
                and tensor.is_contiguous()
                and tensor.device.type == "cpu"
            ), tensor
        description.tensors = (_POINTER * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        self._pointer = library.head_create(description)
        if not self._pointer:
            raise MemoryError(f"no memory left for a head of {description.count} Gaussians")

    def render(self, threads: int, **arguments: Tensor) -> list[float]:
        """Render, or keep, the frames of a `FrameBatch`; return the seconds of each of STAGES.

        arguments: the pointer fields of `FrameBatch` by name, all contiguous.
        """
        seconds = (ctypes.c_double * len(STAGES))()
        frames = FrameBatch(
            **{name: tensor.data_ptr() for name, tensor in arguments.items()},
            count=len(arguments["world_to_camera"]),
            tokens_per_frame=arguments["tokens"].shape[1] if "tokens" in arguments else 0,
            threads=threads,
            seconds=seconds,
        )
        error = self._library.head_render(self._pointer, frames)
        if error == 1:
            raise MemoryError("the native renderer has no memory left for these frames")
        if error == 2:
            raise MemoryError(
                "a frame has more than 4 billion (Gaussian, tile) pairs: the Gaussians are too "
                "many or too large"
            )
        return list(seconds)

    def __del__(self):
        if getattr(self, "_pointer", None):
            self._library.head_release(self._pointer)
