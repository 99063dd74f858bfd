"""How fast the rasterizer is: forward, and forward with backward, on a trained head or on a head-like shell.

    python -m being.bench.splat [--avatar RUN] [--gaussians 32655] [--size 512] [--batch 1] [--repeats 30]

prints a table and, as its last line, one JSON object. A trained head is resampled to the number of Gaussians asked for.
The time of a fixed matrix product measured in the same run tells how fast the machine was then.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from being.bench.machine import matmul_ms
from being.splat import Cameras, Gaussians, available_backends, composite, rasterize
from being.splat.reference import Projected, project, tile_rectangles

HEAD_DISTANCE = 7.0  # view-space z of the head's centre, as trackers give it


def bench_splat(gaussians: Gaussians, cameras: Cameras, repeats: int = 30, backend: str = "auto") -> dict:
    """Return times in ms (median and min over `repeats`) of one batch and what describes the scene.

    Forward is without gradients; forward + backward takes gradients of all fields and of the 2-D means from a picture
    loss on rgb over a plate, as training does. `tiles_per_gaussian` is the family's figure: 16x16 tiles met by the
    square of three standard deviations, averaged over Gaussians on screen in the first frame.
    """
    fields = (gaussians.means, gaussians.quaternions, gaussians.scales, gaussians.opacities, gaussians.sh)
    leaves = [field.detach().clone().requires_grad_() for field in fields]
    frames = max(tensor.shape[0] for tensor in (*fields, cameras.world_to_camera))
    plate = torch.rand(1, 3, cameras.height, cameras.width, generator=torch.Generator().manual_seed(0))
    offsets = torch.zeros(frames, gaussians.means.shape[1], 2, requires_grad=True)
    weight = torch.rand(plate.shape, generator=torch.Generator().manual_seed(1))

    def forward() -> None:
        with torch.no_grad():
            rasterize(gaussians, cameras, backend=backend)

    def forward_backward() -> None:
        for leaf in (*leaves, offsets):
            leaf.grad = None
        output = rasterize(Gaussians(*leaves), cameras, screen_offsets=offsets, backend=backend)
        composite(output, plate).backward(weight.expand(frames, -1, -1, -1))

    backends = available_backends()
    if backend == "auto":
        backend = next(name for name, status in backends.items() if status.startswith("OK"))
    seen, tiles = tiles_per_gaussian(gaussians, cameras)
    return {
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "gaussians": gaussians.means.shape[1],
        "gaussians_on_screen": seen,
        "tiles_per_gaussian": round(tiles, 3),
        "width": cameras.width,
        "height": cameras.height,
        "batch": frames,
        "sh_coefficients": gaussians.sh.shape[2],
        "backend": backend,
        "backend_status": backends[backend],
        "repeats": repeats,
        "matmul_2048_ms": round(matmul_ms(), 1),
        "forward_ms": times_ms(forward, repeats),
        "forward_backward_ms": times_ms(forward_backward, repeats),
    }


def tiles_per_gaussian(gaussians: Gaussians, cameras: Cameras) -> tuple[int, float]:
    """Return how many Gaussians of the first frame are on screen and how many tiles such a one meets on average."""
    fields = [gaussians.means, gaussians.quaternions, gaussians.scales, gaussians.opacities, gaussians.sh[:, :, :1]]
    focal = torch.as_tensor(cameras.focal, dtype=torch.float32).reshape(-1)[0]
    with torch.no_grad():
        radii = rasterize(gaussians, cameras).radii[0]
        offsets = torch.zeros_like(gaussians.means[0, :, :2])
        first = [field[0] for field in fields]
        splats: Projected = project(first, cameras.world_to_camera[0], focal, offsets, cameras.width, cameras.height, 0)
        left, top, right, bottom = tile_rectangles(splats, cameras.width, cameras.height)[radii > 0].unbind(1)
    count = int((radii > 0).sum())
    return count, float(((right - left) * (bottom - top)).sum()) / max(count, 1)


def times_ms(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the median, min and max of the wall time in ms after two warm-up runs."""
    for _ in range(2):
        run()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        spent.append((time.perf_counter() - start) * 1e3)
    return {"median": round(statistics.median(spent), 3), "min": round(min(spent), 3), "max": round(max(spent), 3)}


def head_shell(count: int, size: int, batch: int = 1) -> tuple[Gaussians, Cameras]:
    """Return a head-like ellipsoid shell of flat Gaussians, SH degree 3, and `batch` cameras up to 15 degrees aside.

    Opacities and sizes are spread as in trained heads: most nearly opaque, many small, some large; with 32,655 at
    512 px a Gaussian on screen meets about three tiles.
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
    """Return the canonical head of the avatar at `path` resampled to `count` Gaussians of SH degree 3, and cameras of
    `batch` of its poses at `size` px.

    Each new Gaussian is one of the trained ones, moved by half its own spread; scales shrink with the square root of
    how many share a surface, so that coverage stays as trained.
    """
    from being.model.avatar import load_avatar

    avatar = load_avatar(path)
    head = avatar.model.gaussians.activate()
    random = torch.Generator().manual_seed(0)
    chosen = torch.randint(head.means.shape[1], (count,), generator=random)
    scales = head.scales[:, chosen] * min(1.0, (head.means.shape[1] / count) ** 0.5)
    means = head.means[:, chosen] + 0.5 * head.scales[:, chosen] * torch.randn(1, count, 3, generator=random)
    sh = torch.nn.functional.pad(head.sh[:, chosen], (0, 0, 0, 16 - head.sh.shape[2]))
    poses = torch.linspace(0, avatar.poses - 1, batch).long()
    gaussians = Gaussians(means, head.quaternions[:, chosen], scales, head.opacities[:, chosen], sh)
    return gaussians, Cameras(avatar.world_to_camera[poses], avatar.focal * size / avatar.size, size, size)


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", type=Path, help="run or bundle whose head is rendered")
    parser.add_argument("--gaussians", type=int, default=32_655)
    parser.add_argument("--size", type=int, default=512, help="px, both sides")
    parser.add_argument("--batch", type=int, default=1, help="frames at once, the Gaussians shared")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    shape = (arguments.gaussians, arguments.size, arguments.batch)
    gaussians, cameras = trained_head(arguments.avatar, *shape) if arguments.avatar else head_shell(*shape)
    scene = "trained head, resampled" if arguments.avatar else "head-like shell"
    result = {"scene": scene, **bench_splat(gaussians, cameras, arguments.repeats, arguments.backend)}
    for name, value in result.items():
        print(f"{name:>24}  {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
