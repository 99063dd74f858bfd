"""`being bench-fps`: how fast an avatar renders here: latency, the split, first frame, memory, and
what was measured.

A whole frame is: a new row of sound features in host memory to uint8 RGB in host memory, with
tables and graphs made and the plates decoded (each is, once). Wall clock, from the call to the
picture; on CUDA the device's own time beside it, by events. Warm-up calls are not counted.
"""

from __future__ import annotations

import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.bench.frame_steps import encode_ms, split
from being.bench.machine_speed import matmul_ms
from being.conventions import FPS
from being.inference.engine import Engine
from being.inference.feature_pool import AHEAD
from being.inference.pose_path import pose_path
from being.splat import chosen_backend

BATCHES = (1, 8)
BATCHES_CUDA = (1, 8, 32)
WARM_UP = 10
FEATURE_ROWS = 512
ENCODED = 50  # frames, to time the encoder
RATES = (FPS, 30)


def features_of(engine: Engine, rows: int = FEATURE_ROWS, seed: int = 0) -> torch.Tensor:
    """Random sound features [rows, 16, C] in host memory."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 16, engine.avatar.manifest["audio_width"], generator=generator)


def bench(engine: Engine, frames: int, batches: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Latency of calls of each batch size, the split of a single frame, memory; about `frames`
    frames of each kind.
    """
    cuda = engine.device.type == "cuda"
    features = features_of(engine)
    start = time.perf_counter()
    engine.render(features[:8], np.array([0]), np.array([0]))
    first = (time.perf_counter() - start) * 1000
    rows = [
        latency(engine, features, batch, frames)
        for batch in batches or (BATCHES_CUDA if cuda else BATCHES)
    ]
    result: dict[str, Any] = {
        **scene(engine),
        "clock": "wall, from the call to the picture in host memory" + " (device: events)" * cuda,
        "warm_up": WARM_UP,
        "first_call_ms": round(first, 2),
        "rows": rows,
        "split_ms": split(engine, features, frames),
        "encode_mp4_ms": round(encode_ms(engine, features[: min(frames, ENCODED)]), 3),
        **memory(engine.device),
    }
    single = rows[0]["frames_per_second"]
    result["real_time"] = {f"{rate} frames/s": bool(single >= rate) for rate in RATES}
    return result


def scene(engine: Engine) -> dict[str, Any]:
    """What is rendered and by what."""
    config = engine.avatar.model.network.config
    return {
        "device": device_name(engine.device),
        "torch": torch.__version__,
        "road": type(engine.head).__name__,
        "splat": chosen_backend(engine.device),
        "precision": engine.precision,
        "size": engine.avatar.size,
        "gaussians": len(engine.avatar.model.gaussians),
        "sh_degree": config.sh_degree,
        "network": f"{config.d_model} wide, {config.n_layer} layers, heads {config.net_width}",
        "threads": torch.get_num_threads(),
        "matmul_2048_ms": round(matmul_ms(), 2),
    }


