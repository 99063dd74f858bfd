"""Measure the native CPU renderer: time per stage, and PSNR against the PyTorch model.

    python -m scripts.measure.native [RUN] [--gaussians 20000,32655] [--size 512] [--threads 2]
                                     [--batch 1] [--precision auto,float32] [--repeats 40]

The trained head of RUN is resampled to each number of Gaussians with SH degree 3; without RUN a
head-like shell is used. The network has the size of the main config, random weights, and offsets
about as large as trained ones. A frame goes from tokens, camera and plate to uint8 in host memory;
the computation of the tokens is not included. Times are wall-clock times: for each stage the median
and the minimum of all repeats. "processor" is the median CPU time of all threads together, which
other programs on the machine change less. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from being.bench.machine_speed import matmul_ms
from being.bench.splat import head_shell, tiles_per_gaussian, trained_head
from being.config import ModelConfig
from being.inference.backends.cpu.head import NativeHeadModel
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.splat import Cameras, composite, rasterize

OFFSET_SCALE = 0.3  # of the random heads' last layers


def scene(
    run: Path | None, count: int, size: int, batch: int
) -> tuple[TalkingHead, Cameras, Tensor, Tensor, float]:
    """Return head, cameras, tokens [B, 4, D], plates uint8 [B, S, S, 3], tiles per Gaussian."""
    gaussians, cameras = (
        trained_head(run, count, size, batch) if run else head_shell(count, size, batch)
    )
    torch.manual_seed(0)
    logits = torch.logit(gaussians.opacities[0], 1e-6)[:, None]
    raw = CanonicalGaussians(
        gaussians.means[0],
        gaussians.scales[0].log(),
        gaussians.quaternions[0],
        logits,
        gaussians.sh[0, :, :1],
        gaussians.sh[0, :, 1:],
    )
    model = TalkingHead(ModelConfig(), 8, raw).eval().requires_grad_(False)
    for name, parameter in model.network.named_parameters():
        if "deform.3.weight" in name:
            parameter.mul_(OFFSET_SCALE)
    tiles = tiles_per_gaussian(gaussians, cameras)[1]
    return (
        model,
        cameras,
        torch.randn(batch, 4, 64),
        torch.randint(256, (batch, size, size, 3)).byte(),
        tiles,
    )


def plain(model: TalkingHead, cameras: Cameras, tokens: Tensor, plates: Tensor) -> Tensor:
    """Return the plain model's pictures in float32."""
    offsets = model.network.deform(model.network.queries(model.gaussians.means), tokens)
    output = rasterize(model.gaussians.activate(offsets), cameras)
    picture = composite(output, plates.permute(0, 3, 1, 2).float() / 255)
    return picture.clamp(0, 1).mul(255).add(0.5).byte().permute(0, 2, 3, 1)


def psnr(got: Tensor, want: Tensor) -> list[float]:
    """Return that of each frame in dB."""
    error = ((got.double() - want.double()) ** 2).mean((1, 2, 3))
    return [round(float(value), 1) for value in 10 * torch.log10(255**2 / error.clamp_min(1e-9))]


def measure(native: NativeHeadModel, arguments: tuple[Tensor, ...], repeats: int) -> dict:
    """Return ms of a frame: wall and processor time, and each stage's."""
    batch, wall, processor, stages = len(arguments[0]), [], [], []
    for _ in range(repeats):
        start, spent = time.perf_counter(), time.process_time()
        native.render(*arguments)
        wall.append((time.perf_counter() - start) * 1e3 / batch)
        processor.append((time.process_time() - spent) * 1e3 / batch)
        stages.append([value * 1e3 / batch for value in native.times.values()])
    named = zip(native.times, np.median(stages, 0), np.min(stages, 0), strict=True)
    return {
        "median_ms": float(np.median(wall)),
        "min_ms": min(wall),
        "max_ms": max(wall),
        "processor_ms": float(np.median(processor)),
        "processor_min_ms": min(processor),
        "stages_ms": {
            name: [round(float(middle), 3), round(float(least), 3)] for name, middle, least in named
        },
    }


def _print_result(result: dict) -> None:
    found, stages = result["psnr_db"], result["stages_ms"].items()
    print(
        f"{result['gaussians']} Gaussians, {result['tiles_per_gaussian']:.1f} tiles each, "
        f"{result['size']} px, batch {result['batch']}, {result['threads']} threads, "
        f"{result['isa']}, {result['precision']}: PSNR {min(found)} dB, "
        f"load {result['load_ms']:.0f} ms, matrix product {result['matmul_2048_ms']:.0f} ms"
    )
    print(
        f"  ms per frame: {result['median_ms']:.2f} median, "
        f"{result['min_ms']:.2f} to {result['max_ms']:.2f}; "
        f"processor {result['processor_ms']:.2f} median, {result['processor_min_ms']:.2f} minimum; "
        f"{1000 / result['median_ms']:.1f} frames/s"
    )
    print("  " + ", ".join(f"{name} {mid:.2f} ({least:.2f})" for name, (mid, least) in stages))


def main() -> None:
    """Print a table for each number of Gaussians and precision, and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="run or bundle whose head is rendered")
    parser.add_argument("--gaussians", default="20000,32655")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="auto,float32")
    parser.add_argument("--library")
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for count in map(int, options.gaussians.split(",")):
        model, cameras, tokens, plates, tiles = scene(
            options.run, count, options.size, options.batch
        )
        arguments = (tokens, cameras.world_to_camera, plates)
        want = plain(model, cameras, tokens, plates)
        for precision in options.precision.split(","):
            start = time.perf_counter()
            native = NativeHeadModel(
                model,
                float(cameras.focal),
                options.size,
                options.threads,
                precision,
                options.library,
            )
            load_ms = (time.perf_counter() - start) * 1e3
            found = psnr(native.render(*arguments), want)
            result = {
                "gaussians": count,
                "size": options.size,
                "batch": options.batch,
                "threads": options.threads,
                "isa": native.isa,
                "precision": native.precision,
                "tiles_per_gaussian": round(tiles, 2),
                "psnr_db": found,
                "load_ms": load_ms,
                **measure(native, arguments, options.repeats),
                "matmul_2048_ms": matmul_ms(),
            }
            results.append(result)
            _print_result(result)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
