"""Where the time of a frame goes, step by step."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.inference.backends.torch import PlainHead
from being.inference.engine import Engine
from being.inference.pose_path import pose_path
from being.splat.graph_capture import captured

REPEATED = 10  # times that a step is captured in one graph, so that launching it counts little
REPLAYS = 30
NATIVE = {
    "attention": ("fold", "attention", "feed-forward"),
    "heads": ("geometry heads", "colour head"),
    "rasterizer and composite": ("projection", "sort", "lists", "blend"),
}  # stages of the native code


@torch.no_grad()
def split(engine: Engine, features: torch.Tensor, frames: int) -> dict[str, float]:
    """Median ms of each step of a single frame. The tri-plane is 0 where it is folded at load."""
    head: Any = engine.head
    if isinstance(head, PlainHead):
        return _plain(engine, features, min(frames, 30))
    if hasattr(head, "native"):
        return _native(engine, features, min(frames, 50))
    return _graphed(engine)


def _plain(engine: Engine, features: torch.Tensor, frames: int) -> dict[str, float]:
    head: Any = engine.head
    network = engine.avatar.model.network
    spent: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *inputs: Any) -> Any:
        _wait(engine.device)
        start = time.perf_counter()
        value = work(*inputs)
        _wait(engine.device)
        spent.setdefault(name, []).append((time.perf_counter() - start) * 1000)
        return value

    path = pose_path(frames, engine.avatar.poses)
    with engine.sound(features[:100]) as sound:
        for k in range(frames):
            poses = path[k : k + 1]
            conditions = head.conditions(
                sound.rows(np.array([k % 64])), poses, engine.expression[poses]
            )
            timed("audio net", network.speech_vector, conditions.audio)
            tokens = head.tokens(conditions)
            timed("tri-plane", network.queries, engine.avatar.model.gaussians.means)
            mixed = timed("attention", network.transformer, head.queries, tokens)
            timed("heads", network._heads, mixed[0])
            gaussians = head.activate(head.deform(tokens))
            output = timed("rasterizer", head.splat, gaussians, poses)
            timed(
                "composite and copy",
                lambda output=output, poses=poses: head.pictures(output, head.behind(poses)),
            )
    return {name: round(float(np.median(values)), 3) for name, values in spent.items()}


def _native(engine: Engine, features: torch.Tensor, frames: int) -> dict[str, float]:
    head: Any = engine.head
    spent: dict[str, list[float]] = {}
    path = pose_path(frames, engine.avatar.poses)
    with engine.sound() as sound:
        for k in range(frames):
            start = time.perf_counter()
            sound.push(features[k : k + 1])
            head.tokens(
                sound.rows(np.array([max(0, k - 3)])),
                path[k : k + 1],
                engine.expression[path[k : k + 1]],
            )
            spent.setdefault("audio net and tokens", []).append(
                (time.perf_counter() - start) * 1000
            )
            head.submit(
                sound.rows(np.array([max(0, k - 3)])),
                path[k : k + 1],
                engine.expression[path[k : k + 1]],
            )
            for name, parts in NATIVE.items():
                spent.setdefault(name, []).append(
                    sum(head.native.times[part] for part in parts) * 1000
                )
    return {
        **{name: round(float(np.median(values)), 3) for name, values in spent.items()},
        "tri-plane": 0.0,
    }


def _graphed(engine: Engine) -> dict[str, float]:
    """By CUDA events: each step captured REPEATED times over in a graph of its own."""
    from being.inference.backends.cuda.renderer import Batch, Slot

    head: Any = engine.head
    with head.on_stream():
        slot = Slot(head, 1)
        batch: Batch = slot.batch
        batch.run()
        found = {
            "inputs to the device": _step_ms(
                head, lambda: batch.given.copy_(batch.host, non_blocking=True)
            )
        }
        for name, step in batch.steps():
            found[name] = _step_ms(head, step)
        found["copy to host"] = _step_ms(
            head, lambda: slot.host.copy_(batch.bytes, non_blocking=True)
        )
        found["whole graph"] = (
            _events_ms(head, slot.graph.replay) if slot.graph is not None else 0.0
        )
        batch.drop()
    return {**found, "tri-plane": 0.0}


def _step_ms(head: Any, step: Callable[[], Any]) -> float:
    if not head.cuda:
        start = time.perf_counter()
        step()
        return round((time.perf_counter() - start) * 1000, 4)
    head.stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with captured(graph):
        for _ in range(REPEATED):
            step()
    return round(_events_ms(head, graph.replay) / REPEATED, 4)


def _events_ms(head: Any, work: Callable[[], Any]) -> float:
    spent = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        spent.append(start.elapsed_time(end))
    return round(float(np.median(spent)), 4)


def encode_ms(engine: Engine, features: torch.Tensor) -> float:
    """Ms a frame of writing the frames of `features` [F, 16, C] to an mp4; 0 where PyAV is not
    installed.
    """
    try:
        from being.media import VideoWriter
    except ImportError:
        return 0.0
    pictures = list(engine.stream(features))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with VideoWriter(Path(folder) / "x.mp4", engine.avatar.size, engine.avatar.size) as video:
            for picture in pictures:
                video.write(picture)
        return (time.perf_counter() - start) * 1000 / len(pictures)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