def latency(engine: Engine, features: torch.Tensor, batch: int, frames: int) -> dict[str, Any]:
    """Calls of `batch` frames one after the other, waited for; and the same with the next always
    under way.
    """
    calls = max(frames // batch, 8)
    engine.head.warm(batch)
    path = pose_path((2 * calls + WARM_UP) * batch, engine.avatar.poses)
    face = engine.expression
    engine.head.plates_of(path)
    spent = []
    with engine.sound(room=max(128, 4 * batch)) as sound:
        for k in range(calls + WARM_UP):
            at = np.arange(batch) + k * batch
            start = time.perf_counter()
            sound.push(_next(features, sound.pushed, at[-1] + 1 + AHEAD))
            engine.submit(sound.rows(at), path[at], face[path[at]]).pictures()
            if k >= WARM_UP:
                spent.append((time.perf_counter() - start) * 1000)
        start, waiting = time.perf_counter(), None
        for k in range(calls):
            at = np.arange(batch) + (k + calls + WARM_UP) * batch
            sound.push(_next(features, sound.pushed, at[-1] + 1 + AHEAD))
            ticket = engine.submit(sound.rows(at), path[at], face[path[at]])
            if waiting is not None:
                waiting.pictures()
            waiting = ticket
        assert waiting is not None
        waiting.pictures()
        flowing = (time.perf_counter() - start) * 1000 / (calls * batch)
    return {**summary(np.array(spent), batch), "flowing_ms_a_frame": round(flowing, 4)}


def _next(features: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Rows `start` to `stop` of features that repeat for ever."""
    first, rows = start % len(features), stop - start
    return (
        features[first : first + rows]
        if first + rows <= len(features)
        else torch.cat([features[first:], _next(features, 0, rows - (len(features) - first))])
    )


def summary(times_ms: np.ndarray, batch: int) -> dict[str, Any]:
    """Figures of one batch size: ms a call of `batch` frames, frames/s from the average."""
    return {
        "batch": batch,
        "calls": len(times_ms),
        "frames_per_second": round(1000 * batch / times_ms.mean(), 2),
        **{
            name: round(float(value), 3)
            for name, value in (
                ("min_ms", times_ms.min()),
                ("avg_ms", times_ms.mean()),
                ("max_ms", times_ms.max()),
                ("p50_ms", np.percentile(times_ms, 50)),
                ("p99_ms", np.percentile(times_ms, 99)),
            )
        },
    }


def memory(device: torch.device) -> dict[str, int]:
    """Peaks so far, MiB."""
    peak = {"peak_host_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    if device.type == "cuda":
        peak["peak_device_mib"] = round(torch.cuda.max_memory_reserved(device) / 2**20)
    return peak


def growth(engine: Engine, frames: int, batch: int = 8) -> dict[str, float]:
    """Memory now and after `frames` more frames of one stream, MiB."""
    features = features_of(engine)

    def used() -> tuple[float, float]:
        with open("/proc/self/statm") as file:
            host = int(file.read().split()[1]) * resource.getpagesize() / 2**20
        return host, torch.cuda.memory_reserved(
            engine.device
        ) / 2**20 if engine.device.type == "cuda" else 0.0

    def run(count: int) -> None:
        path = pose_path(count, engine.avatar.poses)
        with engine.sound(room=max(128, 4 * batch)) as sound:
            for start in range(0, count, batch):
                at = np.arange(start, min(start + batch, count))
                sound.push(_next(features, sound.pushed, at[-1] + 1 + AHEAD))
                engine.submit(sound.rows(at), path[at]).pictures()

    run(max(200, 2 * engine.avatar.poses))  # so that every plate is decoded and every buffer made
    before = used()
    start = time.perf_counter()
    run(frames)
    after = used()
    return {
        "frames": frames,
        "seconds": round(time.perf_counter() - start, 2),
        "host_mib_before": round(before[0], 1),
        "host_mib_after": round(after[0], 1),
        "device_mib_before": round(before[1], 1),
        "device_mib_after": round(after[1], 1),
    }


def start_seconds(
    path: Path, device: torch.device, precision: str
) -> tuple[Engine, dict[str, float]]:
    """An engine loaded again, and the seconds until it was ready and until its first picture."""
    start = time.perf_counter()
    engine = Engine.load(path, device, precision)
    ready = time.perf_counter() - start
    engine.render(features_of(engine, 8), np.array([0]), np.array([0]))
    return engine, {
        "load_and_fold_s": round(ready, 3),
        "first_frame_s": round(time.perf_counter() - start, 3),
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table for people."""
    lines = [
        f"{result['device']}, {result['road']} ({result['precision']}), {result['size']}x{result['size']}, "
        f"{result['gaussians']} Gaussians, SH degree {result['sh_degree']}; 2048x2048 float32 matrix product "
        f"{result['matmul_2048_ms']} ms; clock: {result['clock']}",
        f"{'':>14}{'frames/s':>10}{'avg ms':>9}{'min ms':>9}{'max ms':>9}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'ms a frame, next under way':>29}",
    ]
    for row in result["rows"]:
        name = "single frame" if row["batch"] == 1 else f"batch of {row['batch']}"
        lines.append(
            f"{name:>14}{row['frames_per_second']:>10.1f}{row['avg_ms']:>9.3f}{row['min_ms']:>9.3f}"
            f"{row['max_ms']:>9.3f}{row['p50_ms']:>9.3f}{row['p99_ms']:>9.3f}"
            f"{row['flowing_ms_a_frame']:>29.3f}"
        )
    lines += ["steps of a single frame, median ms:"]
    lines += [f"  {name:<22}{value:8.3f}" for name, value in result["split_ms"].items()]
    lines += [f"  {'encode to mp4':<22}{result['encode_mp4_ms']:8.3f}"]
    peak = f"peak memory {result['peak_host_mib']} MiB host"
    if "peak_device_mib" in result:
        peak += f", {result['peak_device_mib']} MiB device"
    lines.append(peak)
    if "start" in result:
        lines.append(
            "start: " + ", ".join(f"{name} {value}" for name, value in result["start"].items())
        )
    if "sessions" in result:
        lines.append(
            "sessions at 25 frames/s: "
            + ", ".join(f"{k} {v}" for k, v in result["sessions"].items())
        )
    verdict = ", ".join(
        f"{rate}: {'yes' if held else 'no'}" for rate, held in result["real_time"].items()
    )
    return "\n".join([*lines, f"real time, single frames: {verdict}"])


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            model = next(
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"
