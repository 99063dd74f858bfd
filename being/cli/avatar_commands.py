"""Commands that use a trained avatar: render, tts-video, bench-fps, export, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.command import command
from being.cli.options import DeviceOption, SplatOption, select_rasterizer
from being.cli.render_options import (
    DeformationOption,
    ForceOption,
    PrecisionOption,
    RenderOptions,
    with_render_options,
)
from being.cli.spoken_text import read_spoken_text
from being.console import console
from being.errors import BeingError, ExitCode, UsageError

if TYPE_CHECKING:
    from being.inference.engine import Engine
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
    command(
        app,
        "render",
        fetches=True,
        epilog="Example: being render --audio speech.wav --out speech.mp4",
    )(with_render_options(render))
    command(app, "tts-video", fetches=True, epilog="Example: being tts-video --text 'Hello'")(
        with_render_options(tts_video)
    )
    command(app, "bench-fps", fetches=True, epilog="Example: being bench-fps --random 20000")(
        bench_fps
    )
    command(app, "export", epilog="Example: being export --onnx --ply")(export)
    command(
        app, "demo", fetches=True, epilog="Example: being demo --out demo --text 'Good morning'"
    )(demo)


def render(
    avatar: AvatarArgument = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            "--audio", help="Speech: any audio or video file (default: the audio of the clip)."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FILE.npy",
            help="Speech features of the audio that another program computed (frames x 16 x "
            "width), for avatars that were trained on such features: deepspeech.",
        ),
    ] = None,
    options: RenderOptions = DEFAULTS,
) -> dict[str, Any]:
    """Make a video of the avatar that speaks an audio file of any length."""
    controls = options.face_controls()
    folder, engine = _engine(avatar, options)
    from being.inference.video import StepTimes, VideoAudio, render_video, report_times
    from being.media import read_audio, read_original_audio

    times = StepTimes()
    source, clip_features = audio, None
    if source is None:
        source, clip_features = clip_audio(folder, engine.avatar)
    output = options.output(folder, source.stem, source, features)
    output.check()
    with times.step("read sound"):  # a key of the JSON output
        samples = read_audio(source)
        original = VideoAudio(*read_original_audio(source))
    result = render_video(
        engine,
        samples,
        output,
        str(source),
        times,
        controls,
        features or clip_features,
        original,
    )
    console.info(f"video {result['video']} ({result['frames']} frames)")
    report_times(result["times"], result["seconds"])
    return result


def tts_video(
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="What the avatar says; Markdown, SSML and pauses are understood.",
        ),
    ] = None,
    text_file: Annotated[
        str | None,
        typer.Option(
            "--text-file", metavar="FILE", help="A UTF-8 file of the text; - reads stdin."
        ),
    ] = None,
    avatar: AvatarArgument = None,
    voice: Annotated[
        str,
        typer.Option(
            "--voice",
            help="hibari (offline, English), kokoro:NAME (offline, slower, nine languages), espeak "
            "or espeak:LANGUAGE (offline), edge:NAME (online).",
        ),
    ] = "hibari",
    speed: Annotated[float, typer.Option("--speed", help="0.5 (slow) to 2 (fast).")] = 1.0,
    captions: Annotated[
        str,
        typer.Option(
            "--captions",
            metavar="vtt|burn|none",
            help="vtt: a WebVTT file beside the video; burn: drawn into the video.",
        ),
    ] = "none",
    options: RenderOptions = DEFAULTS,
) -> dict[str, Any]:
    """Make a video of the avatar that says a text."""
    from being.inference.caption_files import check_captions
    from being.inference.video import StepTimes, file_stem, report_times, speak_video
    from being.tts.script import read_script

    said, source = read_spoken_text(text, text_file)
    spoken = read_script(said).text
    check_captions(captions, voice)
    controls = options.face_controls()
    times = StepTimes()
    with times.step("load"):
        folder, engine = _engine(avatar, options)
    output = options.output(folder, file_stem(spoken), source)
    result = speak_video(engine, said, voice, speed, output, times, controls, captions)
    console.info(f"video {result['video']} ({result['frames']} frames)")
    if "captions" in result:
        console.info(f"captions {result['captions']}")
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
            help="Measure an untrained avatar of N Gaussians at 512 px.",
        ),
    ] = None,
    gaussians: Annotated[
        int | None,
        typer.Option("--gaussians", metavar="N", min=1, help="Resample the avatar to N Gaussians."),
    ] = None,
    precision: PrecisionOption = "auto",
    deform: DeformationOption = "network",
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Compare all renderers and precisions, and bases where the avatar has them: "
            "frames/s, and PSNR against float32.",
        ),
    ] = False,
    prune_to: Annotated[
        str,
        typer.Option(
            "--prune-to",
            metavar="SHARES",
            help="With --compare: shares of the Gaussians to keep, those that contribute most.",
        ),
    ] = "0.5,0.25",
    refine_model: Annotated[
        Path | None,
        typer.Option(
            "--refine-model",
            metavar="DIR",
            help="With --compare: also the engine with a refinement by this diffusion model "
            "(being refine).",
        ),
    ] = None,
    sessions: Annotated[
        int | None,
        typer.Option(
            "--sessions",
            metavar="N",
            min=1,
            help="Measure only the lateness of N sessions at 25 frames/s.",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Duration of --sessions.", min=1)
    ] = 10.0,
    long: Annotated[
        int | None,
        typer.Option(
            "--long", metavar="N", min=1, help="Also measure the growth of memory over N frames."
        ),
    ] = None,
    device: DeviceOption = "auto",
    splat: SplatOption = None,
) -> dict[str, Any]:
    """Measure the speed of an avatar: frames, batches, their steps, a cold start, sessions."""
    from being.bench.benchmark import BenchmarkOptions, run_benchmark
    from being.model.device import pick_device

    shares = _shares(prune_to)
    if refine_model is not None:
        from being.refine.model_folder import ModelFolder

        if not compare:
            raise UsageError("--refine-model belongs to --compare", fix="Give --compare too")
        ModelFolder.checked(refine_model)
    where = pick_device(device)
    folder = find_folder(avatar) if random is None else None
    options = BenchmarkOptions(
        frames=frames,
        precision=precision,
        deform=deform,
        random=random,
        gaussians=gaussians,
        compare=compare,
        prune_to=shares,
        sessions=sessions,
        seconds=seconds,
        long=long,
        rasterizer=select_rasterizer(device, splat),
        refine_model=refine_model,
    )
    return {**run_benchmark(folder, where, options), "splat": options.rasterizer}


def export(
    avatar: AvatarArgument = None,
    onnx: Annotated[
        bool,
        typer.Option(
            "--onnx",
            help="Write the audio net and the deformation as ONNX, checked by onnxruntime.",
        ),
    ] = False,
    ply: Annotated[
        bool, typer.Option("--ply", help="Write the canonical Gaussians as point_cloud.ply.")
    ] = False,
    spz: Annotated[
        bool,
        typer.Option("--spz", help="Write them as gaussians.spz, rounded to a tenth of the size."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output folder (default: export/ in the run)."),
    ] = None,
    surround: Annotated[
        bool,
        typer.Option(
            "--surround",
            help="Write torso mattes and the whole source frames into the avatar itself, for "
            "--background and --into-source; new avatars have them.",
        ),
    ] = False,
    bases: Annotated[
        bool,
        typer.Option(
            "--bases",
            help="Fit linear bases of the network's offsets and write them into the avatar itself, "
            "for --deform bases: about a minute on a GPU, some minutes on a CPU.",
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--bases-count",
            metavar="K",
            min=1,
            max=32,
            help="With --bases: their number (default: the fewest that are good enough).",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--source",
            metavar="VIDEO",
            help="With --surround: the recorded video, where the dataset does not hold it.",
        ),
    ] = None,
    web: Annotated[
        Path | None,
        typer.Option(
            "--web",
            metavar="DIR",
            help="Write a static page into DIR that renders the avatar in the browser, and speaks "
            "without a server.",
        ),
    ] = None,
    force: ForceOption = False,
    device: DeviceOption = "auto",
) -> dict[str, Any]:
    """Write an avatar as a web page or for other programs, or add parts to the avatar."""
    if not (onnx or ply or spz or surround or bases or web):
        raise UsageError(
            "there is nothing to export",
            fix="Give --web DIR, --onnx, --ply, --spz, --surround or --bases",
        )
    if count is not None and not bases:
        raise UsageError("--bases-count was given without --bases", fix="Give --bases too")
    if source is not None and not surround:
        raise UsageError("--source was given without --surround", fix="Give --surround too")
    folder = find_folder(avatar)
    result: dict[str, Any] = {"files": {}}
    if surround:
        from being.interop.surround import add_surround

        result["parts"] = add_surround(folder, source)
        console.info(f"{'surround':<12}{', '.join(result['parts'])}")
    if bases:
        from being.train.avatar_bases import add_bases

        result["bases"] = add_bases(folder, device, count)
        result["parts"] = [*result.get("parts", []), "bases"]
    if web is not None:
        result["web"] = _export_web(folder, web, force)
    if not (onnx or ply or spz):
        return result
    from being.interop.export_files import check_export_files, exported_together
    from being.interop.onnx import ONNX_FILES, export_onnx
    from being.interop.ply import PLY_FILE, write_ply
    from being.interop.spz import SPZ_FILE, write_spz
    from being.model.avatar import load_avatar

    target = out or folder / "export"
    names = [*(ONNX_FILES.values() if onnx else ()), *([PLY_FILE] if ply else ())]
    names += [SPZ_FILE] if spz else []
    check_export_files([target / name for name in names], force)
    loaded = load_avatar(folder)
    with exported_together(target) as part:
        if onnx:
            result |= export_onnx(loaded, part)
        if ply:
            write_ply(part / PLY_FILE, loaded.model.gaussians)
            result["files"]["ply"] = part / PLY_FILE
        if spz:
            write_spz(part / SPZ_FILE, loaded.model.gaussians)
            result["files"]["spz"] = part / SPZ_FILE
    result["files"] = {
        name: str(target / Path(file).name) for name, file in result["files"].items()
    }
    for name, file in result["files"].items():
        console.info(f"{name:<12}{file}")
    return result


def _export_web(folder: Path, target: Path, force: bool) -> dict[str, Any]:
    """Write the page of the avatar in `folder` and tell its sizes."""
    from being.interop.web.exporter import BUNDLE_MAX, export_web
    from being.model.avatar import load_avatar

    made = export_web(load_avatar(folder), target, force)
    for part, size in made.sizes.items():
        console.info(f"{part:<12}{size / 1e6:8.2f} MB")
    console.info(f"{'avatar':<12}{made.bundle_bytes / 1e6:8.2f} MB, {made.bases} bases")
    if made.bundle_bytes > BUNDLE_MAX:
        console.warn(
            f"the avatar is larger than {BUNDLE_MAX / 1e6:g} MB: train it with fewer Gaussians, "
            "or a shorter avatar.seconds"
        )
    if not made.speaks:
        console.warn(
            "the page needs a server to speak: the avatar has no mapping from the live speech "
            "encoder (avatar.live_encoder)"
        )
    console.info(f"page {made.folder}\nlook at it: python -m http.server -d {made.folder}")
    return {
        "folder": str(made.folder),
        "bytes": made.bundle_bytes,
        "sizes": made.sizes,
        "bases": made.bases,
        "speaks": made.speaks,
    }


def demo(
    out: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("demo"),
    text: Annotated[
        str | None, typer.Option("--text", help="What the avatar says in the video, in English.")
    ] = None,
    config: Annotated[
        str, typer.Option("--config", help="Training config: a file or a shipped one's name.")
    ] = "quick",
) -> dict[str, Any]:
    """Run the whole pipeline on the built-in clip of a synthetic person: demo.mp4 and a report."""
    from being.demo import run_demo

    result = run_demo(out, config, text)
    if not result["lips_follow"]:
        raise BeingError(
            "the lips do not follow the audio",
            f"correlation {result['lip_correlation']} with the true lips on held-out frames",
            f"Look at {result['report']}",
            ExitCode.QUALITY,
        )
    return result


def _engine(avatar: Path | None, options: RenderOptions) -> tuple[Path, Engine]:
    """The folder of the run or bundle, and its engine; prints the path."""
    from being.inference.engine import Engine
    from being.model.device import pick_device

    folder = find_folder(avatar)
    return folder, Engine.load(
        folder,
        pick_device(options.device),
        options.precision,
        options.prune_to,
        options.deform_every,
        options.splat or "auto",
        options.look,
        options.deform,
    )


def find_folder(avatar: Path | None) -> Path:
    """The folder of the run or bundle; prints it. Raises InputRejected when it does not exist."""
    from being.paths import check_folder
    from being.runs.run_directory import Run

    folder = avatar if avatar is not None else Run.find(None, finished=True).path
    check_folder(folder, "an avatar", "Give the folder of a run or of an avatar bundle")
    console.info(f"avatar {folder}")
    return folder


def _shares(text: str) -> tuple[float, ...]:
    """The shares of --prune-to: numbers separated by commas, each above 0 and at most 1."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 < share <= 1 for share in shares):
        raise UsageError(
            f"--prune-to {text} is not a list of shares",
            fix="Give numbers above 0 and at most 1, for instance 0.5,0.25",
        )
    return shares


def clip_audio(folder: Path, avatar: Avatar) -> tuple[Path, Path | None]:
    """The audio file of the clip that the run was trained on, and the file of its speech features
    where the dataset has those that the avatar needs.
    """
    from being.data.dataset import Dataset
    from being.runs.run_directory import Run

    if not (folder / "run.json").is_file():
        raise UsageError(
            "an avatar bundle holds no audio", fix="Give an audio file with --audio FILE"
        )
    dataset = Dataset.open(Run.open(folder).dataset)
    features = dataset.manifest["features"].get(avatar.manifest["encoder"], {})
    if features.get("width") != avatar.feature_width:
        return dataset.audio_file, None
    return dataset.audio_file, dataset.path / features["file"]
