"""The native CPU backend: a C++ library that `setup.py` builds, loaded through ctypes.

The library needs no headers of Python or torch. One source is built for several instruction sets,
and the best one for this processor is loaded. The library has its own threads, as many as
`torch.get_num_threads()`.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from being.splat.cpu.library import load_best_library

FIELDS = ("means", "quaternions", "scales", "opacities", "sh", "world_to_camera", "focal")
CONSTANTS = (
    "TILE",
    "LOW_PASS",
    "NEAR_PLANE",
    "ALPHA_MIN",
    "ALPHA_MAX",
    "TRANSMITTANCE_MIN",
    "FIELD_OF_VIEW_MARGIN",
    "EIGENVALUE_FLOOR",
    "QUATERNION_MIN",
    "SCREEN_MAX",
)
# Version of the C functions, as in rasterizer.cpp; raise both with every change.
INTERFACE = 1
DEVICE = "the CPU"
MAX_SIDE = 65535 * 16  # px: tiles are numbered in 16 bits
_POINTER, _INT64 = ctypes.c_void_p, ctypes.c_int64


class _Scene(ctypes.Structure):
    _fields_ = [
        *((name, _POINTER) for name in FIELDS),
        ("offsets", _POINTER),
        ("stride", _INT64 * len(FIELDS)),
        *(
            (name, _INT64)
            for name in ("frames", "count", "coefficients", "degree", "width", "height", "threads")
        ),
    ]


class _Images(ctypes.Structure):
    _fields_ = [("rgb", _POINTER), ("alpha", _POINTER), ("depth", _POINTER)]


class _Gradients(ctypes.Structure):
    _fields_ = [("out", _POINTER * 5), ("stride", _INT64 * 5), ("offsets", _POINTER)]


def status() -> str:
    """Return "OK (instruction set)", or why the library cannot be used and what to do."""
    library, detail = _load()
    return f"OK ({detail})" if library else detail


def supports(tensor: Tensor) -> bool:
    """Return whether this backend renders such tensors: float32 on the CPU."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library and its instruction set, or None and the reason."""
    library, reason = load_best_library(Path(__file__).parent, "splat", "rasterizer", INTERFACE)
    if library is None:
        return None, reason
    return _declare(library)


def _declare(library: ctypes.CDLL) -> tuple[ctypes.CDLL, str]:
    """Return the library with its argument types set, and its instruction set."""
    scene, images, gradients = map(ctypes.POINTER, (_Scene, _Images, _Gradients))
    library.splat_isa.restype = ctypes.c_char_p
    library.splat_forward.argtypes = [scene, images, _POINTER, ctypes.POINTER(ctypes.c_int32)]
    library.splat_forward.restype = _POINTER
    library.splat_backward.argtypes = [_POINTER, scene, images, images, gradients]
    library.splat_backward.restype = ctypes.c_int32
    library.splat_pairs.argtypes = [_POINTER, _INT64]
    library.splat_pairs.restype = _INT64
    library.splat_release.argtypes = [_POINTER]
    library.splat_constants.argtypes = [ctypes.POINTER(ctypes.c_double)]
    return library, library.splat_isa().decode()


def constants() -> dict[str, float]:
    """Return the constants that are compiled into the library, by their Python names."""
    values = (ctypes.c_double * len(CONSTANTS))()
    _library().splat_constants(values)
    return dict(zip(CONSTANTS, values, strict=True))


def _library() -> ctypes.CDLL:
    library, reason = _load()
    assert library is not None, reason
    return library


class _State:
    """The library's memory of a forward pass, for its backward pass; freed with this object."""

    def __init__(self, scene: _Scene, images: _Images, radii: Tensor):
        library, error = _library(), ctypes.c_int32()
        self._release = library.splat_release
        self.pointer = library.splat_forward(scene, images, radii.data_ptr(), error)
        _raise(error.value)
        self.pairs: int = library.splat_pairs(self.pointer, scene.frames)

    def __del__(self):
        if getattr(self, "pointer", None):
            self._release(self.pointer)


def _raise(error: int) -> None:
    """Raise the exception of an error code of the library; 0 is none."""
    if error == 1:
        raise MemoryError("the rasterizer has no memory left for this scene")
    if error == 2:
        raise MemoryError(
            "more than 4 billion (Gaussian, tile) pairs in one frame: "
            "Gaussians too many or too large"
        )


