"""`being bench-fps --compare`: every road to speed on one avatar, with its frames/s and its PSNR
against plain float32.

All roads render the same frames one by one, from sound features in host memory to uint8 in host
memory; the PSNR is that of the worst frame. Roads that this machine lacks have a row that says so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.bench.avatars import random_avatar
from being.config import load
from being.inference.backends.cpu.renderer import CpuHead
from being.inference.backends.torch import PlainHead
from being.inference.engine import Engine
from being.inference.pose_path import pose_path
from being.inference.pruning import pruned
from being.interop.onnx import OFFSETS
from being.model.avatar import Avatar
from being.model.gaussiantalker import Offsets
from being.model.kernels import fused

TIMED = 5  # passes over the frames at most
LEAST_SECONDS = 1.0
BETWEEN = "the others between neighbours"


class Frames:
    """The frames that all roads render, and their plain float32 pictures."""

    def __init__(self, avatar: Avatar, features: Tensor):
        self.avatar, self.features = avatar, features
        self.at = np.arange(len(features))
        self.poses = pose_path(len(features), avatar.poses)
        self.true = self.render(Engine(avatar, "float32", plain=True))

    def render(self, engine: Engine) -> np.ndarray:
        """uint8 [F, S, S, 3], one frame a call."""
        with engine.sound(self.features, max(128, len(self.features))) as sound:
            rows = sound.rows(self.at)
            return np.concatenate(
                [
                    engine.submit(rows[k : k + 1], self.poses[k : k + 1]).pictures().copy()
                    for k in range(len(self.at))
                ]
            )

    def row(self, name: str, render: Callable[[], np.ndarray], note: str = "") -> dict[str, Any]:
        """A road's figures; `render` gives all frames."""
        pictures = render()  # warm-up
        spent: list[float] = []
        start = time.perf_counter()
        while len(spent) < TIMED and (not spent or time.perf_counter() - start < LEAST_SECONDS):
            begin = time.perf_counter()
            render()
            spent.append(time.perf_counter() - begin)
        comparable = pictures.shape == self.true.shape and not note.startswith("untrained")
        return {
            "road": name,
            "frames_per_second": round(len(self.at) / min(spent), 1),
            "psnr": round(psnr(pictures, self.true), 2) if comparable else None,
            "note": note,
        }


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of the worst frame, dB; 99 for equal ones."""
    error = ((one.astype(np.float32) - other) ** 2).mean((1, 2, 3)).max()
    return min(99.0, float(10 * np.log10(255**2 / max(error, 1e-9))))


def compare(
    avatar: Avatar,
    features: Tensor,
    shares: tuple[float, ...] = (0.5, 0.25),
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """One row a road for the frames of `features` [F, 16, C]."""
    frames = Frames(avatar, features)
    rows = []
    for name, road in roads(frames, shares):
        try:
            rows.append(road())
        except Exception as error:  # one road that fails does not take the others with it
            why = (str(error).splitlines() or [""])[0][:90]
            rows.append(
                {
                    "road": name,
                    "frames_per_second": None,
                    "psnr": None,
                    "note": f"{type(error).__name__}: {why}",
                }
            )
        say(line(rows[-1]))
    return rows


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    rate, quality = row["frames_per_second"], row["psnr"]
    figures = ("-" if rate is None else f"{rate:.1f}", "-" if quality is None else f"{quality:.2f}")
    return f"  {row['road']:<44}{figures[0]:>10}{figures[1]:>10}  {row['note']}"


def roads(
    frames: Frames, shares: tuple[float, ...]
) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every road by name."""
    avatar = frames.avatar
    cuda = avatar.world_to_camera.device.type == "cuda"

    def engine(
        name: str, made: Callable[[], Engine], note: str = ""
    ) -> tuple[str, Callable[[], dict[str, Any]]]:
        def run() -> dict[str, Any]:
            one = made()
            try:
                return frames.row(name, lambda: frames.render(one), note or type(one.head).__name__)
            finally:
                one.close()

        return name, run

    def plain(precision: str) -> Callable[[], Engine]:
        return lambda: Engine(avatar, precision, plain=True)

    found = [
        _without_kernels(
            "plain, eager, float32", engine("plain, eager, float32", plain("float32"))
        ),
        _without_kernels(
            "plain, eager, bfloat16", engine("plain, eager, bfloat16", plain("bfloat16"))
        ),
    ]
    if cuda:
        found += [
            _without_kernels(
                "plain, eager, float16", engine("plain, eager, float16", plain("float16"))
            ),
            engine("plain, the network's Triton kernels", plain("float32")),
        ]
    found += [
        _without_kernels(
            "plain, torch.compile", ("plain, torch.compile", lambda: _compiled(frames))
        ),
        ("plain, CUDA graph", lambda: _captured(frames)),
        ("ONNX Runtime for the network", lambda: _onnx(frames, "CPUExecutionProvider")),
        ("TensorRT for the network", lambda: _onnx(frames, "TensorrtExecutionProvider")),
    ]
    found += [
        engine(f"engine, {precision}", partial(Engine, avatar, precision))
        for precision in (("float32", "bfloat16", "float16") if cuda else ("float32", "bfloat16"))
    ]
    for share in shares:
        name = f"engine, {share:.0%} of the Gaussians"
        found.append(engine(name, partial(_pruned, avatar, share)))
    native = not cuda and isinstance(Engine(avatar).head, CpuHead)
    for every in (2, 3):
        name = f"{'engine' if native else 'plain'}, one frame of {every} deformed"
        found.append(
            (
                name,
                partial(_streamed, frames, every, name)
                if native
                else partial(frames.row, name, partial(_interpolated, frames, every), BETWEEN),
            )
        )
    found.append(
        engine(
            "engine, the network of configs/fast.yaml",
            lambda: Engine(_fast(avatar)),
            "untrained here: the speed only, as many Gaussians",
        )
    )
    return found


