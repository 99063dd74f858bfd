"""The program, preprocess, train and config: help, exit codes, one-line errors, no files left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needs import load_or_skip
from program import being, refused
from tiny_home import TINY, grey_clip, hum

from being.errors import BeingError
from being.media import probe, write_wav
from being.tts import speak

# --- the program itself


def test_help_imports_little() -> None:
    code = (
        "import sys; sys.argv = ['being', '--help']\nfrom being.cli.app import main\ntry: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'numpy', 'av', 'mmengine', 'pydantic', 'cv2', 'onnxruntime'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "own = [name for name in sys.modules if name.startswith('being')]\n"
        "assert len(own) < 35 and len(sys.modules) < 500, (own, len(sys.modules))\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "tts-video" in done.stdout and not done.stderr, done


@pytest.mark.parametrize(
    "command",
    [
        "preprocess",
        "data pack",
        "data unpack",
        "data features",
        "data import",
        "data export",
        "import-checkpoint",
        "train",
        "config",
        "render",
        "tts-video",
        "eval",
        "bench-fps",
        "export",
        "demo",
        "view",
        "list",
        "rm",
    ],
)
def test_every_command_has_help_and_an_example(command: str) -> None:
    result = being(*command.split(), "--help")
    assert result.exit_code == 0 and "--json" in result.stdout and "--quiet" in result.stdout
    assert "Example" in result.stdout


def completed(words: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash is offered for the last of these words."""
    for name, value in (
        ("_BEING_COMPLETE", "complete_bash"),
        ("COMP_WORDS", words),
        ("COMP_CWORD", str(len(words.split(" ")) - 1)),
    ):
        monkeypatch.setenv(name, value)
    return being().stdout.split()


def test_commands_and_options_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("being tr", monkeypatch) == ["train"]
    assert completed("being train --st", monkeypatch) == ["--stage"]
    assert set(completed("being assets ", monkeypatch)) == {"list", "pull", "verify"}


def test_a_completion_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    result = being("--install-completion")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.stderr
    assert "completion of the shell cannot be installed" in result.stderr


def test_without_arguments_the_help_is_shown() -> None:
    assert being().exit_code == 0 and being().stdout == being("--help").stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["trian"], "trian.*train"),
        (["train", "--sage", "fine"], "--sage.*--stage"),
        (["tts-video"], "--text"),
        (["bench-fps", "--frames", "3"], "frames"),
        (["preprocess"], "video"),
        (["preprocess", "a.mp4", "--size", "big"], "size"),
        (["render", "a", "b"], "b"),
        (["train", "--holdout", "half"], "holdout"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    home: Path, arguments: list[str], message: str
) -> None:
    assert "--help" in refused(2, message, *arguments)["fix"]


def test_in_a_process_errors_are_one_line_on_stderr_and_json_is_alone_on_stdout(
    tmp_path: Path,
) -> None:
    program = [sys.executable, "-m", "being.cli.app", "config", str(tmp_path / "none.yaml")]
    plain, as_json = (
        subprocess.run([*program, *more], capture_output=True, text=True)
        for more in ([], ["--json"])
    )
    assert plain.returncode == as_json.returncode == 2
    assert plain.stdout == "" and plain.stderr == as_json.stderr and plain.stderr.count("\n") == 1
    assert plain.stderr.startswith("error: ") and json.loads(as_json.stdout)["error"]["code"] == 2


def test_the_demo_refuses_its_arguments_before_any_work(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    refused(2, "no config file nowhere", "demo", "--out", "new", "--config", "nowhere")
    refused(4, "text is empty", "demo", "--out", "new", "--text", " ")
    refused(1, "cannot make the folder", "demo", "--out", "file/below")


def test_the_demo_refuses_text_its_voice_cannot_speak_before_any_work(home: Path) -> None:
    load_or_skip(lambda: speak("Hello"))
    refused(4, "cannot say 漢 字", "demo", "--out", "new", "--text", "漢字")


def test_a_message_ends_each_sentence_with_one_full_stop() -> None:
    assert (
        BeingError("it is wrong", "they said: no.", "Try again").message()
        == "it is wrong: they said: no. Try again"
    )
    assert BeingError("nothing is in ..", fix="Look").message() == "nothing is in ... Look"


def test_internal_errors_are_one_line_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr("being.bench.benchmark.time_engine", broken)
    refused(1, "internal error: ValueError: first line.*BEING_TRACE", "bench-fps")

    def full(*_: Any) -> None:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1e12 bytes"
        )

    monkeypatch.setattr("being.bench.benchmark.time_engine", full)
    refused(1, "out of memory.*data.size", "bench-fps")


