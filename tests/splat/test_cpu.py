"""Tests of the native CPU rasterizer: equal to the torch rasterizer, repeatable, never fatal."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from splat_scenes import NAMES, assert_alike, camera, hostile_gaussians, random_gaussians, render

from being import conventions
from being.splat import Cameras, Gaussians, available_backends, cpu, rasterize, torch_rasterizer
from being.splat.cpu.library import LIBRARIES, processor_flags

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not cpu.status().startswith("OK"), reason=cpu.status())
SIZES = [(64, 64), (80, 50), (17, 33), (16, 16), (1, 1), (5, 130)]


def same_bits(a, b) -> bool:
    """True when two renders are equal to the last bit."""
    images = all(
        torch.equal(getattr(a.output, k), getattr(b.output, k))
        for k in ("rgb", "alpha", "depth", "radii")
    )
    return images and all(torch.equal(a.gradients[k], b.gradients[k]) for k in a.gradients)


@pytest.fixture
def two_threads():
    """Give the test two threads whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_the_torch_rasterizer_at_many_sizes(size):
    scene, cameras = random_gaussians(300, seed=sum(size)), camera(*size)
    assert_alike(render(scene, cameras, "cpu"), render(scene, cameras, "reference", torch.float64))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_equals_the_torch_rasterizer_at_every_degree(degree):
    scene, cameras = random_gaussians(150, seed=degree), camera(48, 40)
    got = render(scene, cameras, "cpu", sh_degree=degree)
    assert_alike(got, render(scene, cameras, "reference", torch.float64, sh_degree=degree))
    assert not got.gradients["sh"][:, :, (degree + 1) ** 2 :].any()


@pytest.mark.parametrize("name", [name for name, _ in LIBRARIES])
def test_every_built_library_equals_the_torch_rasterizer(name, monkeypatch):
    path = Path(cpu.__file__).parent / f"_splat_{name}.so"
    if not path.exists() or not processor_flags().issuperset(dict(LIBRARIES)[name]):
        pytest.skip("not built or not for this processor")
    loaded = cpu._declare(ctypes.CDLL(str(path)))
    monkeypatch.setattr(cpu, "_load", lambda: loaded)
    scene, cameras = random_gaussians(1000, seed=9, size=0.05), camera(70, 90)
    assert_alike(render(scene, cameras, "cpu"), render(scene, cameras, "reference", torch.float64))
    scene = hostile_gaussians()
    assert_alike(
        render(scene, camera(64, 48), "cpu"),
        render(scene, camera(64, 48), "reference", torch.float64),
    )


def test_unwelcome_gaussians_are_skipped_and_get_zero_gradients():
    scene, cameras = hostile_gaussians(), camera(64, 48)
    got = render(scene, cameras, "cpu")
    assert_alike(got, render(scene, cameras, "reference", torch.float64))
    drawn = got.output.radii[0] > 0
    for group in (0, 1, 2, 7, 10, 11, 12):
        rows = slice(12 * group, 12 * (group + 1))
        assert not drawn[rows].any(), f"group {group} is drawn"
        assert not any(got.gradients[name][0, rows].any() for name in NAMES), (
            f"group {group} has gradients"
        )


def test_needles_and_sheets_keep_their_gradients():
    """Long thin Gaussians at a slant: covariances of condition 1e5, where a naive determinant loses
    all digits.
    """
    scene = random_gaussians(40, seed=11)
    scene.scales[0] = torch.tensor([3.0, 1e-4, 1e-4])
    scene.scales[0, 20:] = torch.tensor([2.0, 2.0, 1e-4])
    scene.opacities[:] = 0.3
    assert_alike(
        render(scene, camera(90, 90), "cpu"),
        render(scene, camera(90, 90), "reference", torch.float64),
    )


def test_an_opaque_stack_stops_early_and_only_its_front_has_gradients():
    scene = random_gaussians(200, seed=2, size=2.0)
    scene.opacities[:] = 1.0
    cameras = camera(32, 32)
    got = render(scene, cameras, "cpu")
    assert_alike(got, render(scene, cameras, "reference", torch.float64))
    assert (got.gradients["sh"].abs().sum((0, 2, 3)) > 0).sum() < 20


def test_equal_depths_keep_the_order_of_the_gaussians():
    one = random_gaussians(1, seed=4, size=0.5)
    scene = Gaussians(*(getattr(one, name).repeat_interleave(9, 1) for name in NAMES))
    scene.sh[:] = random_gaussians(9, seed=5).sh
    assert_alike(
        render(scene, camera(32, 32), "cpu"),
        render(scene, camera(32, 32), "reference", torch.float64),
    )


def test_broadcast_fields_share_their_value_and_sum_their_gradient():
    cameras = camera(40, 36, frames=3)
    cameras.focal = torch.tensor([60.0, 70.0, 80.0])
    shared, own = random_gaussians(60, seed=1), random_gaussians(60, seed=2, frames=3)
    for mask in range(1, 32, 6):
        scene = Gaussians(
            *(getattr(own if mask >> i & 1 else shared, name) for i, name in enumerate(NAMES))
        )
        got = render(scene, cameras, "cpu")
        assert got.output.rgb.shape == (3, 3, 36, 40)
        assert_alike(got, render(scene, cameras, "reference", torch.float64))


