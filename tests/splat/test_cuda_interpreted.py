"""Tests of the Triton rasterizer: equal to the torch rasterizer, repeatable, capacity checked.

Without a GPU they run in Triton's interpreter.
"""

from __future__ import annotations

import importlib.util
import itertools

import pytest
import torch
from needs import INTERPRETED
from splat_scenes import NAMES, assert_alike, camera, hostile_gaussians, random_gaussians, render

from being.errors import BeingError, UsageError
from being.splat import Cameras, Gaussians, PairCapacity, rasterize

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
COUNT = 300 if CUDA else 10
# Sizes of images with numbers of frames; the interpreter is slow.
SHAPES = (
    list(itertools.product([(64, 64), (80, 50), (17, 130)], (1, 3, 8)))
    if CUDA
    else [((16, 16), 3), ((18, 20), 1), ((33, 9), 2)]
)

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
    pytest.mark.skipif(
        not CUDA and not INTERPRETED, reason="runs in Triton's interpreter, by test_interpreted.py"
    ),
    # NumPy warns of the bad input of some tests.
    pytest.mark.filterwarnings("ignore:(invalid|divide|overflow).*encountered:RuntimeWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def quick_interpreter():
    """Let the interpreter patch Triton's language once for each kernel.

    It would do so at every call of a function inside the kernel.
    """
    if CUDA:
        yield
        return
    from triton.runtime import interpreter

    patch, done = interpreter._patch_lang, {}

    def patch_once(function):
        key = id(function.__globals__)
        if key not in done:
            done[key] = scope = patch(function)
            if len(done) == 1:  # the kernel itself: what it patched is restored when it ends
                restore = scope.restore
                scope.restore = lambda: (restore(), done.clear())
        return done[key]

    interpreter._patch_lang = patch_once
    yield
    interpreter._patch_lang = patch


def triton_render(scene, cameras, **options):
    """Return the render by the Triton kernels."""
    return render(scene, cameras, "triton", device=DEVICE, **options)


def same_bits(a, b) -> bool:
    """True when two renders are equal to the last bit."""
    images = all(
        torch.equal(getattr(a.output, k), getattr(b.output, k))
        for k in ("rgb", "alpha", "depth", "radii")
    )
    return images and all(torch.equal(a.gradients[k], b.gradients[k]) for k in a.gradients)


@pytest.mark.parametrize(("size", "frames"), SHAPES, ids=str)
def test_equals_the_doubles_at_many_sizes_and_batches(size, frames):
    shared, own = (
        random_gaussians(COUNT, seed=sum(size)),
        random_gaussians(COUNT, seed=1, frames=frames),
    )
    mixed = (7 * frames + size[0]) % 32  # which fields are one for all frames
    scene = Gaussians(
        *(getattr(own if mixed >> i & 1 else shared, name) for i, name in enumerate(NAMES))
    )
    cameras = camera(*size, frames=frames)
    cameras.focal = 1.5 * max(size) * torch.linspace(1, 1.2, frames)
    got = triton_render(scene, cameras)
    assert got.output.rgb.shape == (frames, 3, size[1], size[0])
    assert_alike(got, render(scene, cameras, "reference", torch.float64))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_equals_the_doubles_at_every_degree(degree):
    scene, cameras = random_gaussians(COUNT, seed=degree), camera(16, 12)
    got = triton_render(scene, cameras, sh_degree=degree)
    assert_alike(got, render(scene, cameras, "reference", torch.float64, sh_degree=degree))
    assert not got.gradients["sh"][:, :, (degree + 1) ** 2 :].any()


def test_unwelcome_gaussians_are_skipped_and_get_zero_gradients():
    scene, cameras = hostile_gaussians(), camera(64, 48)
    each = 12
    if not CUDA:
        scene, each, cameras = (
            Gaussians(*(getattr(scene, name)[:, ::6] for name in NAMES)),
            2,
            camera(32, 16),
        )
    got = triton_render(scene, cameras)
    assert_alike(got, render(scene, cameras, "reference", torch.float64))
    drawn = got.output.radii[0] > 0
    for group in (0, 1, 2, 7, 10, 11, 12):
        rows = slice(each * group, each * (group + 1))
        assert not drawn[rows].any(), f"group {group} is drawn"
        assert not any(got.gradients[name][0, rows].any() for name in NAMES), (
            f"group {group} has gradients"
        )


def test_needles_and_sheets_keep_their_gradients():
    """Long thin Gaussians at a slant: covariances of condition 1e5, where a naive determinant loses
    all digits.
    """
    scene = random_gaussians(8, seed=11)
    scene.scales[0] = torch.tensor([3.0, 1e-4, 1e-4])
    scene.scales[0, 4:] = torch.tensor([2.0, 2.0, 1e-4])
    scene.opacities[:] = 0.3
    cameras = camera(90, 90) if CUDA else camera(40, 32)
    assert_alike(triton_render(scene, cameras), render(scene, cameras, "reference", torch.float64))


def test_an_opaque_stack_stops_early_and_only_its_front_has_gradients():
    scene = random_gaussians(40, seed=2, size=2.0)
    scene.opacities[:] = 1.0
    got = triton_render(scene, camera(16, 16))
    assert_alike(got, render(scene, camera(16, 16), "reference", torch.float64))
    assert (got.gradients["sh"].abs().sum((0, 2, 3)) > 0).sum() < 20


def test_equal_depths_keep_the_order_of_the_gaussians():
    one = random_gaussians(1, seed=4, size=0.5)
    scene = Gaussians(*(getattr(one, name).repeat_interleave(9, 1) for name in NAMES))
    scene.sh[:] = random_gaussians(9, seed=5).sh
    assert_alike(
        triton_render(scene, camera(16, 16)),
        render(scene, camera(16, 16), "reference", torch.float64),
    )


def test_results_are_equal_to_the_bit_for_any_capacity():
    from being.splat.cuda import graph_replay

    scene, cameras = random_gaussians(10 * COUNT if CUDA else 5, seed=8), camera(16, 12, frames=2)
    graph_replay._density.clear()
    first = triton_render(scene, cameras)  # capacity as counted
    again = triton_render(scene, cameras)  # estimated from the last call
    graph_replay._density.update(dict.fromkeys(graph_replay._density, 1e-9))
    third = triton_render(scene, cameras)  # estimated far too low, so listed twice
    fixed = triton_render(scene, cameras, capacity=PairCapacity(100_000 if CUDA else 700, DEVICE))
    assert same_bits(first, again) and same_bits(first, third) and same_bits(first, fixed)


def test_a_capacity_that_is_too_small_is_reported():
    scene, cameras = random_gaussians(12 * COUNT, seed=3, size=0.3), camera(16, 16, frames=2)
    capacity = PairCapacity(256, DEVICE) if CUDA else PairCapacity(30, DEVICE)
    got = triton_render(scene, cameras, capacity=capacity)
    with pytest.raises(BeingError, match="Give a capacity of at least"):
        capacity.check()
    want = render(scene, cameras, "reference")
    if not CUDA:  # the first frame's nearest fit
        assert (got.output.alpha[0] <= want.output.alpha[0] + 1e-5).all()
    assert all(torch.isfinite(gradient).all() for gradient in got.gradients.values())
    assert PairCapacity(10, DEVICE).check() == 0


def test_some_gradients_only():
    scene, cameras = random_gaussians(COUNT, seed=9), camera(16, 16)
    want = triton_render(scene, cameras)
    fields = [getattr(scene, name).to(DEVICE) for name in NAMES]
    seen_from = Cameras(cameras.world_to_camera.to(DEVICE), cameras.focal, 16, 16)
    fields[2].requires_grad_()
    output = rasterize(Gaussians(*fields), seen_from, backend="triton")
    (output.depth / 4).sum().backward()
    doubles = [field.detach().double().requires_grad_(i == 2) for i, field in enumerate(fields)]
    seen_from.world_to_camera = seen_from.world_to_camera.double()
    (rasterize(Gaussians(*doubles), seen_from, backend="reference").depth / 4).sum().backward()
    assert torch.equal(output.rgb.cpu(), want.output.rgb)
    assert (fields[2].grad - doubles[2].grad).norm() < 1e-3 * doubles[2].grad.norm()


def test_no_gaussians_give_an_empty_image():
    got = triton_render(random_gaussians(0), camera(20, 20))
    assert not got.output.rgb.any() and got.output.radii.shape == (1, 0)


def test_a_capacity_is_for_triton_alone():
    with pytest.raises(UsageError, match="only the triton rasterizer"):
        rasterize(
            random_gaussians(3),
            camera(16, 16),
            backend="reference",
            capacity=PairCapacity(10, "cpu"),
        )


@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_a_cuda_graph_replays_a_call_with_fixed_capacity():
    scene, cameras = random_gaussians(2000, seed=1, size=0.05), camera(128, 96)
    cameras.world_to_camera = cameras.world_to_camera.cuda()
    fields = Gaussians(*(getattr(scene, name).cuda() for name in NAMES))
    capacity = PairCapacity(100_000, "cuda")
    with torch.no_grad():
        for _ in range(2):
            rasterize(fields, cameras, capacity=capacity)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = rasterize(fields, cameras, capacity=capacity)
        moved = random_gaussians(2000, seed=2, size=0.05)
        for name in NAMES:
            getattr(fields, name).copy_(getattr(moved, name))
        graph.replay()
        assert torch.equal(output.rgb, rasterize(fields, cameras).rgb)
    capacity.check()
