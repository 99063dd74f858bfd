"""Expression channels: values from a dataset, hidden mouth channels, avatars and checkpoints."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scene import FRAMES, SIZE

from being.config import load
from being.data.clip import EYE_BOX_POINTS, load_clip
from being.data.dataset import Dataset
from being.data.expression_channels import (
    BLINK_ONLY,
    MOUTH_CHANNELS,
    ExpressionChannels,
    load_expression,
)
from being.errors import InputRejected, UsageError
from being.face.topology import BROWS
from being.files import write_json
from being.model.avatar import digest, load_avatar
from being.reading.structured import read_json
from being.train.training import train_avatar

UNITS = ("AU01", "AU04", "AU12", "AU26", "AU45")
GAZE_SHAPES = [
    f"eyeLook{direction}{side}"
    for direction in ("In", "Out", "Up", "Down")
    for side in ("Left", "Right")
]


@pytest.fixture(scope="module")
def lively(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene with five action units and a gaze.

    The eyes are closed in frames 20 and 21. Frame 30 has no face.
    """
    folder = tmp_path_factory.mktemp("lively") / "scene"
    shutil.copytree(scene, folder)
    random = np.random.default_rng(0)
    units = random.uniform(0, 3, (FRAMES, len(UNITS)))
    units[:, 0] = np.linspace(0, 4, FRAMES)
    units[:, 2] = 0.02  # a person who never smiles
    units[:, -1] = 0
    units[20:22, -1] = 2
    with open(folder / "au.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["frame", *(f" {name}_r" for name in UNITS)], *[[i, *u] for i, u in enumerate(units)]]
        )
    gaze = np.zeros((FRAMES, len(GAZE_SHAPES)), np.float32)
    right = 0.3 * np.sin(np.arange(FRAMES) / 3)
    for name in ("eyeLookOutLeft", "eyeLookInRight"):
        gaze[:, GAZE_SHAPES.index(name)] = np.maximum(right, 0)
    for name in ("eyeLookInLeft", "eyeLookOutRight"):
        gaze[:, GAZE_SHAPES.index(name)] = np.maximum(-right, 0)
    gaze[20:22] = 0.9  # wrong values while the eyes are closed
    with np.load(folder / "landmarks.npz") as data:
        np.savez(folder / "landmarks.npz", **data, blendshapes=gaze, names=np.array(GAZE_SHAPES))
    write_json(folder / "dataset.json", {**read_json(folder / "dataset.json"), "missing": [30]})
    return folder


def test_every_unit_and_the_gaze_are_channels_scaled_to_the_person(lively):
    channels, values = load_expression(Dataset.open(lively))
    assert channels.names == (
        "blink",
        "brow_inner_up",
        "brow_down",
        "gaze_right",
        "gaze_up",
        "smile",
        "jaw_open",
    )
    assert values.dtype == np.float32 and values.shape == (FRAMES, 7)
    assert values[20, 0] == 1 and values[0, 0] == 0
    brow, gaze, smile = (
        values[:, channels.names.index(name)] for name in ("brow_inner_up", "gaze_right", "smile")
    )
    assert np.median(np.delete(brow, 30)) == pytest.approx(0, abs=1e-6)
    assert np.percentile(brow, 99) == pytest.approx(1, abs=0.05) and (np.diff(brow) > 0).all()
    assert np.abs(gaze).max() <= 1.05 and gaze[5] > 0.8  # towards the image's right
    # Interpolated during the blink.
    assert np.abs(gaze[20:22]).max() <= np.abs(gaze[[19, 22]]).max() + 1e-6
    assert np.abs(smile).max() == 0  # a weak expression is not amplified
    k = channels.names.index("brow_inner_up")
    assert brow[9] * channels.scale[k] + channels.centre[k] == pytest.approx(
        4 * 9 / (FRAMES - 1), rel=1e-4
    )


def test_a_dataset_without_units_or_blendshapes_has_only_the_blink(scene):
    channels, values = load_expression(Dataset.open(scene))
    assert channels == BLINK_ONLY and values.shape == (FRAMES, 1)


@pytest.mark.parametrize("channel_set, largest", [("blink", 1), ("dummy", 0)])
def test_the_small_sets_have_one_channel(lively, channel_set, largest):
    channels, values = load_expression(Dataset.open(lively), channel_set)
    assert channels == BLINK_ONLY and values.shape == (FRAMES, 1)
    assert values.max() == largest


def test_unknown_sets_and_damaged_files_are_rejected(lively, tmp_path):
    with pytest.raises(UsageError, match="unknown set of expression channels 'lots'"):
        load_expression(Dataset.open(lively), "lots")
    copy = tmp_path / "scene"
    shutil.copytree(lively, copy)
    with np.load(copy / "landmarks.npz") as data:
        np.savez(copy / "landmarks.npz", **{**data, "blendshapes": data["blendshapes"][:5]})
    with pytest.raises(InputRejected, match="blendshapes are"):
        load_expression(Dataset.open(copy))
    (copy / "landmarks.npz").write_bytes(b"no zip")
    with pytest.raises(InputRejected, match="cannot be read"):
        load_expression(Dataset.open(copy))


