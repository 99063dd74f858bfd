"""The variants of `being bench-fps --compare`: frame rate and image quality of each renderer.

All variants render the same frames one by one, from speech features in host memory to uint8 in host
memory. The PSNR is that of the worst frame against the torch renderer in float32. A variant that
cannot run on this machine has a row that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from being.bench.avatars import random_avatar
from being.bench.compared_frames import UNTRAINED, ComparedFrames, missing_row
from being.bench.refined_frames import refined_row
from being.bench.torch_variants import (
    compiled_row,
    cuda_graph_row,
    interpolated_images,
    onnx_row,
    torch_engine,
)
from being.config import load
from being.inference.engine import Engine
from being.inference.protocol import KeyFrameRenderer
from being.inference.pruning import pruned
from being.model.avatar import Avatar
from being.model.kernels import fused
from being.model.talking_head import TalkingHead

INTERPOLATED = "the others are interpolated"
MAX_ERROR_TEXT = 90  # characters


@dataclass(frozen=True)
class Variant:
    """One way to render an avatar; `run` returns its row (JSON types)."""

    name: str
    run: Callable[[str], dict[str, Any]]  # called with the name


def compare(
    avatar: Avatar,
    features: Tensor,
    shares: tuple[float, ...] = (0.5, 0.25),
    show: Callable[[str], None] = lambda line: None,
    refine_model: Path | None = None,
) -> list[dict[str, Any]]:
    """A row (JSON types) for each variant, over the frames of speech features [F, 16, C].

    shares: of the Gaussians to which the avatar is pruned; show: is called with each row as text;
    refine_model: folder of a diffusion model, for the row of the engine with a refinement.
    """
    frames = ComparedFrames(avatar, features)
    rows = []
    for variant in (*all_variants(frames, shares), refined_variant(frames, refine_model)):
        try:
            row = variant.run(variant.name)
        except Exception as error:  # a variant that fails must not end the comparison
            reason = (str(error).splitlines() or [""])[0][:MAX_ERROR_TEXT]
            row = missing_row(variant.name, f"{type(error).__name__}: {reason}")
        rows.append(row)
        show(format_row(row))
    return rows


def format_row(row: dict[str, Any]) -> str:
    """A row as a line for the terminal."""
    rate, quality = row["frames_per_second"], row["psnr"]
    rate_text = "-" if rate is None else f"{rate:.1f}"
    quality_text = "-" if quality is None else f"{quality:.2f}"
    return f"  {row['road']:<44}{rate_text:>10}{quality_text:>10}  {row['note']}"


def all_variants(frames: ComparedFrames, shares: tuple[float, ...]) -> list[Variant]:
    """Every variant for the device of the avatar."""
    cuda = frames.avatar.world_to_camera.device.type == "cuda"
    return [
        *_eager_variants(frames, cuda),
        *_network_variants(frames),
        *_engine_variants(frames, shares, cuda),
        *_interpolation_variants(frames),
        _fast_variant(frames),
    ]


def _engine_variant(
    frames: ComparedFrames, name: str, make: Callable[[], Engine], note: str = ""
) -> Variant:
    """The variant that renders with the engine that `make` returns."""

    def run(name: str) -> dict[str, Any]:
        engine = make()
        try:
            renderer = type(engine.renderer).__name__
            return frames.measure(name, lambda: frames.render(engine), note or renderer)
        finally:
            engine.close()

    return Variant(name, run)


def _without_kernels(variant: Variant) -> Variant:
    """The same variant with torch's own operators in place of the Triton kernels."""

    def run(name: str) -> dict[str, Any]:
        usable = fused.usable
        fused.usable = lambda *_: False  # type: ignore[assignment]
        try:
            return variant.run(name)
        finally:
            fused.usable = usable

    return Variant(variant.name, run)