def _streamed(frames: Frames, every: int, name: str) -> dict[str, Any]:
    """The row of an engine that deforms only each `every`th frame."""
    engine = Engine(frames.avatar, deform_every=every)
    return frames.row(name, lambda: np.stack(list(engine.stream(frames.features, every))), BETWEEN)


def _pruned(avatar: Avatar, share: float) -> Engine:
    return Engine(pruned(avatar, share))


def _without_kernels(
    name: str, road: tuple[str, Callable[[], dict[str, Any]]]
) -> tuple[str, Callable[[], dict]]:
    """The road by torch's own operators."""

    def run() -> dict[str, Any]:
        usable = fused.usable
        fused.usable = lambda *_: False  # type: ignore[assignment]
        try:
            return road[1]()
        finally:
            fused.usable = usable

    return name, run


def _compiled(frames: Frames) -> dict[str, Any]:
    engine = Engine(frames.avatar, "float32", plain=True)
    network = frames.avatar.model.network
    engine.head.network = SimpleNamespace(
        tokens=torch.compile(network.tokens), deform=torch.compile(network.deform)
    )
    start = time.perf_counter()
    frames.render(engine)
    compiling = time.perf_counter() - start
    return frames.row(
        "plain, torch.compile", lambda: frames.render(engine), f"{compiling:.0f} s to compile"
    )


def _captured(frames: Frames) -> dict[str, Any]:
    """The plain model as one graph, without the engine's kernels."""
    name = "plain, CUDA graph"
    avatar = frames.avatar
    if avatar.world_to_camera.device.type != "cuda":
        return {"road": name, "frames_per_second": None, "psnr": None, "note": "needs CUDA"}
    from being.splat import Cameras, PairCapacity, composite, rasterize
    from being.splat.cuda.replay import capture

    engine = Engine(avatar, "float32", plain=True)
    head: PlainHead = engine.head
    with torch.no_grad(), engine.sound(frames.features, max(128, len(frames.at))) as sound:
        rows = sound.rows(frames.at)
        given = head.conditions(rows[:1], frames.poses[:1], engine.expression[frames.poses[:1]])
        matrix, behind = avatar.world_to_camera[:1].clone(), head.behind(frames.poses[:1]).clone()
        room = PairCapacity(2**22, engine.device)

        def draw() -> Tensor:
            gaussians = head.activate(head.deform(head.tokens(given)))
            output = rasterize(
                gaussians, Cameras(matrix, avatar.focal, avatar.size, avatar.size), room=room
            )
            return (
                composite(output, behind)
                .clamp(0, 1)
                .mul(255)
                .add(0.5)
                .byte()[0]
                .permute(1, 2, 0)
                .contiguous()
            )

        graph, picture = capture(draw)

        def render() -> np.ndarray:
            made = []
            for k in frames.at:
                pose = frames.poses[k : k + 1]
                fresh = head.conditions(rows[k : k + 1], pose, engine.expression[pose])
                for old, new in (
                    (given.audio, fresh.audio),
                    (given.expression, fresh.expression),
                    (given.camera, fresh.camera),
                    (matrix, avatar.world_to_camera[pose]),
                    (behind, head.behind(pose)),
                ):
                    old.copy_(new)
                graph.replay()
                made.append(picture.cpu().numpy())
            return np.stack(made)

        result = frames.row(name, render, "plates sent up every frame")
        room.check()
    return result


