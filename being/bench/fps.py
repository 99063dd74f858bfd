"""`being bench-fps`: frames per second of an avatar, single frames and batches of 8, and the steps inside a frame.

A whole frame is: sound window in (features at hand) to uint8 RGB in host memory. Wall clock with a device synchronise
before and after; the first frames warm up and are not counted.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from being.bench.machine import matmul_ms
from being.conventions import FPS
from being.inference.engine import Engine
from being.inference.pose_path import pose_path

BATCHES = (1, 8)
WARM_UP = 3
STEPS = ("conditions", "audio and tokens", "deformation", "activation", "rasterizer", "plates", "composite and copy")
FEATURE_FRAMES = 64


def bench(engine: Engine, frames: int) -> dict[str, Any]:
    """Latency of `frames` frames one by one and in batches of 8, the split of a single frame, and peak memory."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(FEATURE_FRAMES, 16, engine.avatar.manifest["audio_width"], generator=generator)
    features = features.to(engine.device)
    path = torch.from_numpy(pose_path(max(frames, FEATURE_FRAMES), engine.avatar.poses)).to(engine.device)
    result: dict[str, Any] = {
        "device": device_name(engine.device), "clock": "wall", "warm_up": WARM_UP, "size": engine.avatar.size,
        "gaussians": len(engine.avatar.model.gaussians), "sh_degree": engine.avatar.model.network.config.sh_degree,
        "threads": torch.get_num_threads(), "matmul_2048_ms": round(matmul_ms(), 2), "rows": []}
    for batch in BATCHES:
        times = []
        for k in range(-WARM_UP, max(frames // batch, 8)):
            at = torch.arange(batch, device=engine.device) + max(k, 0) * batch
            start = _now(engine.device)
            engine.render(features, at % FEATURE_FRAMES, path[at % len(path)])
            if k >= 0:
                times.append((_now(engine.device) - start) * 1000)
        result["rows"].append(summary(np.array(times), batch))
    result["split_ms"] = split(engine, features, path, min(frames, 50))
    result["peak_host_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if engine.device.type == "cuda":
        result["peak_device_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    result["real_time"] = {f"{rate} frames/s": result["rows"][0]["frames_per_second"] >= rate for rate in (FPS, 30)}
    return result


def summary(times_ms: np.ndarray, batch: int) -> dict[str, float]:
    """Figures of one batch size: ms a call of `batch` frames, frames/s from the average."""
    return {"batch": batch, "calls": len(times_ms), "frames_per_second": round(1000 * batch / times_ms.mean(), 2),
            **{name: round(float(value), 3) for name, value in (
                ("min_ms", times_ms.min()), ("avg_ms", times_ms.mean()), ("max_ms", times_ms.max()),
                ("p50_ms", np.percentile(times_ms, 50)), ("p99_ms", np.percentile(times_ms, 99)))}}


@torch.no_grad()
def split(engine: Engine, features: torch.Tensor, path: torch.Tensor, frames: int) -> dict[str, float]:
    """Median ms of each step of a single frame, each step synchronised by itself."""
    spent: dict[str, list[float]] = {name: [] for name in STEPS}

    def timed(name: str, work: Callable[..., Any], *inputs: Any) -> Any:
        start = _now(engine.device)
        value = work(*inputs)
        spent[name].append((_now(engine.device) - start) * 1000)
        return value

    for k in range(frames):
        at, pose = torch.tensor([k % FEATURE_FRAMES], device=engine.device), path[k % len(path)][None]
        conditions = timed("conditions", engine.conditions, features, at, pose)
        tokens = timed("audio and tokens", engine.tokens, conditions)
        offsets = timed("deformation", engine.deform, tokens)
        gaussians = timed("activation", engine.activate, offsets)
        output = timed("rasterizer", engine.splat, gaussians, pose)
        plates = timed("plates", engine.plates, pose)
        timed("composite and copy", engine.pictures, output, plates)
    return {name: round(float(np.median(values)), 3) for name, values in spent.items()}


def table(result: dict[str, Any]) -> str:
    """The result as a table for people."""
    lines = [f"{result['device']}, {result['size']}x{result['size']}, {result['gaussians']} Gaussians, SH degree "
             f"{result['sh_degree']}; 2048x2048 float32 matrix product {result['matmul_2048_ms']} ms",
             f"{'batch':>6}{'frames/s':>10}{'min ms':>9}{'avg ms':>9}{'max ms':>9}{'p50 ms':>9}{'p99 ms':>9}"]
    lines += [f"{r['batch']:>6}{r['frames_per_second']:>10.1f}{r['min_ms']:>9.2f}{r['avg_ms']:>9.2f}"
              f"{r['max_ms']:>9.2f}{r['p50_ms']:>9.2f}{r['p99_ms']:>9.2f}" for r in result["rows"]]
    lines += ["steps of a single frame, median ms:"]
    lines += [f"  {name:<20}{value:8.2f}" for name, value in result["split_ms"].items()]
    memory = f"peak memory {result['peak_host_mib']} MiB host"
    if "peak_device_mib" in result:
        memory += f", {result['peak_device_mib']} MiB device"
    verdict = ", ".join(f"{rate}: {'yes' if held else 'no'}" for rate, held in result["real_time"].items())
    return "\n".join([*lines, memory, f"real time, single frames: {verdict}"])


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
