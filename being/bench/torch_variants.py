"""Engine variants for comparison: torch.compile, CUDA graph, ONNX, interpolated frames."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.bench.compared_frames import ComparedFrames, missing_row
from being.data.conditions import Conditions
from being.inference.backends.torch import TorchRenderer
from being.inference.engine import Engine
from being.interop.onnx import OFFSETS, export_onnx
from being.model.avatar import Avatar
from being.model.gaussiantalker import Offsets
from being.model.talking_head import TalkingHead
from being.onnx_runtime import load_onnxruntime
from being.splat import Cameras, PairCapacity, composite, rasterize

GRAPH_PAIRS = 2**22  # (Gaussian, tile) pairs of the CUDA graph's frame


def torch_engine(avatar: Avatar, precision: str = "float32") -> tuple[Engine, TorchRenderer]:
    """An engine that uses the torch renderer, and this renderer."""
    engine = Engine(avatar, precision, renderer="torch")
    assert isinstance(engine.renderer, TorchRenderer)
    return engine, engine.renderer


class _FrameInputs:
    """Network inputs and poses of single frames."""

    def __init__(
        self, frames: ComparedFrames, engine: Engine, renderer: TorchRenderer, rows: np.ndarray
    ):
        self.frames, self.engine, self.renderer, self.rows = frames, engine, renderer, rows

    def pose(self, k: int) -> np.ndarray:
        """Pose int64 [1] of frame k."""
        return self.frames.poses[k : k + 1]

    def conditions(self, k: int) -> Conditions:
        """Network inputs of frame k."""
        pose = self.pose(k)
        return self.renderer.conditions(self.rows[k : k + 1], pose, self.engine.expression[pose])


def compiled_row(frames: ComparedFrames, name: str) -> dict[str, Any]:
    """The row of the network compiled by torch.compile."""
    engine, renderer = torch_engine(frames.avatar)
    network = frames.avatar.model.network
    renderer.make_tokens = torch.compile(network.tokens)
    renderer.make_offsets = torch.compile(network.deform)
    start = time.perf_counter()
    frames.render(engine)
    note = f"{time.perf_counter() - start:.0f} s to compile"
    return frames.measure(name, lambda: frames.render(engine), note)


def cuda_graph_row(frames: ComparedFrames, name: str) -> dict[str, Any]:
    """The row of the torch renderer's frame as one CUDA graph, without the engine's kernels."""
    avatar = frames.avatar
    if avatar.world_to_camera.device.type != "cuda":
        return missing_row(name, "needs CUDA")
    from being.splat.cuda.graph_replay import capture_call  # needs Triton

    engine, renderer = torch_engine(avatar)
    with torch.no_grad(), frames.track(engine) as track:
        # Fixed inputs of the graph: conditions, camera, plate.
        inputs = _FrameInputs(frames, engine, renderer, track.rows(frames.numbers))
        fixed = inputs.conditions(0)
        matrix = avatar.world_to_camera[inputs.pose(0)].clone()
        plate = renderer.plate_images(inputs.pose(0)).clone()
        capacity = PairCapacity(GRAPH_PAIRS, engine.device)

        def draw() -> Tensor:
            gaussians = renderer.activate(renderer.deform(renderer.tokens(fixed)))
            cameras = Cameras(matrix, avatar.focal, avatar.size, avatar.size)
            output = rasterize(gaussians, cameras, capacity=capacity)
            image = composite(output, plate).clamp(0, 1).mul(255).add(0.5).byte()
            return image[0].permute(1, 2, 0).contiguous()

        graph, image = capture_call(draw)

        def render() -> np.ndarray:
            images = []
            for k in range(len(frames.numbers)):
                conditions, pose = inputs.conditions(k), inputs.pose(k)
                fixed.audio.copy_(conditions.audio)
                fixed.expression.copy_(conditions.expression)
                fixed.camera.copy_(conditions.camera)
                matrix.copy_(avatar.world_to_camera[pose])
                plate.copy_(renderer.plate_images(pose))
                graph.replay()
                images.append(image.cpu().numpy())
            return np.stack(images)

        row = frames.measure(name, render, "plates are copied to the device for every frame")
        capacity.check()
    return row


def onnx_row(frames: ComparedFrames, name: str, provider: str) -> dict[str, Any]:
    """The row of the network exported to ONNX, checked against torch, and run by onnxruntime.

    The other steps are those of the torch renderer. provider: an execution provider of onnxruntime.
    """
    onnxruntime = load_onnxruntime()

    device = frames.avatar.world_to_camera.device
    on_cpu = replace(frames.avatar, model=_cpu_copy(frames.avatar))
    with tempfile.TemporaryDirectory() as folder:
        # Export, and open the sessions.
        exported = export_onnx(on_cpu, Path(folder))
        difference = max(exported["difference"].values())
        note = f"exported, {difference:.0e} from torch by onnxruntime"
        if provider not in onnxruntime.get_available_providers():
            return missing_row(name, f"{note}; TensorRT is not installed: no engine built")
        providers = [provider]
        if provider.startswith("Tensorrt"):
            providers += ["CUDAExecutionProvider", "CPUExecutionProvider"]
        audio, deformation = (
            onnxruntime.InferenceSession(exported["files"][part], providers=providers)
            for part in ("audio", "deformation")
        )

        engine, renderer = torch_engine(frames.avatar)
        with torch.no_grad(), frames.track(engine) as track:
            inputs = _FrameInputs(frames, engine, renderer, track.rows(frames.numbers))

            def offsets(k: int) -> Offsets:
                conditions = inputs.conditions(k)
                names = ("audio", "expression", "camera")
                arrays = {key: getattr(conditions, key).cpu().numpy() for key in names}
                (tokens,) = audio.run(None, arrays)
                outputs = deformation.run(list(OFFSETS), {"tokens": tokens})
                parts = {
                    key: torch.from_numpy(part).to(device)
                    for key, part in zip(OFFSETS, outputs, strict=True)
                }
                return Offsets(**{**parts, "sh": parts["sh"].unflatten(-1, (-1, 3))})

            def render() -> np.ndarray:
                count = len(frames.numbers)
                images = [_draw(renderer, offsets(k), inputs.pose(k)) for k in range(count)]
                return np.concatenate(images)

            return frames.measure(name, render, note)


@torch.no_grad()
def interpolated_images(frames: ComparedFrames, every: int) -> np.ndarray:
    """Images uint8 [F, S, S, 3] of which only each `every`th frame is deformed; the offsets of the
    others are interpolated.
    """
    engine, renderer = torch_engine(frames.avatar)
    images = []
    with frames.track(engine) as track:
        inputs = _FrameInputs(frames, engine, renderer, track.rows(frames.numbers))

        def offsets(k: int) -> Offsets:
            return renderer.deform(renderer.tokens(inputs.conditions(k)))

        count = len(frames.numbers)
        before = offsets(0)
        for start in range(0, count, every):
            stop = min(start + every, count - 1)
            after = offsets(stop) if stop > start else before
            for k in range(start, min(start + every, count)):
                share = (k - start) / max(stop - start, 1)
                mixed = {
                    key: torch.lerp(getattr(before, key), getattr(after, key), share)
                    for key in OFFSETS
                }
                images.append(_draw(renderer, Offsets(**mixed), inputs.pose(k)))
            before = after
    return np.concatenate(images)


def _draw(renderer: TorchRenderer, offsets: Offsets, pose: np.ndarray) -> np.ndarray:
    """Image uint8 [1, S, S, 3] of a frame's offsets in a pose int64 [1]."""
    output = renderer.splat(renderer.activate(offsets), pose)
    return renderer.composite(output, renderer.plate_images(pose))


def _cpu_copy(avatar: Avatar) -> TalkingHead:
    """A copy of the model on the CPU."""
    state = {key: value.cpu() for key, value in avatar.model.state_dict().items()}
    network = avatar.model.network
    model = TalkingHead.from_state(network.config, network.audio_width, state)
    return model.eval().requires_grad_(False)
