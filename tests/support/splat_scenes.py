"""Small scenes for the rasterizer's tests, the losses whose gradients are compared, and the golden
scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.splat import Cameras, Gaussians, RenderOutput, rasterize

NAMES = [field.name for field in fields(Gaussians)]


@dataclass
class Rendered:
    """A render in double precision numbers with the gradients of a fixed random loss on rgb, alpha
    and depth.
    """

    output: RenderOutput
    gradients: dict[str, Tensor]


def random_gaussians(
    count: int, seed: int = 0, frames: int = 1, degree: int = 3, size: float = 0.1
) -> Gaussians:
    """Return Gaussians in a ball around the origin: means [frames, count, 3] and so on, SH of
    `degree`.
    """
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(frames, count, *shape, generator=random)

    return Gaussians(
        means=0.6 * normal(3),
        quaternions=normal(4),
        scales=size * torch.exp(0.6 * normal(3)),
        opacities=torch.sigmoid(2 * normal()),
        sh=0.4 * normal((degree + 1) ** 2, 3),
    )


def camera(
    width: int, height: int, frames: int = 1, distance: float = 4.0, focal: float | None = None
) -> Cameras:
    """Return cameras that look at the origin, turned a little more in each frame."""
    angle = 0.3 + 0.2 * torch.arange(frames)
    matrix = torch.eye(4).repeat(frames, 1, 1)
    matrix[:, 0, 0] = matrix[:, 2, 2] = angle.cos()
    matrix[:, 0, 2], matrix[:, 2, 0] = angle.sin(), -angle.sin()
    matrix[:, :3, 3] = torch.tensor([0.05, -0.1, distance])
    return Cameras(matrix, 1.6 * max(width, height) if focal is None else focal, width, height)


def hostile_gaussians(seed: int = 3) -> Gaussians:
    """Return Gaussians of every unwelcome kind among ordinary ones, 12 of each."""
    scene = random_gaussians(12 * 13, seed)
    groups = [slice(12 * i, 12 * (i + 1)) for i in range(13)]
    means, scales = scene.means[0], scene.scales[0]
    means[groups[0], 2] -= 9  # behind the camera
    means[groups[1], 2] = -4.0 + 0.05  # between camera and near plane
    means[groups[2], 0] += 60  # far off screen
    means[groups[3], 0] += 3.5  # beyond the clamp of the Jacobian, large enough to be seen
    scales[groups[3]] = 1.5
    scales[groups[4]] = 200.0  # huge
    scales[groups[5]] = 1e-12  # points
    scales[groups[6]] = torch.tensor([1.0, 1e-7, 1e-7])  # needles
    scene.quaternions[0, groups[7]] = 0  # no rotation at all
    scene.opacities[0, groups[8]] = 1.0  # a fully opaque stack in one place
    means[groups[8]] = torch.tensor([0.1, 0.1, 0.0]) + 0.02 * means[groups[8]]
    scene.opacities[0, groups[9]] = 0.0
    means[groups[10], 1] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30]).repeat(3)
    scene.sh[0, groups[11], 0, 0] = float("nan")
    scales[groups[12], 0] = float("inf")
    return scene


def render(
    scene: Gaussians,
    cameras: Cameras,
    backend: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **options,
) -> Rendered:
    """Return the render by `backend` on `device` and the gradients of its fixed loss, the latter in
    float64.
    """
    leaves = {
        name: getattr(scene, name).detach().clone().to(device, dtype).requires_grad_()
        for name in NAMES
    }
    frames = max(tensor.shape[0] for tensor in (*leaves.values(), cameras.world_to_camera))
    offsets = torch.zeros(
        frames, scene.means.shape[1], 2, dtype=dtype, device=device, requires_grad=True
    )
    focal = cameras.focal.to(device, dtype) if isinstance(cameras.focal, Tensor) else cameras.focal
    seen_from = Cameras(
        cameras.world_to_camera.to(device, dtype), focal, cameras.width, cameras.height
    )
    output = rasterize(
        Gaussians(**leaves), seen_from, screen_offsets=offsets, backend=backend, **options
    )
    loss(output).backward()
    inputs = {**leaves, "screen_offsets": offsets}
    pictures = RenderOutput(*(tensor.detach().cpu() for tensor in vars(output).values()))
    return Rendered(pictures, {name: leaf.grad.cpu().double() for name, leaf in inputs.items()})


def loss(output: RenderOutput) -> Tensor:
    """Return a fixed random weighting of all pixels of rgb, alpha and depth."""
    random = torch.Generator().manual_seed(7)
    pictures = (output.rgb, output.alpha, output.depth / 4)
    return sum(
        (picture * torch.randn(picture.shape, generator=random).to(picture)).sum()
        for picture in pictures
    )


def assert_alike(got: Rendered, want: Rendered) -> None:
    """Assert equal pictures and gradients.

    In a few pixels alpha or the transmittance may lie so close to a threshold of the method that
    rounding decides: these may differ by one skipped contribution (1/255), in at most 3 pixels or 1
    in 10,000.
    """
    for name, tolerance in (("rgb", 1e-4), ("alpha", 1e-4), ("depth", 5e-4)):
        error = (getattr(got.output, name).double() - getattr(want.output, name).double()).abs()
        flipped = (error > tolerance).any(1).sum()
        assert flipped <= max(3, error[:, 0].numel() // 10_000), (
            f"{name}: {flipped} pixels differ, by {error.max()}"
        )
        assert error.max() < 0.05, f"{name} differs by {error.max()}"
    radii = (got.output.radii - want.output.radii).abs()  # rounded up, so the last digit may decide
    assert (radii > 0).sum() <= 2 and (radii > 1).sum() == 0, f"radii differ by {radii.max()} px"
    for name, gradient in want.gradients.items():
        error = got.gradients[name] - gradient
        assert torch.isfinite(got.gradients[name]).all(), f"gradient of {name} is not finite"
        assert error.norm() <= 1e-3 * gradient.norm() + 1e-9, (
            f"{name}: {error.norm() / gradient.norm()} relative"
        )


@dataclass
class Golden:
    """One scene of the golden file: inputs, camera, plate and everything to compare with."""

    scene: Gaussians
    cameras: Cameras
    degree: int
    data: dict[str, Tensor]
    leaves: dict[str, Tensor]


def golden(folder: Path, name: str) -> Golden:
    """Return a golden scene; its leaves are the raw parameters that the file gives gradients of."""
    with np.load(folder / "golden" / "rasterizer.npz") as file:
        data = {
            key.split(".")[1]: torch.tensor(file[key])
            for key in file.files
            if key.startswith(f"{name}.")
        }
    raw = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    leaves = {key: data[key].requires_grad_() for key in raw}
    scene = Gaussians(
        leaves["means"][None],
        leaves["quaternions"][None],
        leaves["log_scales"].exp()[None],
        leaves["opacity_logits"].sigmoid()[None, :, 0],
        leaves["sh"][None],
    )
    height, width = data["image"].shape[1:]
    cameras = Cameras(data["world_to_camera"][None], float(data["focal"]), width, height)
    return Golden(scene, cameras, int(data["sh_degree"]), data, leaves)
