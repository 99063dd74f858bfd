"""Commands that use an avatar: their output, and how they refuse what they cannot use."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from program import being, listing, refused
from scene import FRAMES, SIZE
from short_bench import shorten_bench
from tiny_home import grey_clip, hum
from typer.testing import CliRunner

from being.cli.app import app
from being.media import probe, read_audio, read_frames, write_wav


def float_wav(path: Path, samples: np.ndarray) -> Path:
    """A 16 kHz mono wav of 32-bit floats (what `wave` cannot write): the only common one that can
    hold NaN.
    """
    data = samples.astype("<f4").tobytes()
    header = (
        b"fmt "
        + np.array([16], "<u4").tobytes()
        + np.array([3, 1], "<u2").tobytes()
        + np.array([16_000, 64_000], "<u4").tobytes()
        + np.array([4, 32], "<u2").tobytes()
    )
    body = b"WAVE" + header + b"data" + np.array([len(data)], "<u4").tobytes() + data
    path.write_bytes(b"RIFF" + np.array([len(body)], "<u4").tobytes() + body)
    return path


# --- render, tts-video, bench-fps: the avatar


def rewrite(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def update_digest(folder: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""
    from being.model.avatar import digest

    files = json.loads((folder / "manifest.json").read_text())["files"]
    rewrite(folder, files={**files, name: digest((folder / name).read_bytes())})


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def truncate_and_update(folder: Path) -> None:
    truncate(folder)
    update_digest(folder, "model.safetensors")


def flip_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def write_nan(folder: Path, name: str = "model.safetensors") -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / name)
    key = next(key for key, value in tensors.items() if value.is_floating_point())
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, folder / name)
    update_digest(folder, name)


def shorten_poses(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(
        {key: value[:3] for key, value in load_file(folder / "poses.safetensors").items()},
        folder / "poses.safetensors",
    )
    update_digest(folder, "poses.safetensors")


def break_plate(folder: Path) -> None:
    (folder / "plates/000000.jpg").write_bytes(b"no picture")
    update_digest(folder, "plates/000000.jpg")


def shorten_plate(folder: Path) -> None:
    plate = folder / "plates/000000.jpg"
    plate.write_bytes(plate.read_bytes()[:400])
    update_digest(folder, "plates/000000.jpg")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "not an avatar"),
    "manifest not JSON": (lambda f: (f / "manifest.json").write_text("{"), "cannot be read"),
    "manifest a list": (lambda f: (f / "manifest.json").write_text("[]"), "not a JSON object"),
    "schema 99": (lambda f: rewrite(f, schema=99), "schema 99, this version reads up to 2"),
    "no poses": (lambda f: rewrite(f, poses=None), "missing or wrong: poses"),
    "no size": (lambda f: rewrite(f, size=0), "does not describe an avatar"),
    "focal length NaN": (lambda f: rewrite(f, focal=float("nan")), "does not describe an avatar"),
    "weights missing": (
        lambda f: (f / "model.safetensors").unlink(),
        "model.safetensors is missing",
    ),
    "plate missing": (lambda f: (f / "plates/000000.jpg").unlink(), "000000.jpg is missing"),
    "truncated": (truncate, "model.safetensors was altered"),
    "truncated, hash to match": (truncate_and_update, "model.safetensors cannot be read"),
    "one bit": (flip_bit, "model.safetensors was altered"),
    "NaN weights": (write_nan, "not finite"),
    "NaN poses": (lambda f: write_nan(f, "poses.safetensors"), "not finite"),
    "fewer poses": (shorten_poses, "poses.safetensors does not fit"),
    "plate cut short": (shorten_plate, "000000.jpg"),
    "plate no picture": (break_plate, "000000.jpg"),
    "other network": (
        lambda f: rewrite(
            f, model={**json.loads((f / "manifest.json").read_text())["model"], "d_model": 32}
        ),
        "does not fit its manifest",
    ),
    "unknown setting": (lambda f: rewrite(f, model={"dept": 1}), "does not fit its manifest"),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_a_damaged_avatar_is_refused_and_the_fault_named(avatar: Path, fault: str) -> None:
    damage, message = DAMAGES[fault]
    damage(avatar)
    refused(4, message, "bench-fps", avatar, "--frames", "8", "--device", "cpu")


@pytest.mark.parametrize(
    "command",
    [["render", "--audio", "speech.wav"], ["tts-video", "--text", "Hello"], ["bench-fps"]],
)
def test_every_command_refuses_a_folder_that_is_no_avatar(
    home: Path, run: Path, command: list[str]
) -> None:
    write_wav(Path("speech.wav"), hum(1))
    refused(4, "nowhere does not exist", *command, "nowhere")
    refused(4, "data.scene is not an avatar", *command, home / "data/scene")
    refused(4, "speech.wav is not an avatar", *command, "speech.wav")
    refused(2, "unknown device 'tpu'", *command, run, "--device", "tpu")


@pytest.mark.parametrize(
    "command", [["render"], ["tts-video", "--text", "Hello"], ["bench-fps"], ["eval"], ["train"]]
)
def test_a_missing_gpu(home: Path, command: list[str]) -> None:
    import torch

    missing = f"cuda:{torch.cuda.device_count()}" if torch.cuda.is_available() else "cuda"
    refused(3, f"no device '{missing}'", *command, "--device", missing, watch=(home,))


RASTERIZING = [["render"], ["tts-video", "--text", "Hello"], ["bench-fps"], ["eval"], ["train"]]


@pytest.mark.parametrize("command", RASTERIZING)
def test_a_missing_rasterizer(
    home: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "being.splat.gsplat.status", lambda: "not installed: pip install gsplat (needs nvcc)"
    )
    refused(
        3,
        "gsplat rasterizer cannot run here: not installed: pip install gsplat.*--splat auto",
        *command,
        "--splat",
        "gsplat",
        watch=(home,),
    )
    monkeypatch.setattr("being.splat.gsplat.status", lambda: "OK")
    refused(
        3,
        "gsplat rasterizer cannot run on the device 'cpu'",
        *command,
        "--splat",
        "gsplat",
        "--device",
        "cpu",
        watch=(home,),
    )
    refused(
        2,
        "unknown rasterizer backend 'vulkan'.*auto, triton",
        *command,
        "--splat",
        "vulkan",
        watch=(home,),
    )


def test_the_rasterizer_that_is_asked_for_is_used(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from being.splat import torch_rasterizer

    shorten_bench(monkeypatch)
    calls: list[int] = []
    rasterize = torch_rasterizer.rasterize

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return rasterize(*arguments)

    monkeypatch.setattr(torch_rasterizer, "rasterize", counted)
    result = being(
        "bench-fps", run, "--frames", "8", "--device", "cpu", "--splat", "torch", "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["splat"] == "reference" and calls
    calls.clear()
    result = being("bench-fps", run, "--frames", "8", "--device", "cpu", "--json")
    if json.loads(result.stdout)["splat"] == "cpu":
        assert not calls, "without the option the fastest one is used"


def test_without_any_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEING_HOME", "nowhere")
    for command in (["render"], ["tts-video", "--text", "Hello"], ["bench-fps"], ["eval"]):
        refused(2, "there is no .*run.*being train", *command)


# --- render


@pytest.mark.parametrize(
    "fault, message",
    [
        ("missing", "speech.wav does not exist"),
        ("folder", "directory"),
        ("text", "speech.wav"),
        ("empty", "0 bytes"),
        ("no samples", "speech.wav"),
        ("10 ms", "10 ms long"),
        ("NaN", "not finite"),
        ("video without sound", "no audio"),
    ],
)
def test_render_refuses_files_without_usable_audio(run: Path, fault: str, message: str) -> None:
    sound = Path("speech.wav")
    if fault == "folder":
        sound.mkdir()
    elif fault in ("text", "empty"):
        sound.write_text("Hello, this is a text.\n" * 50 * (fault == "text"))
    elif fault in ("no samples", "10 ms"):
        write_wav(sound, hum(0.01 if fault == "10 ms" else 0))
    elif fault == "NaN":
        float_wav(sound, np.where(np.arange(16_000) == 8000, np.nan, hum(1)))
    elif fault == "video without sound":
        sound = grey_clip(Path("clip.mp4"), 1, None)
    refused(
        4,
        message,
        "render",
        run,
        "--audio",
        sound,
        "--out",
        "new/one.mp4",
        "--device",
        "cpu",
        watch=(run,),
    )


@pytest.mark.parametrize(
    "command", [["render", "--audio", "speech.wav"], ["tts-video", "--text", "Hello"]]
)
def test_an_output_file_that_cannot_be_written(run: Path, command: list[str]) -> None:
    write_wav(Path("speech.wav"), hum(1))
    Path("folder.mp4").mkdir()
    refused(1, "cannot write.*is a file", *command, run, "--out", "speech.wav/below/one.mp4")
    refused(2, "unknown video type '.gif'.*mp4", *command, run, "--out", "new/one.gif")
    refused(2, "unknown video type", *command, run, "--out", "one")
    refused(1, "is a directory", *command, run, "--out", "folder.mp4")


def test_a_bundle_holds_no_audio(avatar: Path) -> None:
    refused(2, "holds no audio.*--audio", "render", avatar)


def test_an_avatar_of_another_encoder_width_is_refused(
    avatar: Path, speech_encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "being.inference.engine.load_encoder",
        lambda name: SimpleNamespace(width=29, hidden_width=None, reads_files=False),
    )
    write_wav(Path("speech.wav"), hum(1))
    refused(4, "146 wide", "render", avatar, "--audio", "speech.wav", "--out", "one.mp4")


@pytest.mark.parametrize("kind", ["speech", "silence"])
def test_render_writes_as_many_frames_as_the_audio_lasts(
    home: Path, speech_encoder: None, kind: str
) -> None:
    sound = hum(1.3) * (kind == "speech")
    write_wav(Path("speech.wav"), sound)
    result = being(
        "render", "--audio", "speech.wav", "--out", "new/one.mp4", "--json", "--device", "cpu"
    )
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    frames = list(read_frames(Path("new/one.mp4")))
    assert answer["ok"] and answer["frames"] == len(frames) and abs(len(frames) - 1.3 * 25) <= 1
    assert (
        frames[0].shape == (SIZE, SIZE, 3)
        and abs(len(read_audio(Path("new/one.mp4"))) / 16_000 - 1.3) < 0.08
    )
    assert (np.abs(read_audio(Path("new/one.mp4"))).max() > 0.1) == (kind == "speech")
    assert [p.name for p in Path("new").iterdir()] == ["one.mp4"] and probe(
        Path("new/one.mp4")
    ).fps == 25


def test_render_of_the_clips_audio_is_saved_in_the_run(run: Path, speech_encoder: None) -> None:
    result = being("render", "-q", "--device", "cpu")
    assert (
        result.exit_code == 0 and result.stdout == "" and not result.stderr.startswith("error")
    ), result.stderr
    assert len(list(read_frames(run / "videos/aud.mp4"))) == FRAMES
    shutil.rmtree(run / "videos")


def test_ctrl_c_leaves_no_part_of_a_video(
    run: Path, speech_encoder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from being.inference.engine import Engine

    whole = Engine.stream

    def interrupted(self: Engine, *arguments: Any) -> Any:
        yield from (picture for picture, _ in zip(whole(self, *arguments), range(90), strict=False))
        (part,) = Path("new").glob(".one.part-*.mp4")
        assert part.stat().st_size, "it was being written"
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "stream", interrupted)
    write_wav(Path("speech.wav"), hum(4))
    before = listing(Path.cwd())
    result = being(
        "render", run, "--audio", "speech.wav", "--out", "new/one.mp4", "--device", "cpu"
    )
    assert result.exit_code == 130 and "error: interrupted" in result.stderr, result.stderr
    assert listing(Path.cwd()) == before


# --- tts-video


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "text is empty"),
        ("  \t ", "text is empty"),
        ("?! ... 🎉", "neither letters nor digits"),
        ("你好", "cannot say 你 好"),
    ],
)
def test_text_that_cannot_be_spoken(run: Path, text: str, message: str) -> None:
    pytest.importorskip("hibari")
    refused(4, message, "tts-video", "--text", text, "--out", "new/one.mp4", watch=(run,))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--voice", "siri"], "no voice is called 'siri'.*hibari"),
        (["--voice", "hibari:anna"], "hibari:anna"),
        (["--speed", "3"], "speed 3.0 is out of range"),
        (["--speed", "nan"], "speed nan"),
        (["--speed", "0"], "speed 0"),
    ],
)
def test_an_unknown_voice_or_speed(run: Path, arguments: list[str], message: str) -> None:
    refused(2, message, "tts-video", "--text", "Hello", *arguments, watch=(run,))


def test_text_becomes_a_talking_video(run: Path, speech_encoder: None) -> None:
    """Word for word as in the documentation: the most recent run, a file named after the words."""
    pytest.importorskip("hibari")
    result = being("tts-video", "--text", "Hello")
    assert result.exit_code == 0, result.stderr
    video = run / "videos/hello.mp4"
    assert f"avatar {run}" in result.stdout and str(video) in result.stdout
    assert all(
        step in result.stdout
        for step in ("load", "voice", "features", "render and encode", "total")
    )
    seconds = len(read_audio(video)) / 16_000
    assert seconds > 0.3 and abs(len(list(read_frames(video))) - 25 * seconds) <= 2
    shutil.rmtree(run / "videos")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "text is empty"),
        (b"\xff\xfe\x00H", "no UTF-8 text"),
        (b"Hello\0there", "holds zero bytes"),
        (b"a" * ((1 << 20) + 1), "at most 1048576 are read"),
        (b"Hello [pause 31] you", "longer than 30 s"),
        (b"```\ncode\n```", "empty without its markup"),
        (None, "no such file"),
    ],
)
def test_a_text_file_that_cannot_be_spoken(run: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        Path("text.md").write_bytes(content)
    refused(4, message, "tts-video", "--text-file", "text.md", watch=(run,))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "there is no text.*--text-file FILE"),
        (["--text", "a", "--text-file", "b"], "both given"),
        (["--text", "a", "--captions", "srt"], "no captions are called 'srt'"),
        (["--text", "a", "--captions", "vtt", "--voice", "espeak"], "without word times"),
    ],
)
def test_one_text_and_captions_that_exist(run: Path, arguments: list[str], message: str) -> None:
    refused(2, message, "tts-video", *arguments, watch=(run,))


def test_markdown_from_stdin_becomes_a_captioned_video(run: Path, speech_encoder: None) -> None:
    pytest.importorskip("hibari")
    text = b"# Hello\n\n<emphasis>My</emphasis> **friend**. [pause 0.6] Bye!"
    arguments = ["tts-video", "--text-file", "-", "--out", "one.mp4", "--captions", "vtt"]
    result = CliRunner().invoke(app, arguments, input=text)
    assert result.exit_code == 0, result.stderr
    captions = Path("one.vtt").read_text()
    assert "captions one.vtt" in result.stdout
    assert "\nHello.\n" in captions and "\nMy friend.\n" in captions and "\nBye!\n" in captions
    assert "left out of the speech: <emphasis>" in result.stderr
    plain = [frame.astype(int) for frame in read_frames(Path("one.mp4"))]

    # The same, drawn into the frames: only the lower part changes.
    arguments[4:] = ["two.mp4", "--captions", "burn"]
    assert CliRunner().invoke(app, arguments, input=text).exit_code == 0
    drawn = [frame.astype(int) for frame in read_frames(Path("two.mp4"))]
    assert len(drawn) == len(plain) and not Path("two.vtt").exists()
    change = np.abs(drawn[len(drawn) // 3] - plain[len(plain) // 3]).max((1, 2))
    assert change[: len(change) // 2].max() < 60 < change[len(change) // 2 :].max()


def test_symbols_that_are_left_out_are_named(run: Path, speech_encoder: None) -> None:
    pytest.importorskip("hibari")
    result = being("tts-video", "--text", "Hello 🎉", "--out", "one.mp4", "-q")
    assert result.exit_code == 0 and result.stdout == ""
    assert [
        line for line in result.stderr.splitlines() if line.startswith("warning:") and "🎉" in line
    ]


# --- eval, bench-fps


def test_eval_refuses_what_it_cannot_measure(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from being.runs.run_directory import Run

    made = Run.open(run)
    empty = Run.create(made.dataset, "scene", made.config, "empty", Path.cwd() / "runs").path
    refused(4, "no checkpoint", "eval", empty)
    refused(2, "unknown part 'tset'", "eval", run, "--part", "tset", watch=(run,))
    refused(4, "not a run", "eval", run / "avatar", watch=(run,))
    for file, text, message in (
        ("run.json", "{", "run.json cannot be read"),
        ("run.json", '{"schema": 99}', "schema 99"),
        ("run.json", '{"schema": 1}', "names no dataset"),
        ("config.yaml", "data: [", "config.yaml cannot be read"),
    ):
        copy = shutil.copytree(run, Path.cwd() / "runs/copy")
        (copy / file).write_text(text)
        refused(4, message, "eval", copy)
        shutil.rmtree(copy)
    (copy := Path.cwd() / "runs/scene/elsewhere").parent.mkdir(exist_ok=True)
    shutil.copytree(run, copy)
    monkeypatch.setenv("BEING_HOME", "nowhere")  # in its home the dataset would be found
    refused(4, "dataset of the run .* is not there", "eval", copy)


def test_eval_gives_its_figures_as_one_object(run: Path) -> None:
    result = being("eval", "--json", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    answer = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert answer["ok"] and answer["part"] == "test" and answer["whole"]["psnr"] > 5
    assert Path(answer["files"]["report"]).is_file() and str(run) in result.stderr


def test_bench_fps_prints_a_table_or_its_rows(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_bench(monkeypatch, cold_start=True)
    result = being("bench-fps", "--frames", "8", "--device", "cpu")
    assert result.exit_code == 0 and f"avatar {run}" in result.stdout, result.stderr
    assert re.search(r"cold start: import_s \d", result.stdout)
    assert "sessions at 25 frames/s" in result.stdout
    saved = max((run / "bench").glob("*.json"))
    assert json.loads(saved.read_text())["rows"][0]["batch"] == 1
    assert re.search(r"batch of 8 +\d", result.stdout) and "rasterizer" in result.stdout

    shorten_bench(monkeypatch)
    answer = json.loads(being("bench-fps", "--frames", "8", "--device", "cpu", "--json").stdout)
    assert [row["batch"] for row in answer["rows"]] == [1, 8] and answer["size"] == SIZE
    assert all(0 < row["min_ms"] <= row["avg_ms"] <= row["max_ms"] for row in answer["rows"])


def test_bench_fps_of_an_untrained_avatar(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_bench(monkeypatch)
    result = being(
        "bench-fps", "--random", 200, "--sessions", 2, "--seconds", 1, "--device", "cpu", "--json"
    )
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and answer["sessions"]["frames"] == 50, result.stderr
    refused(2, "is not a list of shares", "bench-fps", "--compare", "--prune-to", "0.5,2")
    refused(
        2,
        "unknown precision 'int4'",
        "bench-fps",
        "--random",
        200,
        "--precision",
        "int4",
        "--device",
        "cpu",
    )


def test_export(run: Path, avatar: Path) -> None:
    pytest.importorskip("onnxruntime")
    result = being("export", run, "--onnx", "--ply", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and set(answer["files"]) == {"audio", "deformation", "ply"}, (
        result.stderr
    )
    assert max(answer["difference"].values()) < 1e-4
    for file in answer["files"].values():
        assert Path(file).is_file() and Path(file).parent == run / "export"
    shutil.rmtree(run / "export")
    refused(2, "nothing to export", "export", avatar)