def test_mouth_channels_are_zero_except_in_the_requested_share_of_frames(lively):
    clip = load_clip(Dataset.open(lively), SIZE, "hama")
    mouth = [name in MOUTH_CHANNELS for name in clip.channels.names]
    assert clip.mouth_channels.tolist() == mouth and any(mouth) and not mouth[0]
    index = torch.arange(FRAMES).repeat(100)
    hidden = clip.conditions(index).expression
    assert not hidden[:, clip.mouth_channels].any()
    assert torch.equal(
        hidden[:, ~clip.mouth_channels], clip.expression[index][:, ~clip.mouth_channels]
    )
    torch.manual_seed(0)
    shown = clip.conditions(index, 0.25).expression
    assert torch.equal(shown[:, ~clip.mouth_channels], hidden[:, ~clip.mouth_channels])
    true = (shown == clip.expression[index]).all(1)
    assert ((shown[:, clip.mouth_channels] == 0).all(1) | true).all()  # all of them or none
    assert float(true.float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.manual_seed(0)
    assert torch.equal(clip.conditions(index, 0.25).expression, shown)
    assert torch.equal(clip.conditions(index, 1.0).expression, clip.expression[index])


def test_the_box_of_the_brows_holds_them_above_the_eyes(lively):
    dataset = Dataset.open(lively)
    clip = load_clip(dataset, SIZE, "hama")
    for points, boxes in ((BROWS, clip.brows), (EYE_BOX_POINTS, clip.eyes)):
        top, bottom, left, right = boxes.unbind(1)
        middle = torch.from_numpy(dataset.landmarks[:, points, :2].mean(1))
        assert (
            (left <= middle[:, 0])
            & (middle[:, 0] < right)
            & (top <= middle[:, 1])
            & (middle[:, 1] < bottom)
        ).all()


@pytest.fixture(scope="module")
def trained(lively: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    few = [
        "data.size=48",
        "data.initial_gaussians=60",
        "train.coarse.steps=2",
        "train.fine.steps=3",
        "train.fine.batch=2",
        "train.lips.warmup_steps=2",
        "train.preview_seconds=0",
        "train.loss.feature=0",
        "model.plane_resolution=8",
        "model.mouth=audio",
    ]
    return train_avatar(
        lively,
        load("quick", few, environment={}),
        runs=tmp_path_factory.mktemp("runs"),
        device="cpu",
    ).path


def test_the_avatar_carries_its_channels_and_its_poses_expression(trained, lively):
    avatar = load_avatar(trained)
    channels, values = load_expression(Dataset.open(lively))
    assert avatar.channels == channels and avatar.model.network.expression_width == len(channels)
    poses = Dataset.open(lively).longest_face_run(10_000)
    expected = np.where(channels.is_mouth, 0, values[poses.start : poses.stop])
    assert np.array_equal(avatar.expression.numpy(), expected)


def test_bundles_with_only_the_blink_are_still_read(trained, tmp_path):
    """Bundles of schema 1 hold `blink` and no channels."""
    old = tmp_path / "avatar"
    shutil.copytree(trained / "avatar", old)
    model, poses = load_file(old / "model.safetensors"), load_file(old / "poses.safetensors")
    del model["network.expression_lift.weight"]
    save_file(model, old / "model.safetensors")
    blink = poses.pop("expression")[:, :1].contiguous()
    save_file({**poses, "blink": blink}, old / "poses.safetensors")
    manifest = read_json(old / "manifest.json")
    del manifest["expression"]
    for name in ("model.safetensors", "poses.safetensors"):
        manifest["files"][name] = digest((old / name).read_bytes())
    write_json(old / "manifest.json", {**manifest, "schema": 1})
    avatar = load_avatar(old)
    assert avatar.channels == BLINK_ONLY and torch.equal(avatar.expression, blink)
    now = load_avatar(trained).model.network
    resting = torch.nn.functional.pad(blink, (0, now.expression_width - 1))
    assert torch.equal(avatar.model.network.expression_token(blink), now.expression_token(resting))


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["smile", "blink"]},
        {"names": ["blink", "blink"]},
        {"scale": [2.0, 0.0]},
        {"least": [0.0]},
        {"most": [1.0, float("nan")]},
        {"centre": ["a", "b"]},
        {"more": []},
    ],
)
def test_invalid_channels_are_rejected(trained, tmp_path, change):
    good = {
        "names": ["blink", "smile"],
        "centre": [0.0, 0.1],
        "scale": [2.0, 1.0],
        "least": [0.0, 0.0],
        "most": [1.0, 1.0],
    }
    assert ExpressionChannels.from_dict(json.loads(json.dumps(good))).to_dict() == good
    with pytest.raises(ValueError):
        ExpressionChannels.from_dict({**good, **change})
    spoilt = tmp_path / "avatar"
    shutil.copytree(trained / "avatar", spoilt)
    write_json(
        spoilt / "manifest.json",
        {**read_json(spoilt / "manifest.json"), "expression": {**good, **change}},
    )
    with pytest.raises(InputRejected):
        load_avatar(spoilt)


def test_a_checkpoint_of_other_channels_is_rejected(trained, lively, tmp_path):
    from being.runs.run_directory import Run

    run = tmp_path / "runs/scene" / trained.name
    shutil.copytree(trained, run)
    other = tmp_path / "scene"
    shutil.copytree(lively, other)
    with open(other / "au.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["frame", " AU12_r", " AU45_r"], *[[i, 1.0, 0.0] for i in range(FRAMES)]]
        )
    with pytest.raises(InputRejected, match="the checkpoint has 7 expression channels"):
        train_avatar(other, Run.open(run).config, run=run, device="cpu")