def test_expanded_and_strided_tensors_are_read_right():
    cameras, scene = camera(40, 36, frames=2), random_gaussians(60)
    want = rasterize(scene, cameras, backend="cpu").rgb
    expanded = Gaussians(
        *(getattr(scene, name).expand(2, *getattr(scene, name).shape[1:]) for name in NAMES)
    )
    assert torch.equal(rasterize(expanded, cameras, backend="cpu").rgb, want)
    wide = torch.randn(1, 60, 6)
    wide[..., ::2] = scene.means
    strided = Gaussians(wide[..., ::2], *(getattr(scene, name) for name in NAMES[1:]))
    assert torch.equal(rasterize(strided, cameras, backend="cpu").rgb, want)
    leaf = scene.means.clone().requires_grad_()
    every = Gaussians(leaf.expand(2, -1, -1), *(getattr(expanded, name) for name in NAMES[1:]))
    one_camera = Cameras(cameras.world_to_camera[:1], cameras.focal, 40, 36)
    rasterize(every, one_camera, backend="cpu").rgb.sum().backward()
    twice = leaf.grad.clone()
    leaf.grad = None
    single = Gaussians(leaf, *(getattr(scene, name) for name in NAMES[1:]))
    rasterize(single, one_camera, backend="cpu").rgb.sum().backward()
    assert torch.allclose(twice, 2 * leaf.grad, rtol=1e-5, atol=1e-5)


def test_results_repeat_to_the_bit_for_any_number_of_threads(two_threads):
    scene, cameras = random_gaussians(5000, seed=8, size=0.05), camera(160, 128, frames=2)
    first = render(scene, cameras, "cpu")
    assert all(same_bits(first, render(scene, cameras, "cpu")) for _ in range(4))
    for threads in (1, 5):
        torch.set_num_threads(threads)
        assert same_bits(first, render(scene, cameras, "cpu")), f"{threads} threads differ"


def test_calls_from_several_threads_do_not_mix(two_threads):
    scenes = [random_gaussians(400, seed=seed) for seed in range(4)]
    want = [render(scene, camera(64, 64), "cpu") for scene in scenes]
    got: dict[int, list[bool]] = {i: [] for i in range(4)}

    def work(i: int) -> None:
        for _ in range(5):
            got[i].append(same_bits(render(scenes[i], camera(64, 64), "cpu"), want[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(ok) == 5 and all(ok) for ok in got.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_child_renders(two_threads):
    """Data loaders fork; a child has none of the parent's worker threads and must not wait for
    them.
    """
    scene, cameras = random_gaussians(3000), camera(64, 64)
    want = rasterize(scene, cameras, backend="cpu").rgb
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if torch.equal(rasterize(scene, cameras, backend="cpu").rgb, want) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_graph_can_be_walked_twice():
    scene = random_gaussians(50)
    scene.means.requires_grad_()
    value = rasterize(scene, camera(32, 32), backend="cpu").rgb.sum()
    (first,) = torch.autograd.grad(value, scene.means, retain_graph=True)
    rasterize(random_gaussians(500, seed=1), camera(64, 64), backend="cpu")
    assert torch.equal(torch.autograd.grad(value, scene.means)[0], first)


def test_no_gaussians_give_an_empty_image():
    got = render(random_gaussians(0), camera(20, 20), "cpu")
    assert not got.output.rgb.any() and got.output.radii.shape == (1, 0)


def test_constants_are_those_of_the_package():
    for name, value in cpu.constants().items():
        expected = getattr(conventions, name, None) or getattr(torch_rasterizer, name)
        assert value == pytest.approx(expected, rel=1e-6), name


def test_an_unbuilt_library_is_reported_and_auto_falls_back_with_one_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr("being.splat.api._warned", set())  # another test may have been warned
    cpu._load.cache_clear()
    try:
        assert "apt-get install g++" in available_backends()["cpu"]
        scene, cameras = random_gaussians(20), camera(20, 20)
        with pytest.warns(RuntimeWarning, match="install a C\\+\\+ compiler"):
            got = rasterize(scene, cameras)
        assert torch.equal(got.rgb, rasterize(scene, cameras, backend="reference").rgb)
    finally:
        monkeypatch.undo()
        cpu._load.cache_clear()


def test_a_library_of_another_version_is_not_loaded(monkeypatch):
    monkeypatch.setattr(cpu, "INTERFACE", cpu.INTERFACE + 1)
    cpu._load.cache_clear()
    try:
        assert "another version" in cpu.status() and "install this package again" in cpu.status()
    finally:
        monkeypatch.undo()
        cpu._load.cache_clear()


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a source checkout")
def test_installing_without_a_compiler_succeeds_and_says_what_to_install(tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "CXX": ""}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        f"--build-lib={tmp_path}",
        f"--build-temp={tmp_path}",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "apt-get install g++" in done.stderr
    assert sum("native rasterizer" in line for line in done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.so"))
