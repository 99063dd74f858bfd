"""The channels of the expression token: read from what a dataset has, the mouth's hidden from most
frames, carried by the avatar; what knows the blink alone goes on as it was."""

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
from being.data.clip import BROWS, EYES, load_clip
from being.data.dataset import Dataset
from being.data.expression_channels import BLINK_ALONE, MOUTH, Channels, expression
from being.errors import InputRejected, UsageError
from being.files import read_json, write_json
from being.model.avatar import digest, load_avatar
from being.splat import RenderOutput
from being.train.blink_oversampling import eyes_alone, with_blinks
from being.train.training import train

UNITS = ("AU01", "AU04", "AU12", "AU26", "AU45")
LOOKS = [f"eyeLook{way}{side}" for way in ("In", "Out", "Up", "Down") for side in ("Left", "Right")]


@pytest.fixture(scope="module")
def lively(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene with five action units and a gaze; the eyes are shut in frames 20 and 21, frame 30
    has no face.
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
    looks = np.zeros((FRAMES, len(LOOKS)), np.float32)
    right = 0.3 * np.sin(np.arange(FRAMES) / 3)
    looks[:, LOOKS.index("eyeLookOutLeft")] = looks[:, LOOKS.index("eyeLookInRight")] = np.maximum(
        right, 0
    )
    looks[:, LOOKS.index("eyeLookInLeft")] = looks[:, LOOKS.index("eyeLookOutRight")] = np.maximum(
        -right, 0
    )
    looks[20:22] = 0.9  # nonsense while the eyes are shut
    with np.load(folder / "landmarks.npz") as data:
        np.savez(folder / "landmarks.npz", **data, blendshapes=looks, names=np.array(LOOKS))
    write_json(folder / "dataset.json", {**read_json(folder / "dataset.json"), "missing": [30]})
    return folder


def test_every_unit_and_the_gaze_are_channels_in_the_persons_own_measure(lively):
    channels, values = expression(Dataset.open(lively))
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
    assert (
        np.median(np.delete(brow, 30)) == pytest.approx(0, abs=1e-6)
        and np.percentile(brow, 99) == pytest.approx(1, abs=0.05)
        and (np.diff(brow) > 0).all()
    )
    assert np.abs(gaze).max() <= 1.05 and gaze[5] > 0.8  # towards the picture's right
    assert (
        np.abs(gaze[20:22]).max() <= np.abs(gaze[[19, 22]]).max() + 1e-6
    )  # bridged over the blink
    assert np.abs(smile).max() == 0  # not blown up
    k = channels.names.index("brow_inner_up")
    assert brow[9] * channels.scale[k] + channels.centre[k] == pytest.approx(
        4 * 9 / (FRAMES - 1), rel=1e-4
    )


def test_a_dataset_without_units_or_shapes_has_the_blink_alone(scene):
    channels, values = expression(Dataset.open(scene))
    assert channels == BLINK_ALONE and values.shape == (FRAMES, 1)


@pytest.mark.parametrize("kind", ["blink", "dummy"])
def test_lesser_kinds_have_one_channel(lively, kind):
    channels, values = expression(Dataset.open(lively), kind)
    assert (
        channels == BLINK_ALONE
        and values.shape == (FRAMES, 1)
        and values.max() == (1 if kind == "blink" else 0)
    )


def test_bad_kinds_and_files_are_refused(lively, tmp_path):
    with pytest.raises(UsageError, match="unknown kind of expression 'lots'"):
        expression(Dataset.open(lively), "lots")
    copy = tmp_path / "scene"
    shutil.copytree(lively, copy)
    with np.load(copy / "landmarks.npz") as data:
        np.savez(copy / "landmarks.npz", **{**data, "blendshapes": data["blendshapes"][:5]})
    with pytest.raises(InputRejected, match="blendshapes are"):
        expression(Dataset.open(copy))
    (copy / "landmarks.npz").write_bytes(b"no zip")
    with pytest.raises(InputRejected, match="cannot be read"):
        expression(Dataset.open(copy))


def test_the_mouth_is_neutral_unless_told_and_told_as_often_as_asked(lively):
    clip = load_clip(Dataset.open(lively), SIZE, "hama")
    mouth = [name in MOUTH for name in clip.channels.names]
    assert clip.mouth.tolist() == mouth and any(mouth) and not mouth[0]
    index = torch.arange(FRAMES).repeat(100)
    at_rest = clip.conditions(index).expression
    assert not at_rest[:, clip.mouth].any()
    assert torch.equal(at_rest[:, ~clip.mouth], clip.expression[index][:, ~clip.mouth])
    torch.manual_seed(0)
    told = clip.conditions(index, 0.25).expression
    assert torch.equal(told[:, ~clip.mouth], at_rest[:, ~clip.mouth])
    true = (told == clip.expression[index]).all(1)
    assert ((told[:, clip.mouth] == 0).all(1) | true).all()  # all of them or none
    assert float(true.float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.manual_seed(0)
    assert torch.equal(clip.conditions(index, 0.25).expression, told)
    assert torch.equal(clip.conditions(index, 1.0).expression, clip.expression[index])


def test_the_box_of_the_brows_holds_them_above_the_eyes(lively):
    dataset = Dataset.open(lively)
    clip = load_clip(dataset, SIZE, "hama")
    for points, boxes in ((BROWS, clip.brows), (EYES, clip.eyes)):
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
        "data.gaussians=60",
        "train.coarse.steps=2",
        "train.fine.steps=3",
        "train.fine.batch=2",
        "train.audio_warmup=2",
        "train.preview_seconds=0",
        "train.loss.feature=0",
        "model.plane_resolution=8",
    ]
    return train(
        lively,
        load("quick", few, environment={}),
        runs=tmp_path_factory.mktemp("runs"),
        device="cpu",
    ).path


def test_the_avatar_carries_its_channels_and_its_poses_expression(trained, lively):
    avatar = load_avatar(trained)
    channels, values = expression(Dataset.open(lively))
    assert avatar.channels == channels and avatar.model.network.expression_width == len(channels)
    poses = Dataset.open(lively).longest_stretch(10_000)
    expected = np.where(channels.mouth, 0, values[poses.start : poses.stop])
    assert np.array_equal(avatar.expression.numpy(), expected)


def test_bundles_that_know_the_blink_alone_are_still_read(trained, tmp_path):
    """As the version before wrote them: schema 1, `blink`, no channels."""
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
    assert avatar.channels == BLINK_ALONE and torch.equal(avatar.expression, blink)
    now = load_avatar(trained).model.network
    resting = torch.nn.functional.pad(blink, (0, now.expression_width - 1))
    assert torch.equal(avatar.model.network.face(blink), now.face(resting))


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
def test_channels_that_cannot_be_are_refused(trained, tmp_path, change):
    good = {
        "names": ["blink", "smile"],
        "centre": [0.0, 0.1],
        "scale": [2.0, 1.0],
        "least": [0.0, 0.0],
        "most": [1.0, 1.0],
    }
    assert Channels.from_dict(json.loads(json.dumps(good))).to_dict() == good
    with pytest.raises(ValueError):
        Channels.from_dict({**good, **change})
    spoilt = tmp_path / "avatar"
    shutil.copytree(trained / "avatar", spoilt)
    write_json(
        spoilt / "manifest.json",
        {**read_json(spoilt / "manifest.json"), "expression": {**good, **change}},
    )
    with pytest.raises(InputRejected):
        load_avatar(spoilt)


def test_a_checkpoint_of_other_channels_is_refused(trained, lively, tmp_path):
    from being.runs.run_directory import Run

    run = tmp_path / "runs/scene" / trained.name
    shutil.copytree(trained, run)
    other = tmp_path / "scene"
    shutil.copytree(lively, other)
    with open(other / "au.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["frame", " AU12_r", " AU45_r"], *[[i, 1.0, 0.0] for i in range(FRAMES)]]
        )
    with pytest.raises(InputRejected, match="the checkpoint knows 7 channels of expression"):
        train(other, Run.open(run).config, run=run, device="cpu")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_frames_whose_eyes_close_are_sampled_more_often_and_none_less(share):
    frames, blink = np.arange(100, 400), np.zeros(300)
    blink[[7, 8, 200]] = 0.5, 1.0, 0.3
    often, copies = with_blinks(frames, blink, share)
    assert np.array_equal(often[:300], frames) and np.array_equal(
        np.flatnonzero(copies), np.arange(300, len(often))
    )
    closing = np.isin(often, [107, 108, 300])
    assert closing.mean() == pytest.approx(max(share, 0.01), abs=0.01)
    assert len(set(np.unique(often[closing], return_counts=True)[1])) == 1
    for nothing_rare in (np.zeros(300), np.ones(300)):
        same, copies = with_blinks(frames, nothing_rare, share)
        assert np.array_equal(same, frames) and not copies.any()


def test_a_copy_of_a_blinking_frame_teaches_the_eyes_alone():
    torch.manual_seed(0)
    rgb, alpha = (
        torch.rand(3, 3, 12, 10, requires_grad=True),
        torch.rand(3, 1, 12, 10, requires_grad=True),
    )
    boxes = torch.tensor([[2, 5, 1, 9], [3, 6, -2, 4], [0, 0, 0, 0]])
    output = RenderOutput(
        rgb, alpha, torch.zeros(3, 1, 12, 10), torch.zeros(3, 4, dtype=torch.int32)
    )
    shown = eyes_alone(output, boxes, torch.tensor([False, True, True]))
    assert torch.equal(shown.rgb, rgb) and torch.equal(shown.alpha, alpha)
    (shown.rgb.sum() + shown.alpha.sum()).backward()
    wanted = torch.zeros(3, 1, 12, 10)
    wanted[0], wanted[1, :, 3:6, :4] = 1, 1
    assert torch.equal(alpha.grad, wanted) and torch.equal(rgb.grad, wanted.expand_as(rgb))
