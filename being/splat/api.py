"""The one door to the rasterizer backends: the data classes, `rasterize`, `composite`, and the
choice of a backend.

Letters: B frames, N Gaussians, K spherical-harmonics coefficients, H and W picture height and
width.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from being.errors import EnvironmentFault, UsageError
from being.splat import cpu, cuda, diff_gaussian, gsplat, reference
from being.splat.pair_capacity import PairCapacity

SH_COEFFICIENTS = (1, 4, 9, 16)  # K of degree 0 to 3


@dataclass
class Gaussians:
    """Gaussians after their activations; a leading 1 stands for the same value in every frame."""

    means: Tensor  # [B|1, N, 3] world (head) space
    quaternions: Tensor  # [B|1, N, 4] w first, any length but zero
    scales: Tensor  # [B|1, N, 3] > 0, standard deviations in world units
    opacities: Tensor  # [B|1, N] in 0..1
    sh: Tensor  # [B|1, N, K, 3] spherical harmonics of R, G, B; K = (degree + 1)^2


@dataclass
class Cameras:
    """Pinhole cameras with the principal point in the picture centre (pixel centres: see
    `being.conventions`).
    """

    world_to_camera: Tensor  # [B|1, 4, 4] rigid; x right, y down, z forward; takes no gradient
    focal: float | Tensor  # px; one number or [B|1]
    width: int  # px
    height: int  # px


@dataclass
class RenderOutput:
    """A rendered batch, not composited over anything."""

    # [B, 3, H, W] sum of weight * colour (premultiplied); colour >= 0, not clamped above
    rgb: Tensor
    alpha: Tensor  # [B, 1, H, W] in 0..1, sum of weights
    depth: Tensor  # [B, 1, H, W] sum of weight * view-space z
    # [B, N] int32 px, three standard deviations; 0 = outside the picture or not drawable
    radii: Tensor


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    sh_degree: int | None = None,
    screen_offsets: Tensor | None = None,
    backend: str = "auto",
    room: PairCapacity | None = None,
) -> RenderOutput:
    """Return colour, alpha, depth and radii of every frame, differentiable in all Gaussian fields.

    `sh_degree` is the active degree (default: all that `gaussians.sh` holds). `screen_offsets` [B,
    N, 2] px is added to the projected centres; pass zeros that require a gradient to get the 2-D
    mean gradient of density control. `backend`: "auto", "triton" (CUDA, float32), "cpu" (native,
    float32), "reference" (the torch twin, any device and float type), or "gsplat" (by its own
    rules) or "diff-gaussian" where they are installed (CUDA, float32). `room` is for "triton"
    alone: with it a call reads nothing back and a CUDA graph can capture it. Raises UsageError for
    an unknown backend or one that cannot take these tensors, EnvironmentFault for one that this
    machine lacks. Method: Kerbl et al. 2023, 3D Gaussian Splatting (EWA projection: Zwicker et al.
    2001).
    """
    degree = _check(gaussians, cameras, sh_degree, screen_offsets)
    name = pick_backend(backend, gaussians.means)
    fields = (
        gaussians.means,
        gaussians.quaternions,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
    )
    focal = _focal(cameras.focal, gaussians.means)
    arguments = (
        *fields,
        cameras.world_to_camera,
        focal,
        cameras.width,
        cameras.height,
        degree,
        screen_offsets,
    )
    if name == "triton":
        return RenderOutput(*cuda.rasterize(*arguments, room))
    if room is not None:
        raise UsageError(
            "only the triton rasterizer takes fixed room",
            f"this is for {name!r}",
            "Leave room out.",
        )
    return RenderOutput(*(reference if name == "reference" else FAST[name]).rasterize(*arguments))


def _focal(focal: float | Tensor, like: Tensor) -> Tensor:
    """Return the focal length as [B|1]; a number is filled in on the device, not copied there."""
    if isinstance(focal, Tensor):
        return focal.to(like).reshape(-1)
    return torch.full((1,), float(focal), dtype=like.dtype, device=like.device)


def composite(output: RenderOutput, background: Tensor) -> Tensor:
    """Return the picture [B, 3, H, W] over `background` [B|1, 3, H, W], through alpha."""
    assert background.dim() == 4 and background.shape[1:] == output.rgb.shape[1:], (
        f"background must be [B|1, 3, H, W] of the picture's size, got {tuple(background.shape)}"
    )
    return output.rgb + (1 - output.alpha) * background


def available_backends() -> dict[str, str]:
    """Return each backend's name with "OK (detail)" or the reason why this machine cannot use it,
    fastest first.
    """
    found = {name: module.status() for name, module in FAST.items()}
    return {**found, "reference": "OK (torch twin: slow, any device)"}


# each takes some tensors only
FAST = {"triton": cuda, "gsplat": gsplat, "diff-gaussian": diff_gaussian, "cpu": cpu}
ALIASES = {"torch": "reference"}
_chosen: list[str] = []  # what "auto" stands for in this process, if not the fastest
_warned: set[str] = set()


def choose_backend(name: str, device: torch.device | None = None) -> None:
    """Let "auto" stand for this backend ("torch" is another word for "reference") from now on, in
    the whole process; "auto" undoes it.

    Raises UsageError for an unknown name, EnvironmentFault for a backend that this machine lacks or
    that does not render on `device`, where one is given.
    """
    name = ALIASES.get(name, name)
    if name not in ("auto", "reference"):
        _require(name)
        if device is not None and not FAST[name].takes(torch.empty(0, device=device)):
            raise EnvironmentFault(
                f"the {name} rasterizer cannot run on the device '{device}'",
                f"it renders on {FAST[name].DEVICE}",
                "Choose another device, or --splat auto",
            )
    _chosen[:] = [] if name == "auto" else [name]


def chosen_backend(device: torch.device) -> str:
    """Return the name of the backend that renders float32 Gaussians on `device`, as things are
    chosen now.
    """
    return pick_backend("auto", torch.empty(0, device=device))


@contextmanager
def using_backend(name: str, device: torch.device) -> Iterator[str]:
    """Within, "auto" stands for `name` ("auto": for what was chosen before); gives the name of the
    one that renders on `device`. Raises as `choose_backend` does."""
    before = list(_chosen)
    try:
        if name != "auto":
            choose_backend(name, device)
        yield chosen_backend(device)
    finally:
        _chosen[:] = before


def _require(name: str) -> None:
    if name not in FAST:
        raise UsageError(
            f"unknown rasterizer backend {name!r}", "", f"One of auto, {', '.join(FAST)}, torch"
        )
    status = FAST[name].status()
    if not status.startswith("OK"):
        raise EnvironmentFault(
            f"the {name} rasterizer cannot run here", status, "--splat auto takes what there is"
        )


def pick_backend(backend: str, means: Tensor) -> str:
    """Return the name of the backend that renders `means` and fields like it; warn once when only
    the twin is left.

    Raises UsageError for an unknown backend or one that cannot take these tensors, EnvironmentFault
    for one that this machine lacks.
    """
    backend = _chosen[0] if backend == "auto" and _chosen else ALIASES.get(backend, backend)
    if backend == "auto":
        name = "triton" if means.is_cuda else "cpu"
        if not FAST[name].takes(means) and means.dtype.itemsize >= 4:
            return "reference"
        status = (
            FAST[name].status()
            if FAST[name].takes(means)
            else f"the tensors are {means.dtype}, not float32"
        )
        if status.startswith("OK"):
            return name
        if status not in _warned:
            _warned.add(status)
            warnings.warn(
                f"rendering with the slow torch twin: {status}", RuntimeWarning, stacklevel=3
            )
        return "reference"
    if backend == "reference":
        return backend
    if backend in FAST and not FAST[backend].takes(means):
        raise UsageError(
            f"the {backend} rasterizer takes float32 tensors on {FAST[backend].DEVICE}",
            f"got {means.dtype} on {means.device}",
            'Use backend="auto".',
        )
    _require(backend)
    return backend


def _check(
    gaussians: Gaussians, cameras: Cameras, sh_degree: int | None, screen_offsets: Tensor | None
) -> int:
    """Return the active SH degree after asserting every shape, printing the one that offends."""
    n = gaussians.means.shape[-2]
    k = gaussians.sh.shape[-2]
    assert k in SH_COEFFICIENTS, (
        f"sh must be [B|1, N, K, 3], K in {SH_COEFFICIENTS}, got {list(gaussians.sh.shape)}"
    )
    fields = {
        "means": (gaussians.means, (n, 3)),
        "quaternions": (gaussians.quaternions, (n, 4)),
        "scales": (gaussians.scales, (n, 3)),
        "opacities": (gaussians.opacities, (n,)),
        "sh": (gaussians.sh, (n, k, 3)),
        "world_to_camera": (cameras.world_to_camera, (4, 4)),
    }
    frames = batch_size(gaussians, cameras)
    for name, (tensor, tail) in fields.items():
        want = (
            f"{name} must be [{frames} or 1, {', '.join(map(str, tail))}], got {list(tensor.shape)}"
        )
        assert tuple(tensor.shape[1:]) == tail and tensor.shape[0] in (1, frames), want
        assert tensor.dtype == gaussians.means.dtype and tensor.device == gaussians.means.device, (
            f"{name} is {tensor.dtype} on {tensor.device}, means {gaussians.means.dtype} on {gaussians.means.device}"
        )
    if isinstance(cameras.focal, Tensor):
        assert cameras.focal.numel() in (1, frames), (
            f"focal must hold 1 or {frames}, got {list(cameras.focal.shape)}"
        )
    if screen_offsets is not None:
        assert tuple(screen_offsets.shape) == (frames, n, 2), (
            f"screen_offsets must be [{frames}, {n}, 2], got {list(screen_offsets.shape)}"
        )
    assert not cameras.world_to_camera.requires_grad, "world_to_camera takes no gradient: detach it"
    assert cameras.width > 0 and cameras.height > 0, (
        f"picture size {cameras.width} x {cameras.height}"
    )
    degree = SH_COEFFICIENTS.index(k) if sh_degree is None else sh_degree
    assert 0 <= degree <= SH_COEFFICIENTS.index(k), f"sh_degree {degree} with K = {k} coefficients"
    return degree


def batch_size(gaussians: Gaussians, cameras: Cameras) -> int:
    """Return B, the largest leading dimension."""
    fields = (
        gaussians.means,
        gaussians.quaternions,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
    )
    return max(tensor.shape[0] for tensor in (*fields, cameras.world_to_camera))