def _scene(
    tensors: list[Tensor], offsets: Tensor | None, width: int, height: int, degree: int
) -> _Scene:
    """Return the C view of contiguous tensors [1|B, ...] in the order of FIELDS."""
    scene = _Scene()
    for i, (name, tensor) in enumerate(zip(FIELDS, tensors, strict=True)):
        setattr(scene, name, tensor.data_ptr())
        scene.stride[i] = tensor[0].numel() if tensor.shape[0] > 1 else 0
    scene.offsets = offsets.data_ptr() if offsets is not None else None
    scene.frames = max(tensor.shape[0] for tensor in tensors)
    scene.count, scene.coefficients = tensors[4].shape[1:3]
    scene.degree, scene.width, scene.height = degree, width, height
    scene.threads = torch.get_num_threads()
    return scene


def _images(rgb: Tensor, alpha: Tensor, depth: Tensor) -> _Images:
    """Return the C view of three contiguous tensors."""
    return _Images(rgb.data_ptr(), alpha.data_ptr(), depth.data_ptr())


def _compact(tensor: Tensor) -> Tensor:
    """Return the tensor detached and contiguous; an expanded one is reduced to a single frame."""
    repeated = tensor.shape[0] > 1 and tensor.stride(0) == 0
    return (tensor[:1] if repeated else tensor).detach().contiguous()


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, size: tuple[int, int, int], degree: int, offsets: Tensor | None, *fields: Tensor
    ):
        frames, width, height = size

        # Where every field is expanded, one of them must still tell the number of frames.
        tensors = [_compact(field) for field in fields]
        if frames > 1 and all(tensor.shape[0] == 1 for tensor in tensors):
            tensors[-1] = tensors[-1].repeat(frames)
        offsets = None if offsets is None else offsets.detach().contiguous()
        scene = _scene(tensors, offsets, width, height, degree)
        new = functools.partial(torch.empty, dtype=torch.float32)
        rgb, alpha, depth = (new(frames, channels, height, width) for channels in (3, 1, 1))
        radii = torch.empty(frames, scene.count, dtype=torch.int32)
        ctx.state = _State(scene, _images(rgb, alpha, depth), radii)

        ctx.size, ctx.degree, ctx.shapes = size, degree, [field.shape for field in fields[:5]]
        ctx.save_for_backward(rgb, alpha, depth, offsets, *tensors)
        ctx.mark_non_differentiable(radii)
        return rgb, alpha, depth, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, *upstream: Tensor):
        rgb, alpha, depth, offsets, *tensors = ctx.saved_tensors
        _, width, height = ctx.size
        scene = _scene(tensors, offsets, width, height, ctx.degree)
        d_images = [gradient.contiguous() for gradient in upstream[:3]]

        # Memory for the gradients that are wanted; stride 0 sums over the frames.
        out = _Gradients()
        results: list[Tensor | None] = [None] * 5
        for i, shape in enumerate(ctx.shapes):
            if ctx.needs_input_grad[3 + i]:
                results[i] = gradient = torch.empty(shape, dtype=torch.float32)
                out.out[i] = gradient.data_ptr()
                out.stride[i] = gradient[0].numel() if shape[0] > 1 else 0
        d_offsets = torch.empty_like(offsets) if ctx.needs_input_grad[2] else None
        out.offsets = d_offsets.data_ptr() if d_offsets is not None else None

        images = _images(rgb, alpha, depth)
        error = _library().splat_backward(ctx.state.pointer, scene, images, _images(*d_images), out)
        _raise(error)
        return None, None, d_offsets, *results, None, None


def rasterize(
    means: Tensor,
    quaternions: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    world_to_camera: Tensor,
    focal: Tensor,
    width: int,
    height: int,
    sh_degree: int,
    screen_offsets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rgb, alpha, depth, radii as `torch_rasterizer.rasterize` does.

    The tensors are float32 on the CPU.
    """
    assert max(width, height) <= MAX_SIDE, (
        f"image of {width} x {height} px: at most {MAX_SIDE} a side"
    )
    fields = (means, quaternions, scales, opacities, sh, world_to_camera, focal)
    frames = max(field.shape[0] for field in fields)
    return _Rasterize.apply((frames, width, height), sh_degree, screen_offsets, *fields)
