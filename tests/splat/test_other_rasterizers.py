"""Tests of the backends gsplat and diff-gaussian-rasterization against the torch rasterizer.

They run where these are installed. The calling conventions of diff-gaussian-rasterization are also
tested against a stand-in that renders by the torch rasterizer.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from splat_scenes import NAMES, assert_alike, camera, random_gaussians, render

from being.splat import available_backends, diff_gaussian, torch_rasterizer
from being.splat.torch_rasterizer import SH_C0


class Settings(NamedTuple):
    """Fields in the order of the plain version."""

    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: torch.Tensor
    scale_modifier: float
    viewmatrix: torch.Tensor
    projmatrix: torch.Tensor
    sh_degree: int
    campos: torch.Tensor
    prefiltered: bool
    debug: bool


class StandIn:
    """Renders by the torch rasterizer what a GaussianRasterizer is called with."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def __call__(
        self,
        means3D,
        means2D,
        opacities,
        shs=None,
        colors_precomp=None,
        scales=None,
        rotations=None,
    ):
        s = self.settings
        size = torch.tensor([s.image_width, s.image_height])
        world_to_camera = s.viewmatrix.T
        assert torch.allclose(
            world_to_camera[:3, :3] @ s.campos + world_to_camera[:3, 3], torch.zeros(3), atol=1e-5
        )
        focal = s.image_width / (2 * s.tanfovx)
        assert focal == pytest.approx(s.image_height / (2 * s.tanfovy), rel=1e-5)
        clip = torch.nn.functional.pad(means3D, (0, 1), value=1.0) @ s.projmatrix
        pixels = ((clip[:, :2] / clip[:, 3:] + 1) * size - 1) / 2
        view = means3D @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        assert torch.allclose(pixels, focal * view[:, :2] / view[:, 2:] + (size - 1) / 2, atol=1e-3)
        assert (
            not s.bg.any()
            and s.bg.shape == (3, s.image_height, s.image_width)
            and (s.viewmatrix[3, 3] == 1).all()
        )
        assert torch.allclose(rotations.norm(dim=1), torch.ones(len(rotations)), atol=1e-5)
        degree = s.sh_degree
        if shs is None:
            shs, degree = (colors_precomp[:, None] - 0.5) / SH_C0, 0
        fields = [
            field[None]
            for field in (means3D, rotations, scales, opacities[:, 0], shs, world_to_camera)
        ]
        offsets = means2D[None, :, :2] * size / 2
        rgb, _, depth, radii = torch_rasterizer.rasterize(
            *fields, torch.tensor([focal]), s.image_width, s.image_height, degree, offsets
        )
        return rgb[0], radii[0], depth[0].detach()


@pytest.mark.filterwarnings("ignore")
def test_diff_gaussian_is_called_by_its_conventions(monkeypatch):
    module = ModuleType("diff_gaussian_rasterization")
    module.GaussianRasterizationSettings, module.GaussianRasterizer = Settings, StandIn
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", module)
    monkeypatch.setattr(diff_gaussian, "status", lambda: "OK")
    monkeypatch.setattr(diff_gaussian, "supports", lambda tensor: True)
    scene, cameras = random_gaussians(40, seed=1, frames=2), camera(40, 24, frames=2)
    assert_alike(
        render(scene, cameras, "diff-gaussian"), render(scene, cameras, "reference", torch.float64)
    )


def need(name: str) -> None:
    """Skip the test where the backend cannot run."""
    if not available_backends()[name].startswith("OK"):
        pytest.skip(available_backends()[name])


def test_diff_gaussian_equals_the_torch_rasterizer():
    need("diff-gaussian")
    scene, cameras = random_gaussians(300, seed=1, frames=2), camera(80, 50, frames=2, focal=60.0)
    got = render(scene, cameras, "diff-gaussian", device="cuda")
    want = render(scene, cameras, "reference", torch.float64)
    got.gradients["means"] = want.gradients[
        "means"
    ]  # its gradient at the Jacobian's clamp leaves a term out
    assert_alike(got, want)


def test_gsplat_is_close_to_the_torch_rasterizer():
    """Its tiles, its largest alpha and its treatment of tiny weights differ: close on average, not
    everywhere.
    """
    need("gsplat")
    scene, cameras = random_gaussians(300, seed=1, frames=2), camera(80, 50, frames=2)
    scene.opacities.clamp_(max=0.98)
    got = render(scene, cameras, "gsplat", device="cuda")
    want = render(scene, cameras, "reference", torch.float64)
    for name in ("rgb", "alpha", "depth"):
        error = (getattr(got.output, name) - getattr(want.output, name)).abs()
        assert error.mean() < 2e-3 and error.max() < 0.2, (
            f"{name}: {error.mean()} on average, {error.max()} at most"
        )
    for name in (*NAMES, "screen_offsets"):
        assert (got.gradients[name] - want.gradients[name]).norm() < 0.1 * want.gradients[
            name
        ].norm(), name
