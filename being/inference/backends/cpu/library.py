"""The native engine's C++ library, loaded through ctypes: a whole talking head, tokens to uint8
pictures.

`setup.py` builds it at install like the rasterizer, whose projection, tile lists and vectors it
shares.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from being.splat.cpu import library as native

_BFLOAT16 = (*native.LIBRARIES[0][1], "avx512_bf16")
LIBRARIES = (
    ("x86_64_v4_amx", (*_BFLOAT16, "amx_tile", "amx_bf16")),
    ("x86_64_v4_bf16", _BFLOAT16),
    *native.LIBRARIES,
)
BY_NAME_ALONE = (
    "x86_64_v4_amx",
)  # has run on an emulation of its instructions only, not on such a processor yet
INTERFACE = 2  # of the C functions; as in head.cpp, raised with every change of theirs
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


class Description(ctypes.Structure):
    """A head's sizes and its tensors, in the order that network.h and deform.h read them."""

    _fields_ = [
        *(
            (name, _INT64)
            for name in (
                "count",
                "width",
                "heads",
                "layers",
                "hidden",
                "deep",
                "degree",
                "size",
                "low_precision",
            )
        ),
        ("focal", ctypes.c_double),
        ("tensors", ctypes.POINTER(_POINTER)),
    ]


class Frames(ctypes.Structure):
    """What `head_render` reads and where it writes; see head.cpp."""

    _fields_ = [
        *((name, _POINTER) for name in ("tokens", "world_to_camera", "plates", "out")),
        *((name, _INT64) for name in ("count", "tokens_each", "threads")),
        ("seconds", ctypes.POINTER(ctypes.c_double)),
        *((name, _POINTER) for name in ("slots", "before", "after", "share")),
    ]


@functools.cache
def load(name: str | None = None) -> tuple[ctypes.CDLL | None, str]:
    """Return the library and its instruction set, or None and the reason; `name` asks for one of
    LIBRARIES.
    """
    wanted = [
        entry
        for entry in LIBRARIES
        if entry[0] == name or name is None and entry[0] not in BY_NAME_ALONE
    ]
    library, reason = native.find(Path(__file__).parent, "head", "engine", INTERFACE, wanted)
    if library is None:
        return None, reason
    library.head_isa.restype = ctypes.c_char_p
    library.head_create.argtypes, library.head_create.restype = (
        [ctypes.POINTER(Description)],
        _POINTER,
    )
    library.head_render.argtypes = [_POINTER, ctypes.POINTER(Frames)]
    library.head_release.argtypes = [_POINTER]
    return library, library.head_isa().decode()


def status() -> str:
    """Return "OK (instruction set)" or why the library cannot be used and what to do."""
    library, detail = load()
    return f"OK ({detail})" if library else detail


class Head:
    """A head in the library's memory, given back with this object."""

    def __init__(self, library: ctypes.CDLL, description: Description, tensors: list[Tensor]):
        """`tensors` float32, contiguous, on the CPU; the library copies them."""
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

    def render(self, threads: int, **given: Tensor) -> list[float]:
        """Do what `Frames` says with these fields of it, all contiguous; the seconds of each of
        STAGES.
        """
        seconds = (ctypes.c_double * len(STAGES))()
        frames = Frames(
            **{name: tensor.data_ptr() for name, tensor in given.items()},
            count=len(given["world_to_camera"]),
            tokens_each=given["tokens"].shape[1] if "tokens" in given else 0,
            threads=threads,
            seconds=seconds,
        )
        error = self._library.head_render(self._pointer, frames)
        if error == 1:
            raise MemoryError("the engine has no memory left for these frames")
        if error == 2:
            raise MemoryError(
                "more than 4 billion (Gaussian, tile) pairs in a frame: Gaussians too many or too large"
            )
        return list(seconds)

    def __del__(self):
        if getattr(self, "_pointer", None):
            self._library.head_release(self._pointer)
