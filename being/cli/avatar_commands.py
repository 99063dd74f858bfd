"""`being render`, `tts-video`, `bench-fps`, `export`, `demo`: what is done with a trained avatar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.render_options import PrecisionOption, RenderOptions, spread
from being.cli.shell import DeviceOption, SplatOption, command, take_rasterizer
from being.errors import BeingError, ExitCode, InputRejected, UsageError

if TYPE_CHECKING:
    from being.model.avatar import Avatar

DEFAULTS = RenderOptions()
AvatarArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="AVATAR",
        help="Folder of a run or of an avatar bundle (default: the most recent finished run).",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(app, "render", epilog="Example: being render --audio speech.wav --out speech.mp4")(
        spread(render)
    )
    command(app, "tts-video", epilog="Example: being tts-video --text 'Hello'")(spread(tts_video))
    command(app, "bench-fps", epilog="Example: being bench-fps --random 20000")(bench_fps)
    command(app, "export", epilog="Example: being export --onnx --ply")(export)
    command(app, "demo", epilog="Example: being demo --out demo --text 'Good morning'")(demo)


def render(
    avatar: AvatarArgument = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            "--audio", help="Sound to speak: any sound or video file (default: the clip's own)."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FILE.npy",
            help="Speech features of the "
            "sound that another program has made (frames x 16 x width), "
            "for avatars trained on such: deepspeech.",
        ),
    ] = None,
    options: RenderOptions = DEFAULTS,
) -> dict[str, Any]:
    """Make a video of the avatar speaking a sound file of any length; poses go back and forth."""
    asked = options.wish()
    folder, engine = _engine(avatar, options)
    from being.console import say
    from being.inference.video import Times, render_video, report_times
    from being.media import read_audio

    times = Times()
    source, own = (audio, None) if audio is not None else _own_sound(folder, engine.avatar)
    with times.step("read sound"):
        samples = read_audio(source)
    result = render_video(
        engine,
        samples,
        options.place(folder, source.stem),
        str(source),
        times,
        asked,
        features or own,
    )
    say(f"video {result['video']} ({result['frames']} frames)")
    report_times(result["times"], result["seconds"])
    return result


def tts_video(
    text: Annotated[str, typer.Option("--text", help="What the avatar says.")],
    avatar: AvatarArgument = None,
    voice: Annotated[
        str,
        typer.Option(
            "--voice",
            help="hibari (offline, English), espeak or espeak:LANGUAGE "
            "(offline), edge:NAME (online).",
        ),
    ] = "hibari",
    speed: Annotated[float, typer.Option("--speed", help="0.5 (slow) to 2 (fast).")] = 1.0,
    options: RenderOptions = DEFAULTS,
) -> dict[str, Any]:
    """Make a video of the avatar saying a text; the time of each step is printed."""
    from being.console import say
    from being.inference.video import Times, file_stem, report_times, speak_video
    from being.tts.speech import checked_text

    checked_text(text)
    asked = options.wish()
    times = Times()
    with times.step("load"):
        folder, engine = _engine(avatar, options)
    result = speak_video(
        engine, text, voice, speed, options.place(folder, file_stem(text)), times, asked
    )
    say(f"video {result['video']} ({result['frames']} frames)")
    report_times(result["times"], result["seconds"])
    return result


def bench_fps(
    avatar: AvatarArgument = None,
    frames: Annotated[
        int, typer.Option("--frames", help="Frames to time, at least 8.", min=8)
    ] = 200,
    random: Annotated[
        int | None,
        typer.Option(
            "--random",
            metavar="N",
            min=1,
            help="Measure an untrained avatar "
            "of N Gaussians at 512 px: nothing needs to be trained.",
        ),
    ] = None,
    gaussians: Annotated[
        int | None,
        typer.Option("--gaussians", metavar="N", min=1, help="Resample the avatar to N Gaussians."),
    ] = None,
    precision: PrecisionOption = "auto",
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Every road to speed in one table, with its PSNR against the plain model.",
        ),
    ] = False,
    prune_to: Annotated[
        str,
        typer.Option(
            "--prune-to",
            metavar="SHARES",
            help="With --compare: shares of the Gaussians kept, those that contribute most.",
        ),
    ] = "0.5,0.25",
    sessions: Annotated[
        int | None,
        typer.Option(
            "--sessions", metavar="N", min=1, help="Only the lateness of N sessions at 25 frames/s."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Length of --sessions.", min=1)
    ] = 10.0,
    long: Annotated[
        int | None,
        typer.Option("--long", metavar="N", min=1, help="Watch the memory over N frames more."),
    ] = None,
    device: DeviceOption = "auto",
    splat: SplatOption = None,
) -> dict[str, Any]:
    """Time single frames and batches of 8, to uint8 in host memory, the steps inside, a cold start,
    sessions.
    """
    from being.bench.benchmark import Wanted, measure
    from being.model.device import pick_device
    from being.splat import chosen_backend

    wanted = Wanted(
        frames, precision, random, gaussians, compare, _shares(prune_to), sessions, seconds, long
    )
    at = pick_device(device)
    folder = _folder(avatar) if random is None else None
    take_rasterizer(device, splat)
    return {**measure(folder, at, wanted), "splat": chosen_backend(at)}


def export(
    avatar: AvatarArgument = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Audio net and deformation as ONNX, checked by onnxruntime."),
    ] = False,
    ply: Annotated[
        bool, typer.Option("--ply", help="The canonical Gaussians as point_cloud.ply.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the files (default: export/ in the run)."),
    ] = None,
) -> dict[str, Any]:
    """Write an avatar's network or Gaussians for other programs."""
    if not (onnx or ply):
        raise UsageError("nothing to export was named", fix="Give --onnx, --ply or both")
    folder = _folder(avatar)
    from being.console import say
    from being.interop.onnx import export_onnx
    from being.interop.ply import write_ply
    from being.model.avatar import load_avatar
    from being.paths import make_folders

    loaded, place = load_avatar(folder), out or folder / "export"
    result: dict[str, Any] = {"files": {}}
    make_folders(place)
    if onnx:
        result |= export_onnx(loaded, place)
    if ply:
        file = place / "point_cloud.ply"
        write_ply(file, loaded.model.gaussians)
        result["files"]["ply"] = str(file)
    for name, file in result["files"].items():
        say(f"{name:<12}{file}")
    return result


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for all that it makes.")] = Path(
        "demo"
    ),
    text: Annotated[
        str | None, typer.Option("--text", help="What the avatar says at the end, in English.")
    ] = None,
    config: Annotated[
        str, typer.Option("--config", help="Training config: a file or a shipped one's name.")
    ] = "quick",
) -> dict[str, Any]:
    """Do all of it on the built-in clip of a person who does not exist; ends with demo.mp4 and a
    report.
    """
    from being.demo import run_demo

    result = run_demo(out, config, text)
    if not result["lips_follow"]:
        raise BeingError(
            "the lips do not follow the sound",
            f"correlation {result['lip_correlation']} with the true ones on held-out frames",
            f"Look at {result['report']}",
            ExitCode.QUALITY,
        )
    return result


