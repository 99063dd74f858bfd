"""Preprocessing a drawn talking head: the files of the dataset, their accuracy, resumed runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_dataset import FRAMES, LOST, SIDE, DrawnClip
from drawn_face import write_clip
from needs import load_or_skip
from typer.testing import CliRunner

from being.cli.app import app
from being.data.cameras import camera_to_world_json, world_to_camera
from being.data.dataset import Dataset
from being.data.frames import read_image
from being.errors import BeingError, InputRejected
from being.face.landmarks import FaceLandmarker
from being.face.topology import CHIN, IBUG_68, RIGID
from being.media import read_audio
from being.preprocess import pipeline
from being.preprocess.pipeline import preprocess_video
from being.preprocess.step_graph import Advance, Step
from being.preprocess.steps import STEPS, StepContext
from being.sample import sample_clip

# The only part of the report that differs from run to run.
TIMES = re.compile(rb'<section id="times">.*?</section>', re.S)


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    """Skip where the pretrained files cannot be had."""
    load_or_skip(FaceLandmarker)


@pytest.fixture(scope="module")
def clip(drawn_clip: DrawnClip) -> tuple[Path, np.ndarray, np.ndarray]:
    """A video with two frames without a face, its true angles and its true landmarks."""
    return drawn_clip.video, drawn_clip.euler, drawn_clip.points


@pytest.fixture(scope="module")
def data(drawn_dataset: Path) -> Path:
    return drawn_dataset


def test_the_manifest_describes_the_dataset(data: Path) -> None:
    manifest = json.loads((data / "dataset.json").read_text())
    assert (manifest["schema"], manifest["name"], manifest["fps"]) == (1, "drawn", 25)
    assert (manifest["width"], manifest["height"], manifest["frames"]) == (SIDE, SIDE, FRAMES)
    assert manifest["segments"] == [[0, FRAMES]] and manifest["missing"] == list(LOST)
    assert manifest["features"] == {"hama": {"file": "aud_hama.npy", "width": 146}}
    assert manifest["consent"] == {"confirmed": True, "statement": "nobody's face"}
    assert len(manifest["source"]["sha256"]) == 64
    times = json.loads((data / "times.json").read_text())
    assert set(times) == set(manifest["steps"]) == {step.name for step in STEPS}
    assert (
        all(len(step["digest"]) == 64 for step in manifest["steps"].values())
        and min(times.values()) >= 0
    )


def test_the_manifest_has_the_learnability_of_all_frames(data: Path) -> None:
    """Not only of the frames that the inspection sampled."""
    manifest = json.loads((data / "dataset.json").read_text())
    mouth = next(finding["what"] for finding in manifest["findings"] if finding["check"] == "mouth")
    assert f"of {FRAMES - len(LOST)} inspected frames" in mouth


def test_every_file_of_the_layout_is_there(data: Path) -> None:
    for folder, ending, channels in (
        ("ori_imgs", "jpg", 3),
        ("parsing", "png", 3),
        ("torso_imgs", "png", 4),
    ):
        names = {int(file.stem) for file in (data / folder).glob(f"*.{ending}")}
        assert names == set(range(FRAMES)), folder
        assert read_image(data / f"{folder}/3.{ending}").shape == (SIDE, SIDE, channels)
    for folder in ("mouth_mask", "head_alpha"):
        assert read_image(data / f"{folder}/3.png").shape == (SIDE, SIDE)
    assert {int(file.stem) for file in data.glob("ori_imgs/*.lms")} == set(range(FRAMES)) - set(
        LOST
    )
    assert np.loadtxt(data / "ori_imgs/0.lms").shape == (len(IBUG_68), 2)
    assert read_image(data / "bc.jpg").shape == (SIDE, SIDE, 3)
    assert not list(data.parent.glob(".*")), "no temporary folder may stay"


def test_the_dataset_reader_accepts_it(data: Path) -> None:
    dataset = Dataset.open(data)
    assert (
        dataset.features("hama").shape == (FRAMES, 16, 146)
        and np.isfinite(dataset.features("hama")).all()
    )
    assert dataset.blink.shape == (FRAMES, 1) and dataset.landmarks.shape == (FRAMES, 478, 3)
    assert read_audio(dataset.audio_file).shape == (FRAMES * 640,)


def test_cameras_put_the_mesh_onto_the_drawn_face(
    data: Path, clip: tuple[Path, np.ndarray, np.ndarray]
) -> None:
    dataset = Dataset.open(data)
    vertices, triangles = dataset.mesh
    assert triangles.shape == (898, 3)
    matrix = dataset.world_to_camera
    placed = np.einsum("fij,fvj->fvi", matrix[:, :3, :3], vertices) + matrix[:, None, :3, 3]
    pixels = placed[..., :2] / placed[..., 2:] * dataset.focal + (SIDE - 1) / 2
    seen = np.setdiff1d(np.arange(FRAMES), LOST)
    distance = np.linalg.norm(pixels - clip[2], axis=-1)[seen]
    assert np.median(distance) < 2.5, np.median(distance)
    assert np.abs(pixels[LOST, :] - clip[2][LOST, :])[:, RIGID].mean() < 4, (
        "bridged over the lost frames"
    )


def test_poses_follow_the_drawn_head(data: Path, clip: tuple[Path, np.ndarray, np.ndarray]) -> None:
    import torch

    track = torch.load(data / "track_params.pt", weights_only=True)
    assert {key: tuple(value.shape) for key, value in track.items()} == {
        "id": (1, 100),
        "exp": (FRAMES, 79),
        "euler": (FRAMES, 3),
        "trans": (FRAMES, 3),
        "focal": (1,),
        "vertices": (1, 468, 3),
    }
    yaw, true = track["euler"][:, 1].numpy(), clip[1][:, 1]
    assert np.corrcoef(yaw, true)[0, 1] > 0.97
    assert np.degrees(np.abs((yaw - yaw.mean()) - (true - true.mean())).max()) < 4


def test_transforms_split_the_frames_and_invert_the_cameras(data: Path) -> None:
    import torch

    track = torch.load(data / "track_params.pt", weights_only=True)
    euler, trans = track["euler"].numpy(), track["trans"].numpy()
    train, val = (
        json.loads((data / f"transforms_{part}.json").read_text()) for part in ("train", "val")
    )
    ids = [[frame["img_id"] for frame in part["frames"]] for part in (train, val)]
    border = FRAMES * 10 // 11
    assert ids[0] == [i for i in range(border) if i not in LOST] and ids[1] == list(
        range(border, FRAMES)
    )
    assert train["cx"] == SIDE / 2 and train["focal_len"] == pytest.approx(
        float(track["focal"][0]), rel=1e-6
    )
    expected = camera_to_world_json(euler, trans)[ids[0][5]]
    assert np.allclose(train["frames"][5]["transform_matrix"], expected)
    assert np.allclose(
        np.linalg.inv(expected)[:3, :3] * [[1], [-1], [-1]],
        world_to_camera(euler, trans)[ids[0][5], :3, :3],
        atol=1e-5,
    )


def test_the_mouth_mask_opens_with_the_lips(
    data: Path, clip: tuple[Path, np.ndarray, np.ndarray]
) -> None:
    areas = np.array([(read_image(data / f"mouth_mask/{i}.png") > 0).sum() for i in range(FRAMES)])
    gap = np.linalg.norm(clip[2][:, 13] - clip[2][:, 14], axis=1)
    seen = np.setdiff1d(np.arange(FRAMES), LOST)
    assert np.corrcoef(areas[seen], gap[seen])[0, 1] > 0.85 and not areas[list(LOST)].any()


def test_the_head_is_parsed_as_head(data: Path, clip: tuple[Path, np.ndarray, np.ndarray]) -> None:
    head = (read_image(data / "parsing/10.png") == (0, 0, 255)).all(-1)
    face = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(
        face, cv2.convexHull(clip[2][10].astype(np.float32)).round().astype(np.int32), (1,)
    )
    assert (head & (face > 0)).sum() > 0.95 * face.sum()
    below = int(clip[2][10, CHIN, 1]) + 20
    assert not head[min(below, SIDE - 1) :].any()


def test_check_reports_the_findings_that_the_manifest_records(
    data: Path,
    clip: tuple[Path, np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["preprocess", str(clip[0]), "--check", "--json"])
    assert result.exit_code == 0 and not list(tmp_path.iterdir()), result.stderr
    answer, manifest = json.loads(result.stdout), json.loads((data / "dataset.json").read_text())
    assert answer["ok"] and [f["check"] for f in answer["findings"]] == [
        f["check"] for f in manifest["findings"]
    ]
    # The manifest has these findings of all frames, the inspection of samples.
    rechecked = ("speech", "mouth", "head turns", "blinks", "forecast")
    assert all(
        one == other or one["check"] in rechecked
        for one, other in zip(answer["findings"], manifest["findings"], strict=True)
    )
    assert (answer["frames"], answer["segments"]) == (FRAMES, manifest["segments"])
    assert "warning" in result.stderr and "the avatar will lack" in result.stderr


def test_check_of_an_unusable_clip_gives_the_findings_and_exit_code_4(tmp_path: Path) -> None:
    grey = [np.full((SIDE, SIDE, 3), 90, np.uint8)] * 60
    video = write_clip(tmp_path / "grey.mp4", grey, read_audio(sample_clip())[: 60 * 640])
    result = CliRunner().invoke(app, ["preprocess", str(video), "--check", "--json"])
    answer = json.loads(result.stdout)
    assert result.exit_code == answer["error"]["code"] == 4 and not answer["ok"]
    assert any(finding["level"] == "rejection" for finding in answer["findings"])
    assert result.stderr.count("error: ") == 1 and result.stderr.lstrip().splitlines()[
        -1
    ].startswith("error: ")


def test_an_existing_dataset_is_kept_unless_forced(
    data: Path, clip: tuple[Path, np.ndarray, np.ndarray]
) -> None:
    before = (data / "dataset.json").read_bytes()
    with pytest.raises(BeingError, match="exists"):
        preprocess_video(clip[0], data)
    assert (data / "dataset.json").read_bytes() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from being.console import Progress
from being.preprocess.pipeline import preprocess_video

class Fatal(Progress):
    def advance(self, steps=1, note=None):
        super().advance(steps, note)
        if self.label == sys.argv[3] and self.done >= int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)

preprocess_video(
    Path(sys.argv[1]), Path(sys.argv[2]), name="drawn", consent="nobody's face", progress=Fatal
)
"""


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset but the times, which differ from run to run."""
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    times = json.loads(files.pop("times.json"))
    assert all(seconds >= 0 for seconds in times.values())
    files["report.html"] = TIMES.sub(b"", files["report.html"])
    return files


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([("plates", 31)], id="once"),
        pytest.param([("landmarks", FRAMES), ("plates", 31)], id="twice", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_makes_the_same_dataset(
    data: Path,
    clip: tuple[Path, np.ndarray, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kills: list[tuple[str, int]],
) -> None:
    """SIGKILL in the middle of a step; each run resumes after the finished steps."""
    out = tmp_path / "drawn"
    for step, frame in kills:
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, clip[0], out, step, str(frame)], capture_output=True
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        assert not out.exists() and (tmp_path / ".drawn.part").is_dir()
    preprocess_video(clip[0], out, name="drawn", consent="nobody's face")
    again = "".join(capsys.readouterr())
    kept = ("inspection", "frames", "audio", "landmarks", "masks")
    assert all(f"{step}  already done by an earlier run" in again for step in kept)
    assert "plates  already done" not in again
    whole, resumed = content(data), content(out)
    assert (
        whole.keys() == resumed.keys()
        and [name for name in whole if whole[name] != resumed[name]] == []
    )
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]


def test_a_full_disk_leaves_no_dataset_and_the_finished_steps(
    clip: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(work: StepContext, advance: Advance) -> None:
        raise OSError(28, "No space left on device")

    steps = STEPS[:2]
    monkeypatch.setattr(
        pipeline, "STEPS", (*steps, Step("masks", full, ("parsing",), ("frames",), version=1))
    )
    (tmp_path / ".one.part").mkdir()
    (tmp_path / ".one.part" / "left_by_another_run").write_text("")
    with pytest.raises(BeingError, match="No space left.*Free some space.*2 of 3 steps are done"):
        preprocess_video(clip[0], tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == [".one.part"]
    assert {path.name for path in (tmp_path / ".one.part").iterdir()} == {".work", "ori_imgs"}


def test_a_folder_that_is_no_dataset_is_never_replaced(
    clip: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(BeingError, match="not a dataset"):
        preprocess_video(clip[0], tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(BeingError):
        preprocess_video(clip[0], tmp_path / "file" / "below")


def test_a_rejected_clip_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputRejected):
        preprocess_video(tmp_path / "missing.mp4", tmp_path / "out" / "one")
    assert not (tmp_path / "out" / "one").exists() and not list((tmp_path / "out").glob(".*"))
