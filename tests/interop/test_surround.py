"""Mattes and source frames are added to the avatar of a run, from its own dataset and video."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import being, refused
from scene import FRAMES, SIZE

from being.media import VideoSettings, VideoWriter
from being.model.avatar import load_avatar

WIDTH, HEIGHT, CROP = 120, 160, [30, 40, SIZE]


def picture(dataset: Path, number: int) -> np.ndarray:
    return np.asarray(Image.open(dataset / f"ori_imgs/{number}.jpg"))


def source_video(path: Path, dataset: Path) -> Path:
    """A larger picture in which the dataset's square lies."""
    rng = np.random.default_rng(0)
    wall = np.repeat(np.repeat(rng.integers(60, 200, (20, 15, 3)), 8, 0), 8, 1).astype(np.uint8)
    with VideoWriter(path, WIDTH, HEIGHT, settings=VideoSettings(crf=5)) as video:
        for k in range(FRAMES):
            frame = wall.copy()
            left, top, side = CROP
            frame[top : top + side, left : left + side] = picture(dataset, k)
            video.write(frame)
    return path


@pytest.fixture
def placed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run in a home of its own, whose dataset was cut from a larger video."""
    home = shutil.copytree(run.parents[2], tmp_path / "home")
    monkeypatch.setenv("BEING_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    video = source_video(tmp_path / "me.mp4", home / "data/scene")
    facts = {
        "file": "me.mp4",
        "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
        "crop": CROP,
        "frames": [[0, FRAMES]],
    }
    manifest = json.loads((home / "data/scene/dataset.json").read_text())
    (home / "data/scene/dataset.json").write_text(json.dumps({**manifest, "source": facts}))
    return home / "runs/scene" / run.name


def test_parts_are_added_from_the_given_video(placed: Path) -> None:
    refused(4, "does not hold its source video", "export", placed, "--surround")
    Path("other.mp4").write_bytes(Path("me.mp4").read_bytes() + b"0")
    refused(4, "is not the video", "export", placed, "--surround", "--source", "other.mp4")
    before = load_avatar(placed)
    assert before.surround is None

    result = being("export", placed, "--surround", "--source", "me.mp4", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["parts"] == ["matte", "surround"]
    after = load_avatar(placed)
    assert after.plates == before.plates and after.surround is not None
    assert after.surround.crop == (30, 40, SIZE)
    frame = after.surround.open()[3].astype(int)
    inside = frame[40 : 40 + SIZE, 30 : 30 + SIZE]
    known = picture(placed.parents[2] / "data/scene", 3).astype(int)
    assert np.abs(inside - known).mean() < 12, "the frame of the same pose"


def test_a_bundle_alone_and_a_dataset_made_again_are_refused(placed: Path) -> None:
    refused(2, "is no run", "export", placed / "avatar", "--surround", "--source", "me.mp4")
    data = placed.parents[2] / "data/scene/track_params.pt"
    import torch

    params = torch.load(data, weights_only=True)
    torch.save({**params, "trans": params["trans"] + 0.01}, data)
    refused(4, "not in", "export", placed, "--surround", "--source", "me.mp4")