def _onnx(frames: Frames, provider: str) -> dict[str, Any]:
    """The network exported, checked against torch and run by onnxruntime; the rest as in the plain
    model.
    """
    import onnxruntime

    from being.interop.onnx import export_onnx

    name = (
        "TensorRT for the network"
        if provider.startswith("Tensorrt")
        else "ONNX Runtime for the network"
    )
    device = frames.avatar.world_to_camera.device
    on_cpu = replace(frames.avatar, model=_copied(frames.avatar))
    with tempfile.TemporaryDirectory() as folder:
        checked = export_onnx(on_cpu, Path(folder))
        agrees = f"exported, {max(checked['difference'].values()):.0e} from torch by onnxruntime"
        if provider not in onnxruntime.get_available_providers():
            return {
                "road": name,
                "frames_per_second": None,
                "psnr": None,
                "note": f"{agrees}; TensorRT is not installed: no engine built",
            }
        providers = (
            [provider, "CUDAExecutionProvider", "CPUExecutionProvider"]
            if provider[0] == "T"
            else [provider]
        )
        audio, deformation = (
            onnxruntime.InferenceSession(checked["files"][part], providers=providers)
            for part in ("audio", "deformation")
        )
        engine = Engine(frames.avatar, "float32", plain=True)
        head: PlainHead = engine.head
        with torch.no_grad(), engine.sound(frames.features, max(128, len(frames.at))) as sound:
            rows = sound.rows(frames.at)

            def render() -> np.ndarray:
                made = []
                for k in frames.at:
                    pose = frames.poses[k : k + 1]
                    given = head.conditions(rows[k : k + 1], pose, engine.expression[pose])
                    (tokens,) = audio.run(
                        None,
                        {
                            key: getattr(given, key).cpu().numpy()
                            for key in ("audio", "expression", "camera")
                        },
                    )
                    parts = {
                        key: torch.from_numpy(part).to(device)
                        for key, part in zip(
                            OFFSETS, deformation.run(list(OFFSETS), {"tokens": tokens}), strict=True
                        )
                    }
                    offsets = Offsets(**{**parts, "sh": parts["sh"].unflatten(-1, (-1, 3))})
                    made.append(
                        head.pictures(head.splat(head.activate(offsets), pose), head.behind(pose))
                    )
                return np.concatenate(made)

            return frames.row(name, render, agrees)


def _copied(avatar: Avatar) -> Any:
    """The model once more, on the CPU."""
    from being.model.talking_head import TalkingHead

    state = {key: value.cpu() for key, value in avatar.model.state_dict().items()}
    network = avatar.model.network
    return (
        TalkingHead.from_state(network.config, network.audio_width, state)
        .eval()
        .requires_grad_(False)
    )


@torch.no_grad()
def _interpolated(frames: Frames, every: int) -> np.ndarray:
    """Plain frames of which only each `every`th is deformed; between two, offsets are their mean by
    distance.
    """
    engine = Engine(frames.avatar, "float32", plain=True)
    head: PlainHead = engine.head
    made = []
    with engine.sound(frames.features, max(128, len(frames.at))) as sound:
        rows = sound.rows(frames.at)

        def offsets(k: int) -> Offsets:
            pose = frames.poses[k : k + 1]
            return head.deform(
                head.tokens(head.conditions(rows[k : k + 1], pose, engine.expression[pose]))
            )

        before = offsets(0)
        for start in range(0, len(frames.at), every):
            stop = min(start + every, len(frames.at) - 1)
            after = offsets(stop) if stop > start else before
            for k in range(start, min(start + every, len(frames.at))):
                share = (k - start) / max(stop - start, 1)
                mixed = Offsets(
                    **{
                        key: torch.lerp(getattr(before, key), getattr(after, key), share)
                        for key in OFFSETS
                    }
                )
                pose = frames.poses[k : k + 1]
                made.append(
                    head.pictures(head.splat(head.activate(mixed), pose), head.behind(pose))
                )
            before = after
    return np.concatenate(made)


def _fast(avatar: Avatar) -> Avatar:
    """As many Gaussians moved by an untrained network of configs/fast.yaml, over the avatar's poses
    and plates.
    """
    config = load("fast", []).model
    device = avatar.world_to_camera.device
    small = random_avatar(len(avatar.model.gaussians), avatar.size, device, config)
    from being.model.talking_head import TalkingHead

    old = avatar.model.network
    model = TalkingHead(config, old.audio_width, small.model.gaussians, old.expression_width)
    return replace(avatar, model=model.eval().requires_grad_(False).to(device))