# --- config


def test_config_lists_every_key_with_value_bounds_and_help(tmp_path: Path) -> None:
    from being.config import describe

    result = being("config", "--json")
    assert result.exit_code == 0, result.stderr
    keys = {item["key"]: item for item in json.loads(result.stdout)["keys"]}
    assert set(keys) == {key.name for key in describe()}
    assert all(item["help"] and item["value"] == item["default"] for item in keys.values())
    holdout = keys["data.holdout"]
    assert (holdout["min"], holdout["max"]) == (0, 0.9)
    assert keys["data.size"]["value"] == 512 and keys["data.encoder"]["min"] is None

    lines = being("config").stdout.splitlines()
    assert "data.holdout: 0.0  (at least 0, at most 0.9)" in lines
    assert f"    {holdout['help']}" in lines and len(lines) == 2 * len(keys)


def test_config_of_a_file_shows_its_values_beside_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("_base_: quick\ndata: {size: 64}")
    assert "data.size: 256  (default 512, " in being("config", "quick").stdout
    assert "data.size: 64  (default 512, " in being("config", "own.yaml").stdout
    result = being("config", "own.yaml", "-o", "data.size=128", "--json")
    keys = {item["key"]: item for item in json.loads(result.stdout)["keys"]}
    assert (keys["data.size"]["value"], keys["data.size"]["default"]) == (128, 512)
    refused(2, "no config file nowhere", "config", "nowhere")
    refused(2, "data.sise.*data.size", "config", "-o", "data.sise=3")


# --- preprocess


def landmarker_or_skip() -> None:
    from being.face.landmarks import FaceLandmarker

    load_or_skip(lambda: FaceLandmarker(workers=1))


def test_more_clips_than_a_dataset_takes_are_refused(home: Path) -> None:
    refused(2, "17 clips were given.*16 at most", "preprocess", *(f"{i}.mp4" for i in range(17)))


@pytest.mark.parametrize(
    "fault, message",
    [
        ("missing", "does not exist"),
        ("folder", "directory"),
        ("text", "not a readable media file: .*it is a text"),
        ("empty", "0 bytes"),
        ("sound only", "no video stream"),
        ("short", "too short"),
        ("no sound", "no audio track"),
        ("silent", "silent"),
        ("no face", "no face"),
    ],
)
def test_a_clip_that_cannot_be_used(home: Path, fault: str, message: str) -> None:
    if fault == "no face":
        landmarker_or_skip()
    clip, out = Path("clip.mp4"), Path("below/out")
    if fault == "folder":
        clip.mkdir()
    elif fault in ("text", "empty"):
        clip.write_text("this is not a video\n" * 50 * (fault == "text"))
        clip = clip.rename("clip.txt") if fault == "text" else clip
    elif fault == "sound only":
        clip = Path("clip.wav")
        write_wav(clip, hum(3))
    elif fault != "missing":
        seconds = 1.0 if fault == "short" else 3.0
        sound = None if fault == "no sound" else hum(seconds) * (fault != "silent")
        grey_clip(clip, seconds, sound)
    error = refused(4, message, "preprocess", clip, "--out", out)
    assert str(clip) in error["what"]


def test_an_output_folder_that_cannot_be_used(home: Path) -> None:
    clip = grey_clip(Path("clip.mp4"), 3, hum(3))
    Path("file").write_text("")
    refused(1, "cannot write.*is a file", "preprocess", clip, "--out", "file/below/data")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    refused(1, "is not a dataset", "preprocess", clip, "--out", "mine", "--force")
    refused(
        1,
        "exists already.*--force",
        "preprocess",
        clip,
        "--out",
        home / "data/scene",
        watch=(home / "data",),
    )
    refused(2, "cannot be the name", "preprocess", clip, "--name", "../../elsewhere")


