"""Timing of the rasterizer, forward and backward, on a trained head or on synthetic Gaussians.

    python -m being.bench.splat [--avatar RUN] [--gaussians 32655] [--size 512] [--batch 1,8,32]
                                [--repeats 30] [--device cuda] [--backend triton,gsplat]

prints a table and, as its last line, one JSON object. A trained head is resampled to the requested
number of Gaussians. In a batch every frame has its own values of every field, as after a
deformation network. Every call is timed by itself, from an idle device: with CUDA events on a GPU,
by the wall clock on a CPU. The time of a fixed matrix product in the same run shows how fast the
machine was then.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from being.bench.machine_speed import matmul_ms
from being.model.avatar import load_avatar
from being.splat import Cameras, Gaussians, available_backends, rasterize, resolve_backend
from being.splat.torch_rasterizer import Projected, project, tile_rectangles

HEAD_DISTANCE = 7.0  # view-space z of the centre of the head, as in tracked clips


def bench_splat(
    gaussians: Gaussians, cameras: Cameras, repeats: int = 30, backend: str = "auto"
) -> dict:
    """Times in ms of one batch on the device of its tensors, and a description of the scene.

    Forward is without gradients. Forward + backward computes gradients of all fields and of the 2-D
    means from those of rgb and alpha, as an image loss over a plate does. `tiles_per_gaussian`:
    see there. `peak_mib`: memory of forward + backward beside its inputs, on a GPU.
    """
    fields = (
        gaussians.means,
        gaussians.quaternions,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh,
    )
    # Inputs with gradients, and fixed gradients of the outputs.
    leaves = [field.detach().clone().requires_grad_() for field in fields]
    device = gaussians.means.device
    frames = max(tensor.shape[0] for tensor in (*fields, cameras.world_to_camera))
    random = torch.Generator().manual_seed(0)
    upstream = [
        torch.randn(frames, channels, cameras.height, cameras.width, generator=random).to(device)
        for channels in (3, 1)
    ]
    offsets = torch.zeros(frames, gaussians.means.shape[1], 2, device=device, requires_grad=True)
    backend = resolve_backend(backend, gaussians.means)

    def forward() -> None:
        with torch.no_grad():
            rasterize(gaussians, cameras, backend=backend)

    def forward_backward() -> None:
        for leaf in (*leaves, offsets):
            leaf.grad = None
        output = rasterize(Gaussians(*leaves), cameras, screen_offsets=offsets, backend=backend)
        torch.autograd.backward([output.rgb, output.alpha], upstream)

    on_screen, tiles = tiles_per_gaussian(gaussians, cameras)
    result = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "gaussians": gaussians.means.shape[1],
        "gaussians_on_screen": on_screen,
        "tiles_per_gaussian": round(tiles, 3),
        "width": cameras.width,
        "height": cameras.height,
        "batch": frames,
        "sh_coefficients": gaussians.sh.shape[2],
        "backend": backend,
        "backend_status": available_backends()[backend],
        "repeats": repeats,
        "matmul_2048_ms": round(matmul_ms(), 1),
        "forward_ms": times_ms(forward, repeats, device),
    }
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    result["forward_backward_ms"] = times_ms(forward_backward, repeats, device)
    if device.type == "cuda":
        result["peak_mib"] = round((torch.cuda.max_memory_allocated(device) - before) / 2**20)
    return result


def tiles_per_gaussian(gaussians: Gaussians, cameras: Cameras) -> tuple[int, float]:
    """The number of Gaussians on screen in the first frame, and the mean number of 16x16 px tiles
    that the square of three standard deviations of one of them covers.
    """
    fields = [
        gaussians.means,
        gaussians.quaternions,
        gaussians.scales,
        gaussians.opacities,
        gaussians.sh[:, :, :1],
    ]
    focal = torch.as_tensor(
        cameras.focal, dtype=torch.float32, device=gaussians.means.device
    ).reshape(-1)[0]
    with torch.no_grad():
        radii = rasterize(gaussians, cameras).radii[0]
        offsets = torch.zeros_like(gaussians.means[0, :, :2])
        first = [field[0] for field in fields]
        splats: Projected = project(
            first, cameras.world_to_camera[0], focal, offsets, cameras.width, cameras.height, 0
        )
        left, top, right, bottom = tile_rectangles(splats, cameras.width, cameras.height)[
            radii > 0
        ].unbind(1)
    count = int((radii > 0).sum())
    return count, float(((right - left) * (bottom - top)).sum()) / max(count, 1)


def times_ms(run: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Median, min, p99 and max of the time of a call in ms, after three warm-up calls."""
    for _ in range(3):
        run()
    time_call = _time_on_gpu if device.type == "cuda" else _time_on_cpu
    spent = [time_call(run) for _ in range(repeats)]
    figures = {
        "median": np.median(spent),
        "min": min(spent),
        "p99": np.percentile(spent, 99),
        "max": max(spent),
    }
    return {name: round(float(value), 3) for name, value in figures.items()}


