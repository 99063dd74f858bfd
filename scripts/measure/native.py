"""How long the native CPU engine takes for a frame, stage by stage, and how near it is to the plain
model.

    python -m scripts.measure.native [RUN] [--gaussians 20000,32655] [--size 512] [--threads 2]
      [--batch 1]
                                     [--precision auto,float32] [--repeats 40]

The trained head of RUN is resampled to each number of Gaussians with SH of degree 3; without one a
head-like shell is made. The network is that of record with random weights and offsets about as
large as trained ones. A frame is tokens, camera and plate to uint8 in host memory: what makes the
tokens is not in it. Times are of the wall clock; of each stage the median and least of all repeats;
"processor" is the median of all threads' time together, which other programs on the machine disturb
less. The last line is JSON.
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
from being.inference.backends.cpu.head import NativeHead
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.splat import Cameras, composite, rasterize

OFFSET_SCALE = 0.3  # of the random heads' last layers


def scene(
    run: Path | None, count: int, size: int, batch: int
) -> tuple[TalkingHead, Cameras, Tensor, Tensor, float]:
    """Return the head, cameras, tokens [B, 4, D], plates uint8 [B, S, S, 3] and tiles a Gaussian."""
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


def measure(native: NativeHead, arguments: tuple[Tensor, ...], repeats: int) -> dict:
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
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    results = []
    for count in map(int, asked.gaussians.split(",")):
        model, cameras, tokens, plates, tiles = scene(asked.run, count, asked.size, asked.batch)
        arguments = (tokens, cameras.world_to_camera, plates)
        want = plain(model, cameras, tokens, plates)
        for precision in asked.precision.split(","):
            start = time.perf_counter()
            native = NativeHead(
                model, float(cameras.focal), asked.size, asked.threads, precision, asked.library
            )
            load_ms = (time.perf_counter() - start) * 1e3
            found = psnr(native.render(*arguments), want)
            result = {
                "gaussians": count,
                "size": asked.size,
                "batch": asked.batch,
                "threads": asked.threads,
                "isa": native.isa,
                "precision": native.precision,
                "tiles_per_gaussian": round(tiles, 2),
                "psnr_db": found,
                "load_ms": load_ms,
                **measure(native, arguments, asked.repeats),
                "matmul_2048_ms": matmul_ms(),
            }
            results.append(result)
            print(
                f"{count} Gaussians, {tiles:.1f} tiles each, {asked.size} px, batch {asked.batch}, {asked.threads} "
                f"threads, {native.isa}, {native.precision}: PSNR {min(found)} dB, load {load_ms:.0f} ms, "
                f"matrix product {result['matmul_2048_ms']:.0f} ms"
            )
            print(
                f"  ms a frame: {result['median_ms']:.2f} median, {result['min_ms']:.2f} to {result['max_ms']:.2f}; "
                f"processor {result['processor_ms']:.2f} median, {result['processor_min_ms']:.2f} least; "
                f"{1000 / result['median_ms']:.1f} frames/s"
            )
            print(
                "  "
                + ", ".join(
                    f"{name} {middle:.2f} ({least:.2f})"
                    for name, (middle, least) in result["stages_ms"].items()
                )
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