def test_preprocess_computes_the_features_of_the_training_config(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def noted(video: Path, folder: Path, *, encoder: str | None, **_: Any) -> Path:
        asked.append(encoder)
        return home / "data/scene"

    monkeypatch.setattr("being.preprocess.pipeline.preprocess_video", noted)
    monkeypatch.setattr(
        "being.preprocess.speech_features.add_features",
        lambda folder, encoder, latency: asked.append(encoder) or (encoder, 7),
    )
    Path("own.yaml").write_text("_base_: quick\ndata: {encoder: hubert}")
    for command in (["preprocess", "me.mp4"], ["data", "features"]):
        for arguments in (
            ["--config", "own.yaml"],
            ["-o", "data.encoder=hubert"],
            ["--encoder", "hubert", "-o", "data.encoder=hama"],
        ):
            assert being(*command, *arguments).exit_code == 0 and asked.pop() == "hubert"
        assert being(*command, "--config", "quick").exit_code == 0 and asked.pop() in (None, "hama")
        refused(2, "data.encoder", *command, "-o", "data.encodr=hubert")


def test_an_interrupted_preprocess_says_that_it_can_continue(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from being.preprocess import pipeline, steps
    from being.preprocess.inspection.face_samples import FaceSamples
    from being.preprocess.inspection.picture import ClipInspection
    from being.preprocess.step_graph import Step

    clip, frames = grey_clip(Path("clip.mp4"), 3, hum(3)), steps.STEPS[:2]

    def interrupt(work: Any, advance: Any) -> None:
        assert len(list(work.folder.glob("ori_imgs/*.jpg"))) == 75
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "FaceLandmarker", lambda: None)
    look = FaceSamples(np.zeros(0), np.zeros((0, 478, 3), np.float32), None, np.zeros(0, int))
    checked = ClipInspection(
        probe(clip), (0, 0, 64), 64, np.arange(75), ((0, 75),), hum(3), (), look, (0.0,)
    )
    monkeypatch.setattr(steps, "inspect_clip", lambda *_: checked)
    monkeypatch.setattr(
        pipeline, "STEPS", (*frames, Step("landmarks", interrupt, (), ("frames",), version=1))
    )
    result = being("preprocess", clip, "--out", "new/out")
    assert result.exit_code == 130, result.stderr
    assert (
        "error: interrupted. 2 of 3 steps are done. The same command goes on from there"
        in result.stderr
    )
    assert [path.name for path in Path("new").iterdir()] == [".out.part"], (
        "nothing under the dataset's name"
    )


# --- train


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stage", "medium"], "unknown stage.*coarse, fine, all"),
        (["-o", "train.fine.step=3"], "train.fine.steps"),
        (["-o", "data.size"], "key.path=value"),
        (["-o", "data.size=big"], "data.size.*whole number"),
        (["-o", "data.size=-5"], "data.size.*at least"),
        (["-o", "train.fine.steps=0"], "at least 1"),
        (["-o", "train.loss.l1=.nan"], "train.loss.l1"),
        (["-o", "model.d_model=63"], "multiple of model.n_head"),
        (["--holdout", "1.5"], "holdout.*at most 0.9"),
        (["--config", "nowhere.yaml"], "no config file nowhere.yaml"),
        (["--config", ""], "no config file"),
        (["--config", "own.yaml"], "own.yaml.*train.coarse.batch"),
        (["--config", "broken.yaml"], "broken.yaml"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--device", "meta"], "unknown device"),
        (["--run", "somewhere", "--fresh"], "exclude each other"),
        (["--log", "tensorbord"], "unknown log.*wandb"),
        (["--run", "somewhere", "--until-plateau"], "exclude each other"),
        (["-o", "train.splat=vulkan"], "unknown rasterizer backend 'vulkan'"),
    ],
)
def test_train_refuses_wrong_settings(home: Path, arguments: list[str], message: str) -> None:
    Path("own.yaml").write_text("train: {coarse: {bath: 2}}")
    Path("broken.yaml").write_text("train: [")
    refused(
        2,
        message,
        "train",
        *([] if "--run" in arguments else [home / "data/scene"]),
        *arguments,
        watch=(home,),
    )


def test_an_unknown_key_in_the_environment_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEING_DATA__SISE", "64")
    refused(
        2, "data.sise.*BEING_DATA__SISE.*data.size", "train", home / "data/scene", watch=(home,)
    )