def _engine(avatar: Path | None, options: RenderOptions) -> tuple[Path, Any]:
    """The folder of the run or bundle that is meant, and its engine; the path is printed."""
    from being.inference.engine import Engine
    from being.model.device import pick_device

    folder = _folder(avatar)
    take_rasterizer(options.device, options.splat)
    return folder, Engine.load(
        folder,
        pick_device(options.device),
        options.precision,
        options.prune_to,
        options.deform_every,
    )


def _folder(avatar: Path | None) -> Path:
    """The folder of the run or bundle that is meant, printed."""
    from being.console import say
    from being.runs.run_directory import Run

    folder = avatar if avatar is not None else Run.find(None, finished=True).path
    if not folder.exists():
        raise InputRejected(
            f"{folder} does not exist", fix="Give the folder of a run or of an avatar bundle"
        )
    say(f"avatar {folder}")
    return folder


def _shares(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, each above 0 and at most 1."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise UsageError(
            f"--prune-to {text} are no shares",
            fix="Give numbers above 0, at most 1, such as 0.5,0.25",
        )
    return shares


def _own_sound(folder: Path, avatar: Avatar) -> tuple[Path, Path | None]:
    """The sound of the clip that the run was trained on, and the file of its features where the
    dataset has those that the avatar hears."""
    from being.data.dataset import Dataset
    from being.runs.run_directory import Run

    if not (folder / "run.json").is_file():
        raise UsageError("a bundle has no sound of its own", fix="Give one with --audio FILE")
    dataset = Dataset.open(Run.open(folder).dataset)
    made = dataset.manifest["features"].get(avatar.manifest["encoder"], {})
    fits = made.get("width") == avatar.manifest["audio_width"]
    return dataset.sound_file, dataset.path / made["file"] if fits else None
