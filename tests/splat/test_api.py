"""The rasterizer's front door: the choice of a backend, shapes that do not fit, compositing, the
benchmark.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from splat_scenes import camera, random_gaussians

from being.bench.splat import bench_splat, head_shell
from being.errors import EnvironmentFault, UsageError
from being.splat import (
    Gaussians,
    available_backends,
    choose_backend,
    chosen_backend,
    composite,
    gsplat,
    rasterize,
    using_backend,
)


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


def test_a_chosen_backend_is_what_auto_stands_for():
    scene, cameras = random_gaussians(30), camera(24, 24)
    scene.scales[0, :, 0] = 0.2
    try:
        choose_backend("reference")
        assert torch.equal(
            rasterize(scene, cameras).rgb, rasterize(scene, cameras, backend="reference").rgb
        )
        with pytest.raises(UsageError, match="vulkan"):
            choose_backend("vulkan")
        if not available_backends()["diff-gaussian"].startswith("OK"):
            with pytest.raises(EnvironmentFault, match="diff-gaussian"):
                choose_backend("diff-gaussian")
    finally:
        choose_backend("auto")


def test_a_backend_chosen_for_a_while_is_given_back_even_after_an_error():
    here = torch.device("cpu")
    before = chosen_backend(here)
    with pytest.raises(ZeroDivisionError), using_backend("torch", here) as name:
        assert name == chosen_backend(here) == "reference"
        with using_backend("auto", here) as inner:
            assert inner == "reference", "auto leaves what was chosen before"
        raise ZeroDivisionError
    assert chosen_backend(here) == before


def test_a_backend_that_is_here_but_not_on_the_device_is_refused(monkeypatch):
    monkeypatch.setattr(gsplat, "status", lambda: "OK (gsplat 1.5.3)")
    with pytest.raises(EnvironmentFault, match="gsplat.*device 'cpu'.*a CUDA device"):
        choose_backend("gsplat", torch.device("cpu"))
    assert chosen_backend(torch.device("cpu")) != "gsplat"


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


def test_compositing_shows_the_plate_where_nothing_is_drawn():
    scene, cameras = random_gaussians(20), camera(40, 40)
    plate = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    output = rasterize(scene, cameras)
    picture = composite(output, plate)
    empty = (output.alpha == 0).expand_as(picture)
    assert empty.any() and torch.equal(picture[empty], plate[empty])
    assert torch.allclose(picture, output.rgb + (1 - output.alpha) * plate)


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
