"""`being render`, `tts-video`, `bench-fps`: what is done with a trained avatar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.expression_options import (
    BlinkRateOption,
    CurvesOption,
    ExpressionOption,
    MoodOption,
    SeedOption,
    wish,
)
from being.cli.shell import DeviceOption, OutOption, SplatOption, command, take_rasterizer
from being.errors import BeingError, ExitCode, InputRejected, UsageError

AvatarArgument = Annotated[Path | None, typer.Argument(metavar="AVATAR", help="Folder of a run or of an avatar "
                                                       "bundle (default: the most recent finished run).")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""

    @command(app, "render", epilog="Example: being render --audio speech.wav --out speech.mp4")
    def render(
        avatar: AvatarArgument = None,
        audio: Annotated[Path | None, typer.Option("--audio", help="Sound to speak: any sound or video file (default: "
                                                                   "the clip's own).")] = None,
        mood: MoodOption = "neutral",
        expression: ExpressionOption = None,
        blink_rate: BlinkRateOption = None,
        curves: CurvesOption = None,
        seed: SeedOption = 0,
        out: OutOption = None,
        device: DeviceOption = "auto",
        splat: SplatOption = None,
    ) -> dict[str, Any]:
        """Make a video of the avatar speaking a sound file of any length; poses go back and forth."""
        asked = wish(mood, expression, blink_rate, curves, seed)
        folder, engine = _engine(avatar, device, splat)
        from being.inference.video import Times, render_video, report_times
        from being.media import read_audio
        from being.progress import say

        times = Times()
        source = audio or _own_sound(folder)
        with times.step("read sound"):
            samples = read_audio(source)
        result = render_video(engine, samples, out or folder / "videos" / f"{source.stem}.mp4", str(source), times,
                              asked)
        say(f"video {result['video']} ({result['frames']} frames)")
        report_times(times.seconds, result["seconds"])
        return result

    @command(app, "tts-video", epilog="Example: being tts-video --text 'Hello'")
    def tts_video(
        text: Annotated[str, typer.Option("--text", help="What the avatar says.")],
        avatar: AvatarArgument = None,
        voice: Annotated[str, typer.Option("--voice", help="hibari (offline, English), espeak or espeak:LANGUAGE "
                                                           "(offline), edge:NAME (online).")] = "hibari",
        speed: Annotated[float, typer.Option("--speed", help="0.5 (slow) to 2 (fast).")] = 1.0,
        mood: MoodOption = "neutral",
        expression: ExpressionOption = None,
        blink_rate: BlinkRateOption = None,
        curves: CurvesOption = None,
        seed: SeedOption = 0,
        out: OutOption = None,
        device: DeviceOption = "auto",
        splat: SplatOption = None,
    ) -> dict[str, Any]:
        """Make a video of the avatar saying a text; the time of each step is printed."""
        from being.inference.video import Times, file_stem, report_times, speak_video
        from being.progress import say
        from being.tts.speech import checked_text

        checked_text(text)
        asked = wish(mood, expression, blink_rate, curves, seed)
        times = Times()
        with times.step("load"):
            folder, engine = _engine(avatar, device, splat)
        result = speak_video(engine, text, voice, speed, out or folder / "videos" / f"{file_stem(text)}.mp4", times,
                             asked)
        say(f"video {result['video']} ({result['frames']} frames)")
        report_times(times.seconds, result["seconds"])
        return result

    @command(app, "bench-fps")
    def bench_fps(
        avatar: AvatarArgument = None,
        frames: Annotated[int, typer.Option("--frames", help="Frames to time, at least 8.", min=8)] = 200,
        device: DeviceOption = "auto",
        splat: SplatOption = None,
    ) -> dict[str, Any]:
        """Time single frames and batches of 8, whole frame to host memory, and the steps inside."""
        folder, engine = _engine(avatar, device, splat)
        from being.bench.fps import bench, table
        from being.progress import say
        from being.splat import chosen_backend

        result = {**bench(engine, frames), "splat": chosen_backend(engine.device)}
        say(table(result))
        return result

    @command(app, "demo")
    def demo(
        out: Annotated[Path, typer.Option("--out", help="Folder for all that it makes.")] = Path("demo"),
        text: Annotated[str | None, typer.Option("--text", help="What the avatar says at the end, in "
                                                           "English.")] = None,
        config: Annotated[str, typer.Option("--config", help="Training config: a file or a shipped one's "
                                                      "name.")] = "quick",
    ) -> dict[str, Any]:
        """Do all of it on the built-in clip of a person who does not exist; ends with demo.mp4 and a report."""
        from being.demo import run_demo

        result = run_demo(out, config, text)
        if not result["lips_follow"]:
            raise BeingError("the lips do not follow the sound",
                             f"correlation {result['lip_correlation']} with the true ones on held-out frames",
                             f"Look at {result['report']}", ExitCode.QUALITY)
        return result


def _engine(avatar: Path | None, device: str, splat: str | None) -> tuple[Path, Any]:
    """The folder of the run or bundle that is meant, and its engine; the path is printed."""
    from being.inference.engine import Engine
    from being.model.device import pick_device
    from being.progress import say
    from being.train.run import Run

    folder = avatar if avatar is not None else Run.find(None, finished=True).path
    if not folder.exists():
        raise InputRejected(f"{folder} does not exist", fix="Give the folder of a run or of an avatar bundle")
    say(f"avatar {folder}")
    take_rasterizer(device, splat)
    return folder, Engine.load(folder, pick_device(device))


def _own_sound(folder: Path) -> Path:
    """The sound of the clip that the run was trained on."""
    from being.data.dataset import Dataset
    from being.train.run import Run

    if not (folder / "run.json").is_file():
        raise UsageError("a bundle has no sound of its own", fix="Give one with --audio FILE")
    return Dataset.open(Run.open(folder).dataset).sound_file
