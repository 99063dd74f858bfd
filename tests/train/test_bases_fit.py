"""Bases of an avatar's offsets: components, weights, colours, the net, the tuning, the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from program import being, refused
from tiny_avatar import tiny_avatar, write_tiny_avatar
from torch import Tensor

from being.bench.avatars import random_voice
from being.data.expression_channels import ExpressionChannels
from being.errors import InputRejected
from being.model.avatar import Avatar, load_avatar
from being.model.bases import BASIS_WIDTH, offsets_of
from being.train import avatar_bases, bases_fit, bases_tuning
from being.train.bases_fit import (
    NetworkOffsets,
    Pictures,
    fit_bases,
    measure_bases,
    picture_weights,
    principal_components,
)
from being.train.bases_tuning import tune_bases
from being.train.driven_frames import DrivenFrames, Frames, frames_of_bundle

SIZE, GAUSSIANS, CHANNELS = 32, 40, 3
QUICK = {"SVD_FRAMES": 64, "NET_FRAMES": 256, "REFERENCE_FRAMES": 16, "COUNTS": (2, 4, 8, 12)}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a second."""
    for name, value in {**QUICK, "VIEWS": 2, "MOST": 16, "MEASURED_PICTURES": 4}.items():
        monkeypatch.setattr(bases_fit, name, value)
    monkeypatch.setattr(bases_fit.fit_net, "__defaults__", (400,))


@pytest.fixture
def avatar(tmp_path: Path) -> Avatar:
    """An avatar that reads the mouth code, with harmonics of degree 2."""
    return tiny_avatar(tmp_path, GAUSSIANS, SIZE, degree=2, channels=CHANNELS, mouth="code")


def pictures_of(avatar: Avatar) -> Pictures:
    return Pictures(avatar.model, avatar.focal, avatar.size, torch.full((3, SIZE, SIZE), 0.5))


def driven(avatar: Avatar, count: int = 30) -> DrivenFrames:
    """Frames with random codes in the poses of the avatar."""
    rng = np.random.default_rng(0)
    width = avatar.manifest["audio_width"]

    def frames() -> Frames:
        pose = rng.integers(avatar.pose_count, size=count)
        return Frames.of(
            rng.normal(0, 0.5, (count, width)),
            rng.uniform(0, 1, (count, CHANNELS)),
            avatar.world_to_camera.numpy()[pose],
        )

    names = ("blink", "gaze_up", "smile")
    zero, one = (0.0,) * CHANNELS, (1.0,) * CHANNELS
    channels = ExpressionChannels(names, zero, one, zero, one)
    return DrivenFrames(frames(), frames(), channels, together=True)


def test_components_are_those_of_one_decomposition_of_all_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    size = 20
    low = torch.randn(100, 6, generator=generator) @ torch.randn(
        6, size * BASIS_WIDTH, generator=generator
    )
    rows = low + 3 + 0.01 * torch.randn(low.shape, generator=generator)
    places = torch.arange(100.0)[:, None]
    frames = Frames(places, places, places, places)
    weights = torch.ones(size, BASIS_WIDTH)

    def batches():
        yield from (frames[slice(k, k + 15)] for k in range(0, 100, 15))

    found = principal_components(
        lambda part: rows[part.code[:, 0].long()].clone(), batches(), weights, torch.zeros(size, 9)
    )
    assert torch.allclose(found.mean, rows.mean(0), atol=1e-4)
    _, values, vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert torch.allclose(found.deviations[:6], values[:6] / 99**0.5, rtol=1e-3)
    same = (found.rows[:6] @ vectors[:6].T).abs()
    assert torch.allclose(same, torch.eye(6), atol=2e-2)
    # The best coefficients have variance 1 and give the rows back.
    best = found.coefficients(rows, 6)
    assert torch.allclose(best.std(0), torch.ones(6), atol=1e-2)
    moved = torch.einsum("bk,knc->bnc", best, found.basis(6)).flatten(1)
    assert (found.mean_offset()[:, :BASIS_WIDTH].flatten() + moved - rows).abs().max() < 0.1