@pytest.mark.parametrize(
    "fault, message",
    [
        ("missing", "does not exist"),
        ("file", "not a dataset: it is a file"),
        ("empty folder", "not a dataset"),
        ("schema", "schema 99"),
        ("not json", "cannot be read"),
        ("lacks a file", "lacks bc.jpg"),
        ("broken picture", "3.jpg cannot be read"),
        ("other encoder", "no 'hama'"),
        ("few frames", "at least"),
        ("segments", "segments.*do not cover"),
        ("NaN poses", "track_params.pt"),
    ],
)
def test_train_refuses_a_folder_that_is_no_dataset(
    home: Path, scene: Path, fault: str, message: str
) -> None:
    import torch

    data = Path("data")
    if fault == "file":
        data.write_text("")
    elif fault == "empty folder":
        data.mkdir()
    elif fault != "missing":
        shutil.copytree(scene, data)
        manifest = json.loads((data / "dataset.json").read_text())
        changes = {
            "schema": {"schema": 99},
            "other encoder": {"features": {"other": {"file": "aud_hama.npy", "width": 7}}},
            "few frames": {"frames": 9, "segments": [[0, 9]]},
            "segments": {"segments": [[0, 20], [21, 44]]},
        }
        (data / "dataset.json").write_text(json.dumps({**manifest, **changes.get(fault, {})}))
    if fault == "not json":
        (data / "dataset.json").write_text("{")
    elif fault == "lacks a file":
        (data / "bc.jpg").unlink()
    elif fault == "broken picture":
        (data / "ori_imgs/3.jpg").write_bytes(b"no picture")
    elif fault == "NaN poses":
        track = torch.load(data / "track_params.pt", weights_only=True)
        torch.save({**track, "euler": track["euler"] * float("nan")}, data / "track_params.pt")
    refused(4, message, "train", data, "-o", "data.size=48", watch=(home,))


@pytest.mark.parametrize("name", ["landmarks.npz", "mesh.npz", "aud_hama.npy", "track_params.pt"])
def test_train_refuses_a_dataset_with_a_damaged_file(home: Path, scene: Path, name: str) -> None:
    data = shutil.copytree(scene, Path("data"))
    whole = (data / name).read_bytes()
    other = Path("other.npz" if name.endswith("npz") else "other.npy")
    np.savez(
        other,
        points=np.zeros((3, 478, 3)),
        vertices=np.zeros((44, 9, 3)),
        triangles=np.full((2, 3), 9),
    ) if name.endswith("npz") else np.save(other, np.zeros((2, 2)))
    for content in (b"", b"junk" * 99, whole[: len(whole) // 2], other.read_bytes()):
        (data / name).write_bytes(content)
        error = refused(
            4,
            f"{name}:? (cannot be read|holds|is )",
            "train",
            data,
            "-o",
            "data.size=48",
            watch=(home,),
        )
        assert "allow_pickle" not in error["why"]
    (data / name).unlink()
    refused(
        4, f"lacks {name}|{name} is missing", "train", data, "-o", "data.size=48", watch=(home,)
    )


def test_train_without_a_dataset_or_a_folder_for_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(4, "nowhere does not exist", "train", "--run", "nowhere")
    tiny = [argument for item in TINY for argument in ("-o", item)]
    Path("file").write_text("")
    monkeypatch.setenv("BEING_HOME", "file")
    refused(1, "cannot make the run directory", "train", home / "data/scene", *tiny)
    monkeypatch.setenv("BEING_HOME", "nowhere")
    refused(2, "no dataset.*being preprocess", "train")


def test_train_stage_fine_continues_the_most_recent_run(
    shared_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Word for word, with no other argument: the run whose fine stage is not done; its path is
    printed.
    """
    from being.config import load
    from being.train.training import train_avatar

    monkeypatch.setenv("BEING_HOME", str(tmp_path))
    shutil.copytree(shared_home / "data", tmp_path / "data")
    coarse = train_avatar(
        tmp_path / "data/scene",
        load("quick", TINY, environment={}),
        "tiny",
        stage="coarse",
        device="cpu",
    )
    refused(
        4,
        f"no avatar yet.*fine stage.*being train --run {coarse.path}",
        "render",
        coarse.path,
        watch=(tmp_path,),
    )
    result = being("train", "--stage", "fine")
    assert result.exit_code == 0 and f"continuing run {coarse.path}" in result.stdout, result.stderr
    assert (
        len(list((tmp_path / "runs/scene").iterdir())) == 1
        and (coarse.path / "avatar/manifest.json").is_file()
    )