def _time_on_cpu(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _time_on_gpu(run: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def head_shell(count: int, size: int, batch: int = 1) -> tuple[Gaussians, Cameras]:
    """A head-like ellipsoid shell of flat Gaussians, SH degree 3, and `batch` cameras up to 15
    degrees to the side.

    Opacities and sizes are distributed as in trained heads: most nearly opaque, many small, some
    large. With 32,655 Gaussians at 512 px, one on screen covers about three tiles.
    """
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    normals = torch.nn.functional.normalize(normal(count, 3), dim=1)
    means = normals * torch.tensor([0.75, 1.0, 0.85]) * (1 + 0.03 * normal(count, 1))
    spacing = (4 * torch.pi * 0.75 / count) ** 0.5
    scales = 0.5 * spacing * torch.exp(0.5 * normal(count, 3)) * torch.tensor([1.0, 1.0, 0.3])
    opacities = torch.sigmoid(1.0 + 2.0 * normal(count))
    sh = 0.1 * normal(count, 16, 3)

    turn = torch.linspace(-15, 15, batch + 2)[1:-1].deg2rad()
    world_to_camera = torch.zeros(batch, 4, 4)
    world_to_camera[:, 0, 0], world_to_camera[:, 0, 2] = turn.cos(), turn.sin()
    world_to_camera[:, 1, 1] = -1
    world_to_camera[:, 2, 0], world_to_camera[:, 2, 2] = turn.sin(), -turn.cos()
    world_to_camera[:, 2, 3], world_to_camera[:, 3, 3] = HEAD_DISTANCE, 1
    gaussians = Gaussians(means[None], normal(1, count, 4), scales[None], opacities[None], sh[None])
    return gaussians, Cameras(world_to_camera, 2.4 * size, size, size)


def trained_head(path: Path, count: int, size: int, batch: int = 1) -> tuple[Gaussians, Cameras]:
    """The canonical head of the avatar at `path`, resampled to `count` Gaussians of SH degree 3,
    and cameras of `batch` of its poses at `size` px.

    Each new Gaussian is a copy of a trained one, moved by half its own spread. Scales shrink with
    the square root of the number of copies, so that coverage stays as trained.
    """
    avatar = load_avatar(path)
    head = avatar.model.gaussians.activate()
    random = torch.Generator().manual_seed(0)
    chosen = torch.randint(head.means.shape[1], (count,), generator=random)
    scales = head.scales[:, chosen] * min(1.0, (head.means.shape[1] / count) ** 0.5)
    means = head.means[:, chosen] + 0.5 * head.scales[:, chosen] * torch.randn(
        1, count, 3, generator=random
    )
    sh = torch.nn.functional.pad(head.sh[:, chosen], (0, 0, 0, 16 - head.sh.shape[2]))
    poses = torch.linspace(0, avatar.pose_count - 1, batch).long()
    gaussians = Gaussians(means, head.quaternions[:, chosen], scales, head.opacities[:, chosen], sh)
    return gaussians, Cameras(
        avatar.world_to_camera[poses], avatar.focal * size / avatar.size, size, size
    )


def own_frames(gaussians: Gaussians, frames: int) -> Gaussians:
    """The Gaussians [frames, N, ...], moved a little in every frame."""
    own = [field.repeat(frames, *[1] * (field.dim() - 1)) for field in vars(gaussians).values()]
    own[0] = own[0] + 1e-3 * torch.randn(own[0].shape, generator=torch.Generator().manual_seed(0))
    return Gaussians(*own)


def to_device(gaussians: Gaussians, cameras: Cameras, device: str) -> tuple[Gaussians, Cameras]:
    """The scene on `device`."""
    moved = Gaussians(*(field.to(device) for field in vars(gaussians).values()))
    return moved, Cameras(
        cameras.world_to_camera.to(device), cameras.focal, cameras.width, cameras.height
    )


def table(results: list[dict]) -> str:
    """A line for each result: ms a frame, median (min to p99)."""

    def figure(result: dict, name: str) -> str:
        low, middle, high = (
            result[name][key] / result["batch"] for key in ("min", "median", "p99")
        )
        return f"{middle:8.3f} ({low:.3f} to {high:.3f})"

    lines = [
        f"{'backend':>10} {'batch':>5}  {'forward, ms a frame':>27}  {'forward + backward':>27}  "
        f"{'peak MiB':>8}"
    ]
    for result in results:
        times = (figure(result, "forward_ms"), figure(result, "forward_backward_ms"))
        lines.append(
            f"{result['backend']:>10} {result['batch']:>5}  {times[0]:>27}  {times[1]:>27}  "
            f"{result.get('peak_mib', '-'):>8}"
        )
    return "\n".join(lines)


def main() -> None:
    """Time every batch size with every backend; print the scene, the table and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--avatar",
        type=Path,
        help="run or bundle whose head is rendered (default: a head-like shell)",
    )
    parser.add_argument("--gaussians", type=int, default=32_655)
    parser.add_argument("--size", type=int, default=512, help="px, both sides")
    parser.add_argument("--batch", default="1", help="frames at once; several with commas")
    parser.add_argument("--backend", default="auto", help="several with commas")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()

    results = []
    for batch in map(int, arguments.batch.split(",")):
        shape = (arguments.gaussians, arguments.size, batch)
        if arguments.avatar:
            head, cameras = trained_head(arguments.avatar, *shape)
        else:
            head, cameras = head_shell(*shape)
        scene = to_device(own_frames(head, batch), cameras, arguments.device)
        for backend in arguments.backend.split(","):
            results.append(bench_splat(*scene, arguments.repeats, backend))

    print("scene: " + ("trained head, resampled" if arguments.avatar else "head-like shell"))
    for name in (
        "device",
        "gaussians",
        "gaussians_on_screen",
        "tiles_per_gaussian",
        "width",
        "height",
    ):
        print(f"{name:>24}  {results[0][name]}")
    print(table(results))
    print(json.dumps({"scene": "avatar" if arguments.avatar else "shell", "results": results}))


if __name__ == "__main__":
    main()
