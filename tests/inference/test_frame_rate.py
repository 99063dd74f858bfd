"""Frames at 30, 50 and 60 a second lie between those at 25, at their true times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from placed_avatar import write_placed_avatar
from tiny_avatar import POSES

from being.inference.engine import Engine
from being.inference.frame_rate import ExpressionAtRate, FrameClock, at_frame_rate, loop_positions
from being.inference.look import Look
from being.inference.pose_path import pose_path
from being.model.avatar import load_avatar

FRAMES = 30


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_placed_avatar(tmp_path_factory.mktemp("placed") / "avatar")


def smooth_features(frames: int) -> torch.Tensor:
    """Features [F, 16, 6] that change little from frame to frame."""
    t = torch.arange(frames)[:, None, None] / 25
    return torch.sin(2 * t + torch.arange(16)[None, :, None] + torch.arange(6))


@pytest.mark.parametrize("fps, spacing, stride", [(25, 1, 1), (30, 6, 5), (50, 2, 1), (60, 12, 5)])
def test_each_frame_has_a_row_at_its_own_time(fps: int, spacing: int, stride: int) -> None:
    clock = FrameClock(fps)
    assert (clock.spacing, clock.stride) == (spacing, stride)
    assert clock.frames(25) == fps and clock.frames(1) == -(-fps // 25)
    rows = torch.arange(10.0)[:, None, None].expand(-1, 16, 6)
    found = clock.rows([rows[:3], rows[3:4], rows[4:4], rows[4:]])
    found = found if isinstance(found, torch.Tensor) else torch.cat(list(found))
    assert len(found) == 10 * spacing
    times = torch.arange(10 * spacing) / spacing
    assert torch.allclose(found[:, 0, 0], times.clamp(max=9)), "the last row is held"


@pytest.mark.parametrize("fps", [30, 50, 60])
def test_frames_at_common_times_are_those_at_25(bundle: Path, fps: int) -> None:
    """No two neighbours are equal, and each lies between its neighbours at 25."""
    features = smooth_features(FRAMES)
    usual = np.stack(list(Engine.load(bundle).video([features], FRAMES))).astype(int)
    engine = Engine.load(bundle, look=Look(fps=fps))
    found = np.stack(list(engine.video([features[:7], features[7:]], FRAMES))).astype(int)
    assert len(found) == FRAMES * fps // 25
    positions = loop_positions(POSES, fps)
    whole = np.abs(positions - positions.round()) < 1e-9  # the loop turns round at a pose
    assert whole[0]
    # Until the loop first turns round, which it does up to a frame apart.
    for k in range(len(positions)):
        if whole[k]:
            assert np.abs(found[k] - usual[round(positions[k])]).max() <= 2, k
    steps = np.abs(np.diff(found, axis=0)).mean((1, 2, 3))
    assert steps.min() > 0, "no picture is repeated"
    assert steps.mean() < 0.9 * np.abs(np.diff(usual, axis=0)).mean()


def test_cameras_between_two_poses_are_rotations_half_way(bundle: Path) -> None:
    avatar = load_avatar(bundle)
    found = at_frame_rate(avatar, 50)
    rotations = found.world_to_camera[:, :3, :3].double()
    one = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(rotations @ rotations.mT, one.expand_as(rotations), atol=1e-6)
    # The poses of the tiny avatar turn about one axis, in equal steps.
    steps = (rotations[1:] @ rotations[:-1].mT).diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(steps, steps[0], atol=1e-5)
    assert torch.allclose(found.world_to_camera[::2], avatar.world_to_camera, atol=1e-6)
    between = (avatar.expression[1:] + avatar.expression[:-1]) / 2
    assert torch.allclose(found.expression[1::2], between)
    plates = [found.plate(k).astype(int) for k in range(3)]
    assert np.abs(plates[1] - (plates[0] + plates[2]) / 2).max() <= 1


def test_the_expression_is_asked_for_once_a_frame_and_in_order() -> None:
    asked: list[np.ndarray] = []
    poses = np.arange(5, dtype=np.float32)[:, None]

    def source(pose_expression: np.ndarray) -> np.ndarray:
        asked.extend(pose_expression)
        count = len(asked)
        return np.arange(count - len(pose_expression), count, dtype=np.float32)[:, None]

    clock, frames = FrameClock(60), 20
    at_rate = ExpressionAtRate(source, clock, poses, frames)
    found = np.concatenate([at_rate(np.zeros((n, 1), np.float32)) for n in (1, 7, 8, 20, 12)])
    assert np.allclose(found[:, 0], np.minimum(np.arange(48) * 25 / 60, frames - 1))
    assert [int(value[0]) for value in asked] == pose_path(frames, 5).tolist()
