"""What a command may replace, what it names its output, and what ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import being, listing, refused
from short_bench import shorten_bench
from tiny_home import grey_clip, hum

from being.inference.video import file_stem
from being.media import probe, write_wav

PROGRAM = [sys.executable, "-m", "being.cli.app"]


def said(result: Any) -> dict[str, Any]:
    """The JSON object of a command that ended well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# --- inputs and files of others


@pytest.mark.parametrize("kind", ["same", "link", "hard link"])
def test_a_render_does_not_replace_its_own_audio(run: Path, kind: str) -> None:
    """Before, `being render --audio mine.mp4 --out mine.mp4` destroyed the footage."""
    mine = grey_clip(Path("mine.mp4"), 1, hum(1))
    content = mine.read_bytes()
    out = Path("out.mp4")
    if kind == "same":
        out = Path("../") / Path.cwd().name / "mine.mp4"
    elif kind == "link":
        out.symlink_to("mine.mp4")
    else:
        out.hardlink_to("mine.mp4")
    for more in ([], ["--force"]):
        refused(2, "they are the same", "render", run, "--audio", mine, "--out", out, *more)
    assert mine.read_bytes() == content


def test_a_video_that_being_did_not_make_is_replaced_with_force_alone(
    run: Path, speech_encoder: None
) -> None:
    import av

    write_wav(Path("speech.wav"), hum(0.6))
    with av.open("holiday.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    command = ["render", run, "--audio", "speech.wav", "--out", "holiday.mp4", "--device", "cpu"]
    refused(1, "holiday.mp4 exists and was not made by being.*--force", *command)
    for words in ([*command, "--force"], command):
        assert being(*words).exit_code == 0, "its own video is replaced as before"
    assert probe(Path("holiday.mp4")).width != 64


def test_a_video_with_a_default_name_replaces_nothing(run: Path, speech_encoder: None) -> None:
    write_wav(Path("speech.wav"), hum(0.6))
    videos = run / "videos"
    for name in ("speech.mp4", "speech-2.mp4"):
        answer = said(being("render", "--audio", "speech.wav", "--device", "cpu", "--json"))
        assert answer["video"] == str(videos / name)
    assert sorted(path.name for path in videos.iterdir()) == ["speech-2.mp4", "speech.mp4"]
    shutil.rmtree(videos)


@pytest.mark.parametrize(
    "text, stem",
    [
        ("Hello, world! How are you doing today?", "hello-world-how-are-you-doing"),
        ("Привет, мир!", "привет-мир"),
        ("你好 世界", "你好-世界"),
        ("नमस्ते दुनिया", "नमस्ते-दुनिया"),
        ("مرحبا بالعالم", "مرحبا-بالعالم"),
        ("E\u0301te\u0301 à Orléans", "été-à-orléans"),
        ("a/b\\c..", "a-b-c"),
        ("?! 🎉", "speech"),
        ("x" * 500, "x" * 48),
    ],
)
def test_names_made_from_texts_keep_the_letters_of_all_scripts(text: str, stem: str) -> None:
    assert file_stem(text) == stem


def test_an_export_does_not_replace_files_of_others(run: Path) -> None:
    Path("cloud").mkdir()
    Path("cloud/point_cloud.ply").write_text("ply of another program")
    command = ["export", run, "--ply", "--out", "cloud"]
    refused(1, "point_cloud.ply exists and was not made by being export.*--force", *command)
    for words in ([*command, "--force"], command):
        assert being(*words).exit_code == 0
    assert [path.name for path in Path("cloud").iterdir()] == ["point_cloud.ply"]


def test_a_failed_export_keeps_the_earlier_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the file was written under its final name, and removed after a failed check."""
    pytest.importorskip("onnxruntime")
    assert being("export", run, "--onnx", "--out", "made").exit_code == 0
    before = {path.name: path.read_bytes() for path in Path("made").iterdir()}
    monkeypatch.setattr("being.interop.onnx._relative_difference", lambda *_: 1.0)
    result = being("export", run, "--onnx", "--out", "made")
    assert result.exit_code == 1 and "does not compute the same" in result.stderr
    assert {path.name: path.read_bytes() for path in Path("made").iterdir()} == before


def test_a_pack_is_not_written_into_its_dataset_and_gets_a_free_name(home: Path) -> None:
    data = home / "data/scene"
    refused(2, "one of them lies in the other", "data", "pack", data, "--out", data / "x.being")
    files = [said(being("data", "pack", data, "--json"))["file"] for _ in range(2)]
    assert [Path(file).name for file in files] == ["scene.being", "scene-2.being"]


def test_a_report_does_not_replace_the_videos_that_it_compares(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/metrics.json").write_text("{}")
    clip = grey_clip(tmp_path / "report/side_by_side.mp4", 1, hum(1))
    command = ["eval", "--pred", clip, "--truth", clip, "--out", tmp_path / "report"]
    refused(2, "one of them lies in the other", *command, watch=(tmp_path,))


def test_a_demo_is_not_made_in_a_folder_of_other_files(tmp_path: Path) -> None:
    from being.demo import _make_folder
    from being.errors import BeingError

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/report.html").write_text("mine")
    with pytest.raises(BeingError, match="is not the folder of a demo"):
        _make_folder(tmp_path / "mine")
    for _ in range(2):
        _make_folder(tmp_path / "demo")


# --- results that cannot be saved or printed


def test_a_benchmark_prints_what_it_cannot_save(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_bench(monkeypatch)
    copy = shutil.copytree(run, Path.cwd() / "run")
    shutil.rmtree(copy / "bench", ignore_errors=True)
    (copy / "bench").write_text("a file: no figures can be saved below it")
    result = being("bench-fps", copy, "--frames", "8", "--device", "cpu", "--json")
    assert said(result)["rows"] and "warning: the figures are not saved" in result.stderr


def until_first_line(words: list[str], **more: Any) -> tuple[int, str]:
    """Run `being WORDS | head -1`: exit code and stderr."""
    process = subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    return process.wait(timeout=120), errors


def test_a_closed_stdout_does_not_throw_an_unpacked_dataset_away(home: Path) -> None:
    assert being("data", "pack", home / "data/scene", "--out", "a.being").exit_code == 0
    # Closed from the beginning, and after the first line
    for out, redirection in (("one", ">&-"), ("two", "| head -0")):
        words = f"data unpack a.being --out {out} {redirection}"
        done = subprocess.run(
            f"set -o pipefail; {' '.join(PROGRAM)} {words}",
            shell=True,
            executable="/bin/bash",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert (Path(out) / "dataset.json").is_file()


def test_a_closed_stdout_does_not_end_a_training(scene: Path, tmp_path: Path) -> None:
    from tiny_training import TINY

    words = ["train", str(scene), "--config", "quick", "--device", "cpu"]
    items = [*TINY, "train.coarse.steps=2", "train.fine.steps=2", "train.lips.closure_steps=0"]
    environment = {**os.environ, "BEING_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    code, errors = until_first_line([*words, *(f"-o{item}" for item in items)], env=environment)
    assert code == 0 and "warning: stdout is closed" in errors, errors
    assert len(list(tmp_path.glob("runs/scene/*/avatar/manifest.json"))) == 1


def test_help_for_a_reader_that_goes_away_has_no_traceback() -> None:
    code, errors = until_first_line(["--help"])
    assert "Traceback" not in errors and code in (0, 1), errors


# --- a closed terminal


def start_render(**more: Any) -> subprocess.Popen[str]:
    """A long render in the current folder, when it has begun to write."""
    write_wav(Path("speech.wav"), hum(40))
    words = ["render", "--audio", "speech.wav", "--out", "one.mp4", "--device", "cpu"]
    process = subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True, **more)
    deadline = time.monotonic() + 60
    while not list(Path.cwd().glob(".one.part-*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_closed_terminal_ends_a_render_and_leaves_no_part(
    home: Path, speech_encoder: None
) -> None:
    process = start_render(stdout=subprocess.DEVNULL)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors, errors
    assert [line.split()[0] for line in listing(Path.cwd())] == ["speech.wav"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_keeps_a_command_running_until_sigterm_which_leaves_no_part(
    home: Path, speech_encoder: None
) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start_render(stdout=subprocess.DEVNULL, preexec_fn=ignore)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1] == "error: interrupted", errors
    assert [line.split()[0] for line in listing(Path.cwd())] == ["speech.wav"]