def _eager_variants(frames: ComparedFrames, cuda: bool) -> list[Variant]:
    """The torch renderer in each precision, and with the Triton kernels of the network."""

    def make(precision: str) -> Engine:
        return torch_engine(frames.avatar, precision)[0]

    precisions = ("float32", "bfloat16", "float16") if cuda else ("float32", "bfloat16")
    variants = []
    for precision in precisions:
        name = f"torch, eager, {precision}"
        variant = _engine_variant(frames, name, partial(make, precision))
        variants.append(_without_kernels(variant))
    if cuda:
        name = "torch, the network's Triton kernels"
        variants.append(_engine_variant(frames, name, partial(make, "float32")))
    return variants


def _network_variants(frames: ComparedFrames) -> list[Variant]:
    """torch.compile, a CUDA graph, and two runtimes of ONNX."""
    return [
        _without_kernels(Variant("torch, torch.compile", partial(compiled_row, frames))),
        Variant("torch, CUDA graph", partial(cuda_graph_row, frames)),
        Variant(
            "ONNX Runtime for the network",
            partial(onnx_row, frames, provider="CPUExecutionProvider"),
        ),
        Variant(
            "TensorRT for the network",
            partial(onnx_row, frames, provider="TensorrtExecutionProvider"),
        ),
    ]


def _engine_variants(
    frames: ComparedFrames, shares: tuple[float, ...], cuda: bool
) -> list[Variant]:
    """The engine in each precision, and with fewer Gaussians."""
    avatar = frames.avatar
    precisions = ("float32", "bfloat16", "float16") if cuda else ("float32", "bfloat16")
    variants = [
        _engine_variant(frames, f"engine, {precision}", partial(Engine, avatar, precision))
        for precision in precisions
    ]
    if avatar.bases is not None:
        name = f"engine, {avatar.bases.count} bases"
        variants.append(_engine_variant(frames, name, partial(Engine, avatar, deform="bases")))
    for share in shares:
        name = f"engine, {share:.0%} of the Gaussians"
        variants.append(_engine_variant(frames, name, partial(_pruned_engine, avatar, share)))
    return variants


def _pruned_engine(avatar: Avatar, share: float) -> Engine:
    return Engine(pruned(avatar, share))


def _interpolation_variants(frames: ComparedFrames) -> list[Variant]:
    """One frame of two or three deformed, by the engine where it can, or the torch renderer."""
    can_interpolate = isinstance(Engine(frames.avatar).renderer, KeyFrameRenderer)
    variants = []
    for every in (2, 3):
        renderer, row = "torch", _torch_interpolated_row
        if can_interpolate:
            renderer, row = "engine", _engine_interpolated_row
        name = f"{renderer}, one frame of {every} deformed"
        variants.append(Variant(name, partial(row, frames, every)))
    return variants


def _torch_interpolated_row(frames: ComparedFrames, every: int, name: str) -> dict[str, Any]:
    return frames.measure(name, lambda: interpolated_images(frames, every), INTERPOLATED)


def _engine_interpolated_row(frames: ComparedFrames, every: int, name: str) -> dict[str, Any]:
    engine = Engine(frames.avatar, deform_every=every)

    def render() -> np.ndarray:
        return np.stack(list(engine.stream(frames.features, every)))

    return frames.measure(name, render, INTERPOLATED)


def refined_variant(frames: ComparedFrames, model: Path | None) -> Variant:
    """The engine with a refinement of each frame by the diffusion model in the folder `model`."""
    return Variant("engine with refinement", partial(refined_row, frames, model))


def _fast_variant(frames: ComparedFrames) -> Variant:
    """The engine with the smaller network of configs/fast.yaml, untrained."""
    return _engine_variant(
        frames,
        "engine, the network of configs/fast.yaml",
        lambda: Engine(_with_fast_network(frames.avatar)),
        f"{UNTRAINED} here: only the speed counts, with as many Gaussians",
    )


def _with_fast_network(avatar: Avatar) -> Avatar:
    """As many Gaussians, moved by an untrained network of configs/fast.yaml, over the avatar's
    poses and plates.
    """
    config = load("fast", []).model
    device = avatar.world_to_camera.device
    small = random_avatar(len(avatar.model.gaussians), avatar.size, device, config)
    network = avatar.model.network
    model = TalkingHead(
        config, network.audio_width, small.model.gaussians, network.expression_width
    )
    return replace(avatar, model=model.eval().requires_grad_(False).to(device))
