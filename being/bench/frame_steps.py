"""Measures the time of each step of one frame, for each renderer, and of mp4 encoding."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from being.inference.backends.cpu.renderer import NativeRenderer
from being.inference.backends.torch import TorchRenderer
from being.inference.engine import Engine
from being.inference.pose_path import pose_path
from being.media import VideoWriter
from being.splat.graph_capture import capture_graph

if TYPE_CHECKING:
    from being.inference.backends.cuda.renderer import CudaGraphRenderer

# A step is captured so many times in one graph, so that launching the graph hardly counts.
CAPTURES = 10
REPLAYS = 30
# Step -> the stages of the native code that it consists of.
NATIVE_STAGES = {
    "attention": ("fold", "attention", "feed-forward"),
    "heads": ("geometry heads", "colour head"),
    "rasterizer and composite": ("projection", "sort", "lists", "blend"),
}


# The same for bases, which have no attention.
BASES_STAGES = {
    "bases": NATIVE_STAGES["heads"],
    "rasterizer and composite": NATIVE_STAGES["rasterizer and composite"],
}


@torch.no_grad()
def step_times(engine: Engine, features: torch.Tensor, frames: int) -> dict[str, float]:
    """Median ms of each step of a single frame; the tri-plane is 0 where it is computed at load.

    features: speech features [F, 16, C]; frames: frames to time, at most.
    """
    renderer = engine.renderer
    if isinstance(renderer, TorchRenderer):
        return _torch_steps(engine, renderer, features, min(frames, 30))
    if isinstance(renderer, NativeRenderer):
        return _native_steps(engine, renderer, features, min(frames, 50))

    from being.inference.backends.cuda.renderer import CudaGraphRenderer  # needs Triton

    assert isinstance(renderer, CudaGraphRenderer), type(renderer).__name__
    return _cuda_steps(renderer)


def _torch_steps(
    engine: Engine, renderer: TorchRenderer, features: torch.Tensor, frames: int
) -> dict[str, float]:
    """Wall clock of the renderer's methods, waited for on the device."""
    network = engine.avatar.model.network
    spent: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *inputs: Any) -> Any:
        _synchronize(engine.device)
        start = time.perf_counter()
        value = work(*inputs)
        _synchronize(engine.device)
        spent.setdefault(name, []).append((time.perf_counter() - start) * 1000)
        return value

    def to_images(output: Any, poses: np.ndarray) -> np.ndarray:
        return renderer.composite(output, renderer.plate_images(poses))

    path = pose_path(frames, engine.avatar.pose_count)
    with engine.track(features[:100]) as track:
        for k in range(frames):
            poses = path[k : k + 1]
            rows = track.rows(np.array([k % 64]))
            conditions = renderer.conditions(rows, poses, engine.expression[poses])
            if engine.deform == "bases":
                tokens = timed("coefficients", renderer.tokens, conditions)
                timed("bases", renderer.deform, tokens)
            else:
                timed("audio net", network.speech_vector, conditions.audio)
                tokens = renderer.tokens(conditions)
                timed("tri-plane", network.queries, engine.avatar.model.gaussians.means)
                mixed = timed("attention", network.transformer, renderer.queries, tokens)
                timed("heads", network._decode, mixed[0])
            gaussians = renderer.activate(renderer.deform(tokens))
            output = timed("rasterizer", renderer.splat, gaussians, poses)
            timed("composite and copy", to_images, output, poses)
    return _medians(spent)


def _native_steps(
    engine: Engine, renderer: NativeRenderer, features: torch.Tensor, frames: int
) -> dict[str, float]:
    """Wall clock of the tokens; the native code measures its own stages."""
    spent: dict[str, list[float]] = {}
    path = pose_path(frames, engine.avatar.pose_count)
    by_bases = engine.deform == "bases"
    tokens = "coefficients" if by_bases else "audio net and tokens"
    with engine.track() as track:
        for k in range(frames):
            # The newest frame whose attention window is complete.
            start = time.perf_counter()
            track.push(features[k : k + 1])
            rows = track.rows(np.array([max(0, k - 3)]))
            poses = path[k : k + 1]
            renderer.tokens(rows, poses, engine.expression[poses])
            elapsed = (time.perf_counter() - start) * 1000
            spent.setdefault(tokens, []).append(elapsed)

            renderer.submit(rows, poses, engine.expression[poses])
            for name, stages in (BASES_STAGES if by_bases else NATIVE_STAGES).items():
                seconds = sum(renderer.native.times[stage] for stage in stages)
                spent.setdefault(name, []).append(seconds * 1000)
    return {**_medians(spent), "tri-plane": 0.0}


def _cuda_steps(renderer: CudaGraphRenderer) -> dict[str, float]:
    """Times by CUDA events: each step is captured CAPTURES times in a graph of its own."""
    from being.inference.backends.cuda.renderer import GraphSlot

    with renderer.on_stream():
        slot = GraphSlot(renderer, 1)
        batch = slot.batch
        batch.run()

        def copy_inputs() -> None:
            batch.inputs.copy_(batch.host_inputs, non_blocking=True)

        def copy_output() -> None:
            slot.host_output.copy_(batch.output, non_blocking=True)

        steps = [
            ("inputs to the device", copy_inputs),
            *batch.steps(),
            ("copy to host", copy_output),
        ]
        times = {name: _captured_ms(renderer, step) for name, step in steps}
        times["whole graph"] = 0.0 if slot.graph is None else _replay_ms(slot.graph.replay)
        batch.release_intermediates()
    return {**times, "tri-plane": 0.0}


def _captured_ms(renderer: CudaGraphRenderer, step: Callable[[], Any]) -> float:
    """Ms of a step; by the wall clock where Triton's interpreter runs it."""
    if not renderer.cuda:
        start = time.perf_counter()
        step()
        return round((time.perf_counter() - start) * 1000, 4)
    renderer.stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with capture_graph(graph):
        for _ in range(CAPTURES):
            step()
    return round(_replay_ms(graph.replay) / CAPTURES, 4)


def _replay_ms(replay: Callable[[], Any]) -> float:
    """Median ms of a replay, by CUDA events."""
    spent = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        replay()
        end.record()
        end.synchronize()
        spent.append(start.elapsed_time(end))
    return round(float(np.median(spent)), 4)


def encode_ms(engine: Engine, features: torch.Tensor) -> float:
    """Ms a frame of writing the frames of speech features [F, 16, C] to an mp4."""
    images = list(engine.stream(features))
    size = engine.avatar.size
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with VideoWriter(Path(folder) / "frames.mp4", size, size) as video:
            for image in images:
                video.write(image)
        return (time.perf_counter() - start) * 1000 / len(images)


def _medians(spent: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(float(np.median(values)), 3) for name, values in spent.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
