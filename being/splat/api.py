"""The rasterizer's interface: data classes, `rasterize`, `composite`, and the choice of a backend.

Letters: B frames, N Gaussians, K spherical-harmonics coefficients, H and W image height and width.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from being.errors import EnvironmentFault, UsageError
from being.splat import cpu, cuda, diff_gaussian, gsplat, torch_rasterizer
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

    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the five tensors in the order in which they are declared."""
        return self.means, self.quaternions, self.scales, self.opacities, self.sh


@dataclass
class Cameras:
    """Pinhole cameras; the principal point is the image centre (see `being.conventions`)."""

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
    # [B, N] int32 px, three standard deviations; 0 = outside the image or not drawable
    radii: Tensor


class RasterizerBackend(Protocol):
    """The interface of a backend; each backend is a module."""

    DEVICE: str  # the devices it renders on, for messages

    def status(self) -> str:
        """Return "OK", "OK (detail)", or the reason why this machine cannot use the backend."""

    def supports(self, tensor: Tensor) -> bool:
        """Return whether the backend renders tensors of this float type on this device."""

    def rasterize(
        self,
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
        """Return rgb, alpha, depth and radii, as in `RenderOutput`."""


BACKENDS: dict[str, RasterizerBackend] = {
    "triton": cuda,
    "gsplat": gsplat,
    "diff-gaussian": diff_gaussian,
    "cpu": cpu,
    "reference": torch_rasterizer,
}
ALIASES = {"torch": "reference"}
CHOICES = "auto, triton, gsplat, diff-gaussian, cpu, torch"  # for messages
_warned: set[str] = set()


def rasterize(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    sh_degree: int | None = None,
    screen_offsets: Tensor | None = None,
    backend: str = "auto",
    capacity: PairCapacity | None = None,
) -> RenderOutput:
    """Return colour, alpha, depth and radii of every frame, differentiable in all Gaussian fields.

    `sh_degree` is the active degree (default: all that `gaussians.sh` holds). `screen_offsets`
    [B, N, 2] px is added to the projected centres; pass zeros that require a gradient to get the
    2-D mean gradient of density control.

    `backend` is one of
    - "auto": the fastest backend for these tensors;
    - "triton": CUDA, float32;
    - "cpu": native code, float32;
    - "reference" or "torch": the readable torch rasterizer, any device and float type;
    - "gsplat" (it draws by rules of its own) or "diff-gaussian", where installed: CUDA, float32.

    `capacity` is for "triton" alone: with it, a call reads nothing back to the host, so a CUDA
    graph can capture it.

    Raises UsageError for an unknown backend or one that cannot render these tensors,
    EnvironmentFault for one that this machine lacks. Method: Kerbl et al. 2023, 3D Gaussian
    Splatting (EWA projection: Zwicker et al. 2001).
    """
    degree = _check(gaussians, cameras, sh_degree, screen_offsets)
    name = resolve_backend(backend, gaussians.means)
    arguments = (
        *gaussians.fields(),
        cameras.world_to_camera,
        _focal(cameras.focal, gaussians.means),
        cameras.width,
        cameras.height,
        degree,
        screen_offsets,
    )

    if name == "triton":
        return RenderOutput(*cuda.rasterize(*arguments, capacity))
    if capacity is not None:
        raise UsageError(
            "only the triton rasterizer takes a fixed capacity for pairs",
            f"the backend of this call is {name!r}",
            "Leave `capacity` out.",
        )
    return RenderOutput(*BACKENDS[name].rasterize(*arguments))


def _focal(focal: float | Tensor, like: Tensor) -> Tensor:
    """Return the focal length as [B|1]; a number is filled in on the device, not copied there."""
    if isinstance(focal, Tensor):
        return focal.to(like).reshape(-1)
    return torch.full((1,), float(focal), dtype=like.dtype, device=like.device)


def composite(output: RenderOutput, background: Tensor) -> Tensor:
    """Return the image [B, 3, H, W] over `background` [B|1, 3, H, W], through alpha."""
    assert background.dim() == 4 and background.shape[1:] == output.rgb.shape[1:], (
        f"background must be [B|1, 3, H, W] of the image's size, got {tuple(background.shape)}"
    )
    return output.rgb + (1 - output.alpha) * background


def available_backends() -> dict[str, str]:
    """Return the status of each backend: "OK (detail)" or why this machine cannot use it."""
    return {name: module.status() for name, module in BACKENDS.items()}


def select_backend(name: str, device: torch.device) -> str:
    """Return the backend that renders float32 Gaussians on `device` when the user asks for `name`.

    `name` is "auto" or a backend; "torch" is another word for "reference". Raises UsageError for an
    unknown name, EnvironmentFault for a backend that this machine lacks or that does not render on
    `device`.
    """
    name = ALIASES.get(name, name)
    like = torch.empty(0, device=device)
    if name == "auto":
        return resolve_backend(name, like)

    _require(name)
    if not BACKENDS[name].supports(like):
        raise EnvironmentFault(
            f"the {name} rasterizer cannot run on the device '{device}'",
            f"it renders on {BACKENDS[name].DEVICE}",
            "Choose another device, or --splat auto",
        )
    return name


def resolve_backend(name: str, like: Tensor) -> str:
    """Return the backend that renders tensors like `like` when a call asks for `name`.

    "auto" is "triton" on CUDA, "cpu" on the CPU, and "reference" where that backend is missing; it
    warns once then. Raises UsageError for an unknown backend or one that cannot render these
    tensors, EnvironmentFault for one that this machine lacks.
    """
    name = ALIASES.get(name, name)
    if name == "auto":
        return _fastest_backend(like)
    if name in BACKENDS and not BACKENDS[name].supports(like):
        raise UsageError(
            f"the {name} rasterizer takes float32 tensors on {BACKENDS[name].DEVICE}",
            f"got {like.dtype} on {like.device}",
            'Use backend="auto".',
        )
    _require(name)
    return name


def _fastest_backend(like: Tensor) -> str:
    name = "triton" if like.is_cuda else "cpu"
    supported = BACKENDS[name].supports(like)

    # float64 goes to the torch rasterizer on purpose: no warning.
    if not supported and like.dtype.itemsize >= 4:
        return "reference"

    status = BACKENDS[name].status() if supported else f"the tensors are {like.dtype}, not float32"
    if status.startswith("OK"):
        return name
    if status not in _warned:
        _warned.add(status)
        warnings.warn(
            f"rendering with the slow torch rasterizer: {status}", RuntimeWarning, stacklevel=4
        )
    return "reference"


def _require(name: str) -> None:
    """Raise unless `name` is a backend that this machine can use."""
    if name not in BACKENDS:
        raise UsageError(f"unknown rasterizer backend {name!r}", "", f"One of {CHOICES}")
    status = BACKENDS[name].status()
    if not status.startswith("OK"):
        raise EnvironmentFault(
            f"the {name} rasterizer cannot run here",
            status,
            "--splat auto takes the fastest that can",
        )


def _check(
    gaussians: Gaussians, cameras: Cameras, sh_degree: int | None, screen_offsets: Tensor | None
) -> int:
    """Return the active SH degree; assert every shape and print the one that does not fit."""
    means = gaussians.means
    n = means.shape[-2]
    k = gaussians.sh.shape[-2]
    assert k in SH_COEFFICIENTS, (
        f"sh must be [B|1, N, K, 3], K in {SH_COEFFICIENTS}, got {list(gaussians.sh.shape)}"
    )

    # The tensors that every backend reads: one frame or all, one float type, one device.
    fields = {
        "means": (means, (n, 3)),
        "quaternions": (gaussians.quaternions, (n, 4)),
        "scales": (gaussians.scales, (n, 3)),
        "opacities": (gaussians.opacities, (n,)),
        "sh": (gaussians.sh, (n, k, 3)),
        "world_to_camera": (cameras.world_to_camera, (4, 4)),
    }
    frames = batch_size(gaussians, cameras)
    for name, (tensor, tail) in fields.items():
        assert tuple(tensor.shape[1:]) == tail and tensor.shape[0] in (1, frames), (
            f"{name} must be [{frames} or 1, {', '.join(map(str, tail))}], got {list(tensor.shape)}"
        )
        assert tensor.dtype == means.dtype and tensor.device == means.device, (
            f"{name} is {tensor.dtype} on {tensor.device}, means {means.dtype} on {means.device}"
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
        f"image size {cameras.width} x {cameras.height}"
    )

    degree = SH_COEFFICIENTS.index(k) if sh_degree is None else sh_degree
    assert 0 <= degree <= SH_COEFFICIENTS.index(k), f"sh_degree {degree} with K = {k} coefficients"
    return degree


def batch_size(gaussians: Gaussians, cameras: Cameras) -> int:
    """Return B, the largest leading dimension."""
    return max(tensor.shape[0] for tensor in (*gaussians.fields(), cameras.world_to_camera))