def test_weights_say_how_much_the_picture_changes(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their squares are the squared change of all pixels, by finite differences."""
    monkeypatch.setattr(bases_fit, "PROBES", 400)
    pictures, network = pictures_of(avatar), NetworkOffsets(avatar.model)
    frame = driven(avatar).known[slice(0, 1)]
    weights = picture_weights(pictures, network, frame, torch.Generator().manual_seed(0))
    assert weights.shape == (GAUSSIANS, BASIS_WIDTH) and (weights > 0).all()
    offsets = network(frame)
    step, ratios = 1e-3, []
    for gaussian in weights[:, 0].argsort(descending=True)[:4]:
        for column in (0, 1):
            ends = []
            for sign in (1, -1):
                means = offsets.means.clone()
                means[0, gaussian, column] += sign * step
                moved = dataclasses.replace(offsets, means=means)
                with torch.no_grad():
                    ends.append(pictures.render(moved, frame.world_to_camera))
            change = (ends[0] - ends[1]).square().sum().sqrt() / (2 * step)
            ratios.append(float(weights[gaussian, column] / change))
    assert 0.75 < np.mean(ratios) < 1.25, ratios


def test_columns_hold_the_colours_that_the_camera_sees(avatar: Avatar) -> None:
    """All columns of a frame, without any decomposition, give the network's picture."""
    pictures, network = pictures_of(avatar), NetworkOffsets(avatar.model)
    frames = driven(avatar).known[slice(0, 3)]
    rest = bases_fit._mean_of_harmonics(network, frames)
    weights = torch.rand(GAUSSIANS, BASIS_WIDTH) + 0.5
    columns = bases_fit._Columns(avatar.model, network, weights, rest)(frames)
    moved = columns.view(3, GAUSSIANS, BASIS_WIDTH) / weights
    mean = torch.cat([torch.zeros(GAUSSIANS, BASIS_WIDTH), rest], 1)
    with torch.no_grad():
        want = pictures.render(network(frames), frames.world_to_camera)
        got = pictures.render(offsets_of(mean, moved), frames.world_to_camera)
        plain = pictures.render(offsets_of(0 * mean, moved), frames.world_to_camera)
    assert (got - want).abs().max() < 1e-3
    assert (plain - want).abs().max() > 0.01, "the higher harmonics matter here"


def test_fitted_and_tuned_bases_give_the_networks_pictures(avatar: Avatar, quick: None) -> None:
    pictures, frames = pictures_of(avatar), driven(avatar)
    fitted = fit_bases(pictures, frames, count=12)
    rows = {row["count"]: row for row in fitted.table}
    assert list(rows) == [2, 4, 8, 12] and fitted.bases.count == 12
    assert rows[2]["variance"] < rows[4]["variance"] < rows[12]["variance"] <= 1
    assert rows[2]["psnr"] < rows[12]["psnr"]
    before = measure_bases(pictures, fitted.bases, frames.held_out)
    constant = fitted.bases.selected(torch.arange(GAUSSIANS))
    constant.basis.zero_()
    assert before > measure_bases(pictures, constant, frames.held_out) + 3
    again = fit_bases(pictures, frames, count=12).bases
    assert torch.allclose(again.basis, fitted.bases.basis, atol=1e-4)

    # The tuning makes up for bases that are too small.
    again.basis.mul_(0.5)
    spoiled = measure_bases(pictures, again, frames.held_out)
    tuned = tune_bases(again, pictures, frames, steps=40)
    assert spoiled < before and measure_bases(pictures, tuned, frames.held_out) > spoiled + 1


def test_the_fewest_good_bases_are_chosen(
    avatar: Avatar, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = fit_bases(pictures_of(avatar), driven(avatar)).table
    middle = table[2]["psnr"]
    monkeypatch.setattr(bases_fit, "ENOUGH_PSNR", middle)
    assert bases_fit._enough(table) == table[2]["count"]
    monkeypatch.setattr(bases_fit, "ENOUGH_PSNR", 99.0)
    assert bases_fit._enough(table) == table[-1]["count"]


def test_drawn_frames_mix_codes_faces_and_cameras(avatar: Avatar) -> None:
    frames = driven(avatar)
    drawn = frames.draw(400, torch.Generator().manual_seed(0))
    assert len(drawn) == 400 and torch.isfinite(drawn.inputs).all()

    def of_clip(values: Tensor, known: Tensor) -> Tensor:
        return (values[:, None] == known[None]).flatten(2).all(-1).any(1)

    own = of_clip(drawn.code, frames.known.code)
    assert 0.3 < own.float().mean() < 0.5, "frames of the clip as they are"
    kept = of_clip(drawn.camera, frames.known.camera)
    assert 0.3 < kept.float().mean() < 0.6
    rotation = drawn.world_to_camera[:, :3, :3]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(400), atol=1e-5)
    least = torch.tensor(frames.channels.least) - 1e-6
    most = torch.tensor(frames.channels.most) + 1e-6
    assert ((drawn.expression >= least) & (drawn.expression <= most)).all()
    assert not of_clip(drawn.expression, frames.known.expression).all()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_avatar(tmp_path / "avatar", "hama", 10, random_voice(10, 40))


def test_a_bundle_alone_gives_frames(bundle: Path) -> None:
    avatar = load_avatar(bundle)
    frames = frames_of_bundle(avatar)
    assert not frames.together and len(frames.known) >= 36 and len(frames.held_out) >= 1
    assert frames.known.code.shape[1] == avatar.manifest["audio_width"]
    drawn = frames.draw(50, torch.Generator().manual_seed(0))
    assert drawn.inputs.shape[1] == 16 + 1 + 12


def test_frames_of_the_clip_leave_the_mouth_to_the_code(
    avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = driven(avatar).known
    channels = driven(avatar).channels
    code, expression = frames.code.numpy(), frames.expression.numpy()
    monkeypatch.setattr(avatar_bases, "load_mouth_code", lambda _: SimpleNamespace(values=code))
    monkeypatch.setattr(avatar_bases, "load_expression", lambda *_: (channels, expression))
    dataset: Any = SimpleNamespace(world_to_camera=frames.world_to_camera.numpy())
    train, held_out = np.arange(20), np.arange(20, 30)
    found = avatar_bases.frames_of_clip(avatar, dataset, "full", train, held_out)
    assert found.together and len(found.known) == 20 and len(found.held_out) == 10
    assert (found.known.expression[:, 2] == 0).all(), "the smile belongs to the mouth"
    assert torch.equal(found.held_out.expression[:, :2], frames.expression[20:, :2])
    assert torch.equal(found.held_out.code, frames.code[20:])
    assert torch.equal(found.held_out.camera, frames.camera[20:])


def test_without_its_dataset_a_run_uses_the_frames_of_its_bundle(
    bundle: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar, lines = load_avatar(bundle), []
    monkeypatch.setattr(avatar_bases.console, "info", lines.append)
    assert not avatar_bases._driven_frames(run, avatar).together

    def gone(_: Path) -> None:
        raise InputRejected("there is no dataset")

    monkeypatch.setattr(avatar_bases.Dataset, "open", gone)
    assert not avatar_bases._driven_frames(run, avatar).together
    assert "was made again" in lines[0] and "there is no dataset" in lines[-1]
    assert lines[-1].startswith("the frames of the bundle are used")


def test_export_adds_bases_and_render_uses_them(
    bundle: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases_tuning, "STEPS", 3)
    monkeypatch.setattr(tune_bases, "__defaults__", (0, 3))
    refused(4, "has no bases", "bench-fps", bundle, "--deform", "bases", "--frames", 8)
    result = being("export", bundle, "--bases", "--bases-count", 4, "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["parts"] == ["bases"] and answer["bases"]["count"] == 4
    assert "4 bases: variance" in result.stderr and "<- chosen" in result.stderr
    avatar = load_avatar(bundle)
    assert avatar.bases is not None and avatar.bases.count == 4
    assert avatar.manifest["bases"]["table"] == answer["bases"]["table"]


def test_what_cannot_have_bases_is_refused(tmp_path: Path, bundle: Path) -> None:
    audio = write_tiny_avatar(tmp_path / "audio", "hama", 10)
    refused(4, "cannot have bases", "export", audio, "--bases")
    refused(2, "without --bases", "export", bundle, "--ply", "--bases-count", 4)
    refused(2, "unknown deformation", "bench-fps", bundle, "--deform", "magic", "--frames", 8)
