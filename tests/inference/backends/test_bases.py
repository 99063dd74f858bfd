"""Frames by bases: the native renderer gives the torch renderer's, in each number format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_avatar import tiny_avatar
from tiny_bases import avatar_with_bases

from being.data.mouth import code_rows
from being.errors import InputRejected, UsageError
from being.inference.backends.cpu import head
from being.inference.backends.cpu.coefficients import CoefficientNet
from being.inference.backends.cpu.library import LIBRARIES, ONLY_BY_NAME, load
from being.inference.backends.cpu.renderer import NativeRenderer
from being.inference.backends.torch import TorchRenderer
from being.inference.engine import Engine
from being.inference.pruning import pruned
from being.model.avatar import Avatar
from being.model.bases import code_of

needs_native = pytest.mark.skipif(not head.status().startswith("OK"), reason="no native renderer")
CHANNELS = 3


def features(avatar: Avatar, frames: int = 6) -> torch.Tensor:
    """Rows of random mouth codes."""
    width = avatar.manifest["audio_width"]
    codes = np.random.default_rng(0).normal(0, 0.7, (frames, width)).astype(np.float32)
    return torch.from_numpy(code_rows(codes))


def images(engine: Engine) -> np.ndarray:
    return np.stack(list(engine.stream(features(engine.avatar), batch=3)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-12))


@needs_native
@pytest.mark.parametrize(
    ("degree", "count", "precision", "least"),
    [(3, 5, "float32", 60), (1, 4, "float32", 60), (0, 1, "auto", 45), (2, 7, "bfloat16", 45)],
)
def test_the_native_renderer_gives_the_torch_renderers_frames(
    tmp_path: Path, degree: int, count: int, precision: str, least: float
) -> None:
    avatar = avatar_with_bases(tmp_path, 75, 48, degree=degree, channels=CHANNELS, count=count)
    engine = Engine(avatar, precision, deform="bases")
    reference = Engine(avatar, renderer="torch", deform="bases")
    assert isinstance(engine.renderer, NativeRenderer)
    assert isinstance(reference.renderer, TorchRenderer)
    got, want = images(engine), images(reference)
    assert min(map(psnr, got, want)) >= least
    # The code is seen, and the network's frames are others.
    assert np.abs(want[0].astype(int) - want[1]).max() > 3
    network = images(Engine(avatar, renderer="torch"))
    assert max(map(psnr, network, want)) < 35


@needs_native
@pytest.mark.parametrize("library", [name for name, _ in LIBRARIES if name not in ONLY_BY_NAME])
def test_every_instruction_set_gives_the_same_frame(tmp_path: Path, library: str) -> None:
    if load(library)[0] is None:
        pytest.skip(f"{library} does not run here")
    avatar = avatar_with_bases(tmp_path, 75, 48, degree=3)
    bases = avatar.bases
    assert bases is not None
    coefficients = torch.randn(1, 1, bases.count, generator=torch.Generator().manual_seed(2))
    plates = torch.zeros(1, 48, 48, 3, dtype=torch.uint8)
    arguments = coefficients, avatar.world_to_camera[:1], plates
    got, want = (
        head.NativeHeadModel(
            avatar.model, avatar.focal, 48, 1, "bfloat16", name, bases=bases
        ).render(*arguments)
        for name in (library, None)
    )
    assert psnr(got.numpy(), want.numpy()) > 60


@needs_native
def test_key_frames_are_interpolated(tmp_path: Path) -> None:
    avatar = avatar_with_bases(tmp_path, 75, 48, degree=3)
    every = images(Engine(avatar, "float32", deform="bases"))
    engine = Engine(avatar, "float32", deform="bases", deform_every=2)
    between = np.stack(list(engine.stream(features(avatar), batch=3)))
    assert min(map(psnr, between[::2], every[::2])) > 50
    assert min(map(psnr, between[1::2], every[1::2])) < 45


def test_the_coefficient_net_in_numpy_gives_that_in_torch(tmp_path: Path) -> None:
    avatar = avatar_with_bases(tmp_path, channels=CHANNELS)
    engine = Engine(avatar, renderer="torch", deform="bases")
    assert isinstance(engine.renderer, TorchRenderer) and avatar.bases is not None
    with engine.track(features(avatar)) as track:
        poses = np.array([0, 3, 1])
        rows = track.rows(np.array([0, 4, 2]))
        conditions = engine.renderer.conditions(rows, poses, engine.expression[poses])
    net = CoefficientNet(avatar.bases, engine.camera)
    for factor in (1, 50):  # inputs beyond the limit too
        conditions.audio = factor * conditions.audio
        want = avatar.bases.coefficients_of(conditions).numpy()
        got = net.coefficients(code_of(conditions.audio).numpy(), engine.expression[poses], poses)
        assert np.abs(got - want).max() < 1e-5 * max(1, np.abs(want).max())


def test_pruning_keeps_the_bases_of_the_kept_gaussians(tmp_path: Path) -> None:
    avatar = avatar_with_bases(tmp_path, 75, 48)
    fewer = pruned(avatar, 0.6)
    assert fewer.bases is not None and avatar.bases is not None
    kept = (avatar.model.gaussians.means[:, None] == fewer.model.gaussians.means).all(-1).any(1)
    assert torch.equal(fewer.bases.basis, avatar.bases.basis[:, kept])
    assert torch.equal(fewer.bases.mean, avatar.bases.mean[kept])


def test_an_avatar_without_bases_is_refused(tmp_path: Path) -> None:
    avatar = tiny_avatar(tmp_path)
    with pytest.raises(InputRejected, match="has no bases"):
        Engine(avatar, deform="bases")
    with pytest.raises(UsageError, match="unknown deformation"):
        Engine(avatar, deform="magic")
