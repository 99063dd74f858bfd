"""The scripts in examples/ run as their first lines say, on tiny inputs."""

from __future__ import annotations

import itertools
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_home import TINY, hum, make_dataset

from being.media import VideoWriter, read_audio, read_frames, write_wav

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """One second of a tone."""
    write_wav(tmp_path / "hum.wav", hum(1))
    return tmp_path / "hum.wav"


@pytest.fixture(autouse=True)
def tiny_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that make a training one of seconds, for every config that is loaded."""
    for key, value in (item.split("=") for item in TINY):
        monkeypatch.setenv("BEING_" + key.upper().replace(".", "__"), value)


def run_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> list[str]:
    """The lines that an example prints, started with these arguments."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_render_frames(
    speech_encoder: None,
    run: Path,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "frames"
    lines = run_example("render_frames.py", monkeypatch, capsys, run, audio, out)
    files = sorted(out.iterdir())
    assert len(files) == 25 and lines[-1] == f"25 frames in {out}"
    assert {Image.open(file).size for file in files} == {(48, 48)}
    assert np.std(np.asarray(Image.open(files[0]))) > 1, "a picture, not one colour"


def test_stream_audio_gives_all_frames_and_the_first_before_the_audio_ends(
    speech_encoder: None,
    run: Path,
    audio: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = run_example("stream_audio.py", monkeypatch, capsys, run, audio)
    ranges = [tuple(map(int, re.findall(r"frames (\d+) to (\d+)", line)[0])) for line in lines]
    assert ranges[0][0] == 0 and ranges[-1][1] == 25 and len(ranges) == 11
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert ranges[-2][1] > 0, "frames come while the audio arrives"


def test_training_on_a_dataset_that_is_there(
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_dataset(tmp_path, scene)
    lines = run_example(
        "make_dataset_and_train.py", monkeypatch, capsys, "scene.mp4", tmp_path, "a test"
    )
    run = Path(lines[-1])
    assert run.parent == tmp_path / "runs/scene" and (run / "avatar/manifest.json").is_file()


@pytest.mark.slow
def test_a_video_becomes_a_run(
    speech_encoder: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from being import sample

    audio = read_audio(sample.sample_clip())[: 16_000 * 4]
    with VideoWriter(tmp_path / "me.mp4", 512, 512, audio=audio) as video:
        for frame in itertools.islice(read_frames(sample.sample_clip()), 100):
            video.write(frame)
    words = (tmp_path / "me.mp4", tmp_path, "nobody: drawn")
    run = Path(run_example("make_dataset_and_train.py", monkeypatch, capsys, *words)[-1])
    assert (run / "avatar/manifest.json").is_file()
    shutil.rmtree(run)
