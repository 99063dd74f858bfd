"""Measures an engine's speed: latency by batch size, first frame, memory, mp4 encoding.

A whole frame begins with a new row of speech features in host memory and ends with uint8 RGB in
host memory. Tables and graphs are made and the plates are decoded before; each is done once. Times
are wall clock, from the call to the images; on CUDA the steps are timed by events of the device.
Warm-up calls are not counted.
"""

from __future__ import annotations

import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.bench.frame_steps import encode_ms, step_times
from being.bench.machine_speed import matmul_ms
from being.conventions import FEATURE_WINDOW, FPS
from being.inference.engine import Engine
from being.inference.feature_pool import DEFAULT_CAPACITY, LOOK_AHEAD_FRAMES, FeatureTrack
from being.inference.pose_path import pose_path
from being.inference.protocol import PendingFrames

BATCHES = (1, 8)
BATCHES_CUDA = (1, 8, 32)
WARM_UP_CALLS = 10
FEATURE_ROWS = 512
ENCODED_FRAMES = 50  # frames by which the mp4 encoding is timed
FRAME_RATES = (FPS, 30)  # for which the result says whether they are reached


def random_features(engine: Engine, rows: int = FEATURE_ROWS, seed: int = 0) -> torch.Tensor:
    """Random speech features [rows, 16, C] in host memory."""
    shape = (rows, FEATURE_WINDOW, engine.avatar.manifest["audio_width"])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def time_engine(
    engine: Engine, frames: int, batches: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """Latency by batch size, steps of a single frame, memory (JSON types); about `frames` frames
    for each.
    """
    cuda = engine.device.type == "cuda"
    features = random_features(engine)
    start = time.perf_counter()
    engine.render(features[:8], np.array([0]), np.array([0]))
    first_ms = (time.perf_counter() - start) * 1000
    sizes = batches or (BATCHES_CUDA if cuda else BATCHES)
    rows = [latency(engine, features, batch, frames) for batch in sizes]
    clock = "wall, from the call to the images in host memory"
    single_rate = rows[0]["frames_per_second"]
    return {
        **describe_setup(engine),
        "clock": f"{clock} (device: events)" if cuda else clock,
        "warm_up": WARM_UP_CALLS,
        "first_call_ms": round(first_ms, 2),
        "rows": rows,
        "split_ms": step_times(engine, features, frames),
        "encode_mp4_ms": round(encode_ms(engine, features[: min(frames, ENCODED_FRAMES)]), 3),
        **peak_memory(engine.device),
        "real_time": {f"{rate} frames/s": bool(single_rate >= rate) for rate in FRAME_RATES},
    }


def describe_setup(engine: Engine) -> dict[str, Any]:
    """Device, renderer, image size, network and speed of the machine."""
    config, bases = engine.avatar.model.network.config, engine.avatar.bases
    deformation = f"{config.d_model} wide, {config.n_layer} layers, heads {config.net_width}"
    if engine.deform == "bases" and bases is not None:
        deformation = f"none: {bases.count} bases"
    return {
        "device": device_name(engine.device),
        "torch": torch.__version__,
        "road": type(engine.renderer).__name__,
        "splat": engine.rasterizer,
        "precision": engine.precision,
        "size": engine.avatar.size,
        "gaussians": len(engine.avatar.model.gaussians),
        "sh_degree": config.sh_degree,
        "network": deformation,
        "threads": torch.get_num_threads(),
        "matmul_2048_ms": round(matmul_ms(), 2),
    }


def latency(engine: Engine, features: torch.Tensor, batch: int, frames: int) -> dict[str, Any]:
    """Times of calls of `batch` frames: each waited for, and pipelined with the next one submitted
    before.
    """
    calls = max(frames // batch, 8)
    engine.renderer.warm_up(batch)
    path = pose_path((2 * calls + WARM_UP_CALLS) * batch, engine.avatar.pose_count)
    engine.renderer.decode_plates(path)

    with engine.track(capacity=max(DEFAULT_CAPACITY, 4 * batch)) as track:

        def submit(call: int) -> PendingFrames:
            at = np.arange(batch) + call * batch
            _push_until(track, features, at[-1] + 1 + LOOK_AHEAD_FRAMES)
            return engine.submit(track.rows(at), path[at], engine.expression[path[at]])

        # Each call waited for.
        spent = []
        for call in range(calls + WARM_UP_CALLS):
            start = time.perf_counter()
            submit(call).images()
            if call >= WARM_UP_CALLS:
                spent.append((time.perf_counter() - start) * 1000)

        # Pipelined: the next call is submitted before the images of the last one are fetched.
        start = time.perf_counter()
        pending = submit(calls + WARM_UP_CALLS)
        for call in range(1, calls):
            following = submit(call + calls + WARM_UP_CALLS)
            pending.images()
            pending = following
        pending.images()
        pipelined_ms = (time.perf_counter() - start) * 1000 / (calls * batch)
    return {**summary(np.array(spent), batch), "flowing_ms_a_frame": round(pipelined_ms, 4)}


def _push_until(track: FeatureTrack, features: torch.Tensor, stop: int) -> None:
    """Push rows to the track, up to `stop` in all, from features that repeat."""
    while track.pushed < stop:
        first = track.pushed % len(features)
        track.push(features[first : first + stop - track.pushed])


def summary(times_ms: np.ndarray, batch: int) -> dict[str, Any]:
    """Figures of one batch size: ms a call of `batch` frames, frames/s from the mean."""
    figures = {
        "min_ms": times_ms.min(),
        "avg_ms": times_ms.mean(),
        "max_ms": times_ms.max(),
        "p50_ms": np.percentile(times_ms, 50),
        "p99_ms": np.percentile(times_ms, 99),
    }
    return {
        "batch": batch,
        "calls": len(times_ms),
        "frames_per_second": round(1000 * batch / times_ms.mean(), 2),
        **{name: round(float(value), 3) for name, value in figures.items()},
    }


def peak_memory(device: torch.device) -> dict[str, int]:
    """Peaks of memory so far, MiB."""
    peak = {"peak_host_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    if device.type == "cuda":
        peak["peak_device_mib"] = round(torch.cuda.max_memory_reserved(device) / 2**20)
    return peak


def memory_growth(engine: Engine, frames: int, batch: int = 8) -> dict[str, float]:
    """Memory in MiB now, and after `frames` more frames of one stream."""
    features = random_features(engine)

    def used_mib() -> tuple[float, float]:
        with open("/proc/self/statm") as file:
            host = int(file.read().split()[1]) * resource.getpagesize() / 2**20
        if engine.device.type != "cuda":
            return host, 0.0
        return host, torch.cuda.memory_reserved(engine.device) / 2**20

    def render(count: int) -> None:
        path = pose_path(count, engine.avatar.pose_count)
        with engine.track(capacity=max(DEFAULT_CAPACITY, 4 * batch)) as track:
            for start in range(0, count, batch):
                at = np.arange(start, min(start + batch, count))
                _push_until(track, features, at[-1] + 1 + LOOK_AHEAD_FRAMES)
                engine.submit(track.rows(at), path[at]).images()

    # First decode every plate and make every buffer.
    render(max(200, 2 * engine.avatar.pose_count))
    before = used_mib()
    start = time.perf_counter()
    render(frames)
    after = used_mib()
    return {
        "frames": frames,
        "seconds": round(time.perf_counter() - start, 2),
        "host_mib_before": round(before[0], 1),
        "host_mib_after": round(after[0], 1),
        "device_mib_before": round(before[1], 1),
        "device_mib_after": round(after[1], 1),
    }


def start_seconds(
    path: Path, device: torch.device, precision: str, deform: str = "network"
) -> tuple[Engine, dict[str, float]]:
    """A newly loaded engine, and the seconds until it was ready and until its first frame."""
    start = time.perf_counter()
    engine = Engine.load(path, device, precision, deform=deform)
    ready = time.perf_counter() - start
    engine.render(random_features(engine, 8), np.array([0]), np.array([0]))
    return engine, {
        "load_and_fold_s": round(ready, 3),
        "first_frame_s": round(time.perf_counter() - start, 3),
    }


def result_table(result: dict[str, Any]) -> str:
    """The result of `time_engine` as a table for the terminal."""
    lines = [
        f"{result['device']}, {result['road']} ({result['precision']}), "
        f"{result['size']}x{result['size']}, {result['gaussians']} Gaussians, "
        f"SH degree {result['sh_degree']}; 2048x2048 float32 matrix product "
        f"{result['matmul_2048_ms']} ms; clock: {result['clock']}",
        f"{'':>14}{'frames/s':>10}{'avg ms':>9}{'min ms':>9}{'max ms':>9}{'p50 ms':>9}"
        f"{'p99 ms':>9}{'ms a frame, pipelined':>24}",
    ]
    for row in result["rows"]:
        name = "single frame" if row["batch"] == 1 else f"batch of {row['batch']}"
        times = (row[f"{key}_ms"] for key in ("avg", "min", "max", "p50", "p99"))
        lines.append(
            f"{name:>14}{row['frames_per_second']:>10.1f}"
            + "".join(f"{value:>9.3f}" for value in times)
            + f"{row['flowing_ms_a_frame']:>24.3f}"
        )

    lines.append("steps of a single frame, median ms:")
    lines += [f"  {name:<22}{value:8.3f}" for name, value in result["split_ms"].items()]
    lines.append(f"  {'encode to mp4':<22}{result['encode_mp4_ms']:8.3f}")

    peak = f"peak memory {result['peak_host_mib']} MiB host"
    if "peak_device_mib" in result:
        peak += f", {result['peak_device_mib']} MiB device"
    lines.append(peak)
    reached = [f"{rate}: {'yes' if held else 'no'}" for rate, held in result["real_time"].items()]
    lines.append(f"real time, single frames: {', '.join(reached)}")
    return "\n".join(lines)


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            names = (line for line in file if line.startswith("model name"))
            model = next(names).split(":", 1)[1].strip()
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"
