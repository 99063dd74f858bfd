"""Tests of `being.splat`: choice of a backend, checks of shapes, compositing, the benchmark."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from splat_scenes import camera, random_gaussians

from being.bench.splat import bench_splat, head_shell
from being.config import ModelConfig
from being.errors import EnvironmentFault, UsageError
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.splat import (
    Gaussians,
    available_backends,
    composite,
    gsplat,
    rasterize,
    resolve_backend,
    select_backend,
    torch_rasterizer,
)


def small_model() -> TalkingHead:
    """A model of 30 Gaussians, untrained."""
    points = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    config = ModelConfig(sh_degree=1, plane_resolution=4)
    return TalkingHead(config, 5, CanonicalGaussians.from_points(points, points + 0.5, 1))


def test_backends_are_reported():
    backends = available_backends()
    assert list(backends) == ["triton", "gsplat", "diff-gaussian", "cpu", "reference"]
    assert backends["reference"].startswith("OK")


def test_an_unknown_backend_or_one_that_does_not_fit_is_refused():
    scene, cameras = random_gaussians(3), camera(16, 16)
    with pytest.raises(UsageError, match="vulkan"):
        rasterize(scene, cameras, backend="vulkan")
    doubles = Gaussians(*(field.double() for field in vars(scene).values()))
    cameras.world_to_camera = cameras.world_to_camera.double()
    with pytest.raises(UsageError, match="float64"):
        rasterize(doubles, cameras, backend="cpu")
    assert rasterize(doubles, cameras).rgb.dtype == torch.float64


def test_a_selected_backend_is_checked_and_its_alias_resolved():
    here = torch.device("cpu")
    assert select_backend("torch", here) == select_backend("reference", here) == "reference"
    assert select_backend("auto", here) == resolve_backend("auto", torch.empty(0))
    with pytest.raises(UsageError, match="vulkan"):
        select_backend("vulkan", here)
    if not available_backends()["diff-gaussian"].startswith("OK"):
        with pytest.raises(EnvironmentFault, match="diff-gaussian"):
            select_backend("diff-gaussian", here)


def test_the_backend_of_a_call_does_not_change_the_next_call():
    scene, cameras = random_gaussians(30), camera(24, 24)
    before = rasterize(scene, cameras).rgb
    by_alias = rasterize(scene, cameras, backend="torch").rgb
    assert torch.equal(by_alias, rasterize(scene, cameras, backend="reference").rgb)
    assert torch.equal(before, rasterize(scene, cameras).rgb)


def test_a_model_renders_with_its_own_backend(monkeypatch):
    model = small_model()
    calls, render = [], torch_rasterizer.rasterize
    monkeypatch.setattr(
        torch_rasterizer, "rasterize", lambda *arguments: calls.append(1) or render(*arguments)
    )
    model.backend = "reference"
    matrix = torch.eye(4)[None]
    matrix[0, 2, 3] = 3
    model(None, matrix, 40.0, 16)
    assert calls


def test_a_backend_that_is_installed_but_not_for_the_device_is_refused(monkeypatch):
    monkeypatch.setattr(gsplat, "status", lambda: "OK (gsplat 1.5.3)")
    with pytest.raises(EnvironmentFault, match="gsplat.*device 'cpu'.*a CUDA device"):
        select_backend("gsplat", torch.device("cpu"))


@pytest.mark.parametrize(
    "field, shape",
    [
        ("quaternions", (1, 3, 3)),
        ("opacities", (1, 3, 1)),
        ("sh", (1, 3, 5, 3)),
        ("scales", (2, 4, 3)),
    ],
)
def test_a_shape_that_does_not_fit_is_printed(field, shape):
    scene = random_gaussians(3)
    setattr(scene, field, torch.ones(shape))
    with pytest.raises(
        AssertionError, match=rf"{field} must be .*{list(shape)}".replace("[", r"\[")
    ):
        rasterize(scene, camera(16, 16))


def test_compositing_shows_the_background_where_nothing_is_drawn():
    scene, cameras = random_gaussians(20), camera(40, 40)
    plate = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    output = rasterize(scene, cameras)
    image = composite(output, plate)
    empty = (output.alpha == 0).expand_as(image)
    assert empty.any() and torch.equal(image[empty], plate[empty])
    assert torch.allclose(image, output.rgb + (1 - output.alpha) * plate)


def test_importing_starts_no_compiler():
    code = "import subprocess; subprocess.Popen = None; import being.splat"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_benchmark_describes_its_scene_and_takes_any_gaussians():
    gaussians, cameras = head_shell(500, 64, batch=2)
    result = bench_splat(gaussians, cameras, repeats=2)
    assert (result["gaussians"], result["width"], result["batch"]) == (500, 64, 2)
    assert result["tiles_per_gaussian"] >= 1 and result["gaussians_on_screen"] > 250
    assert 0 < result["forward_ms"]["min"] <= result["forward_ms"]["median"]
    assert result["forward_backward_ms"]["min"] > 0 and result["matmul_2048_ms"] > 0
