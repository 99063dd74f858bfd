"""The command refine: rendered frames through a local diffusion model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.avatar_commands import clip_audio
from being.cli.command import command
from being.cli.options import DeviceOption, OutOption, SplatOption, select_rasterizer
from being.cli.render_options import (
    BitRateOption,
    CodecOption,
    ForceOption,
    QualityOption,
    WatermarkOption,
)
from being.console import console
from being.errors import InputRejected, UsageError
from being.paths import cut_name

if TYPE_CHECKING:
    import numpy as np
    import torch

    from being.inference.engine import Engine
    from being.inference.video import VideoOutput
    from being.refine.image_model import DiffusionModel
    from being.refine.refiner import RefineSettings
    from being.refine.video import FaceTools

STEM_BYTES = 200  # of a video's name that is made from the source's
COMPARED_FRAMES = 25


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(
        app,
        "refine",
        fetches=True,
        epilog="Examples: being refine runs/me/RUN --audio speech.wav --model sd-turbo; "
        "being refine speech.mp4 --model sd-turbo --compare",
    )(refine)


def refine(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VIDEO|RUN",
            help="A rendered video, or the folder of a run or of an avatar bundle, which is "
            "rendered now.",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            metavar="DIR",
            help="Folder of a Stable Diffusion pipeline as diffusers saves it, with safetensors "
            "weights, for instance SD-Turbo. Nothing of it is fetched, and its licence is yours "
            "to check.",
        ),
    ],
    audio: Annotated[
        Path | None,
        typer.Option(
            "--audio", help="With RUN: speech, any audio or video file (default: the clip's)."
        ),
    ] = None,
    strength: Annotated[
        float,
        typer.Option("--strength", help="How much the model may change, 0.05 (little) to 1."),
    ] = 0.3,
    steps: Annotated[int, typer.Option("--steps", help="Denoising steps a frame, 1 to 50.")] = 1,
    blend: Annotated[
        float,
        typer.Option(
            "--blend",
            help="Share of the last frame's change that is taken on where the picture only moved, "
            "0 to 0.95: more flickers less.",
        ),
    ] = 0.5,
    prompt: Annotated[
        str, typer.Option("--prompt", help="What the model is told of the frames.")
    ] = "a photo of a person speaking, sharp, natural skin",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Another number gives other noise.")
    ] = 0,
    side: Annotated[
        int | None,
        typer.Option(
            "--side",
            metavar="PX",
            help="Shorter side of the frames that the model sees, 64 to 2048 (default: the size "
            "that it was trained on).",
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Frames that the model changes at once, 1 to 64.")
    ] = 4,
    mouth: Annotated[
        bool,
        typer.Option("--keep-mouth/--refine-mouth", help="Leave the mouth as the engine drew it."),
    ] = True,
    guard: Annotated[
        bool,
        typer.Option(
            "--guard/--no-guard",
            help="Hold the change back where the face becomes another person's, by the "
            "face-recognition network of eval --identity (100 MB, fetched once).",
        ),
    ] = True,
    limit: Annotated[
        float,
        typer.Option(
            "--identity-limit",
            metavar="DISTANCE",
            help="Distance from the unrefined face that the guard allows; from 0.6 on two faces "
            "count as two people's.",
        ),
    ] = 0.3,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Write no video: print frames/s, identity and flicker at the strengths 0.1 to 0.5 "
            "over the first frames.",
        ),
    ] = False,
    frames: Annotated[
        int | None,
        typer.Option("--frames", metavar="N", min=2, max=500, help="Frames of --compare."),
    ] = None,
    out: OutOption = None,
    codec: CodecOption = None,
    crf: QualityOption = None,
    bitrate: BitRateOption = None,
    watermark: WatermarkOption = True,
    force: ForceOption = False,
    device: DeviceOption = "auto",
    splat: SplatOption = None,
) -> dict[str, Any]:
    """Pass frames through a local diffusion model: sharper, slower, and watched over.

    The mouth stays as the engine drew it, and the change is held back where the face becomes
    another's. The video gets the same marks as all others.
    """
    from being.refine.refiner import RefineSettings

    if not source.exists():
        raise InputRejected(f"{source} does not exist", fix="Give a video, or the folder of a run")
    if not source.is_dir() and (audio is not None or splat is not None):
        raise UsageError("--audio and --splat belong to RUN", f"{source} is a video")
    if frames is not None and not compare:
        raise UsageError("--frames belongs to --compare", fix="Give --compare too")
    if compare and out is not None:
        raise UsageError("--compare writes no video", "--out was given", "Leave one of them out")
    settings = RefineSettings(strength, steps, blend, batch, side, mouth, limit if guard else None)
    job = _Job(model, settings, prompt, seed, pick_checked(model, device), frames)
    if not source.is_dir():
        output = _output(source.with_name(source.stem), source, out, codec, crf, bitrate)
        output = replace(output, watermark=watermark, force=force)
        result = job.video(source, output, compare)
    else:
        engine = _engine(source, job.device, select_rasterizer(device, splat))
        spoken, features = (audio, None) if audio else clip_audio(source, engine.avatar)
        output = _output(source / "videos" / spoken.stem, spoken, out, codec, crf, bitrate)
        output = replace(output, watermark=watermark, force=force)
        result = job.avatar(engine, spoken, features, output, compare)
    if not compare:
        _report(result)
    return {**result, "model": str(model)}


def pick_checked(model: Path, device: str) -> torch.device:
    """The device, once it is known that the folder of the model may be loaded."""
    from being.model.device import pick_device
    from being.refine.model_folder import ModelFolder

    ModelFolder.checked(model)
    return pick_device(device)


@dataclass(frozen=True)
class _Job:
    """What is refined, how."""

    model: Path
    settings: RefineSettings
    prompt: str
    seed: int
    device: torch.device
    frames: int | None  # that are compared

    def _loaded(self) -> tuple[DiffusionModel, FaceTools]:
        """The networks. The guard's network measures too, when it holds nothing back."""
        from being.refine.image_model import DiffusionModel
        from being.refine.video import FaceTools

        model = DiffusionModel(self.model, self.device, self.prompt, self.seed)
        return model, FaceTools.load(self.settings.keep_mouth, self.settings.limit is not None)

    def video(self, source: Path, output: VideoOutput, compare: bool) -> dict[str, Any]:
        """Refine a video file, or compare strengths on it; figures."""
        from being.media import read_frames
        from being.refine.video import refine_video

        if compare:
            images = list(itertools.islice(read_frames(source), self.frames or COMPARED_FRAMES))
            return self._compared(images, None)
        output.check()
        model, tools = self._loaded()
        return refine_video(source, output, model, self.settings, tools)

    def avatar(
        self,
        engine: Engine,
        audio: Path,
        features: Path | None,
        output: VideoOutput,
        compare: bool,
    ) -> dict[str, Any]:
        """Refine an avatar that speaks an audio file, or compare strengths on it; figures."""
        from being.inference.video import VideoAudio
        from being.media import read_audio, read_original_audio
        from being.refine.video import engine_frames, refine_avatar

        if not compare:
            output.check()
        samples = read_audio(audio)
        if compare:
            return self._compared(*engine_frames(engine, samples, self.frames or COMPARED_FRAMES))
        track = VideoAudio(*read_original_audio(audio))
        model, tools = self._loaded()
        return refine_avatar(
            engine, samples, output, str(audio), model, self.settings, tools, track, features
        )

    def _compared(self, images: list[np.ndarray], engine_ms: float | None) -> dict[str, Any]:
        """Rows of all strengths on these frames."""
        from being.refine.video import compare_strengths

        model, tools = self._loaded()
        console.info(f"{len(images)} frames of {images[0].shape[1]}x{images[0].shape[0]} px")
        rows = compare_strengths(images, engine_ms, model, self.settings, tools)
        return {"frames": len(images), "strengths": rows}


def _engine(folder: Path, device: torch.device, rasterizer: str) -> Engine:
    from being.inference.engine import Engine

    console.info(f"avatar {folder}")
    return Engine.load(folder, device, rasterizer=rasterizer)


def _output(
    stem: Path,
    source: Path,
    out: Path | None,
    codec: str | None,
    crf: int | None,
    bitrate: str | None,
) -> VideoOutput:
    """The video to write: `out`, by default STEM-refined.mp4."""
    from being.inference.video import VideoOutput
    from being.media.video_formats import VideoSettings, default_suffix, parse_bitrate

    rate = None if bitrate is None else parse_bitrate(bitrate)
    settings = VideoSettings(codec, crf, rate)
    name = f"{cut_name(stem.name, STEM_BYTES)}-refined{default_suffix(settings)}"
    path = out or stem.with_name(name)
    return VideoOutput(path, (source,), free_name=out is None, settings=settings)


def _report(result: dict[str, Any]) -> None:
    """Print what the refinement gave and cost."""
    console.info(f"video {result['video']} ({result['frames']} frames)")
    engine = "" if result["engine_ms"] is None else f"engine {result['engine_ms']:.1f} ms, "
    rate = result["frames_per_second_together"]
    console.info(f"  {engine}refinement {result['refine_ms']:.1f} ms a frame: {rate:.2f} frames/s")
    if result["identity_mean"] is not None:
        console.info(
            f"  identity {result['identity_mean']:.3f} from the unrefined face, worst "
            f"{result['identity_max']:.3f}; {result['held_back']} frames held back"
        )
    if result["faceless"]:
        console.warn(f"{result['faceless']} frames show no face: they stay as they are")
    if result["flicker_after"] is not None:
        before, after = result["flicker_before"], result["flicker_after"]
        console.info(f"  flicker {after:.2f} of 255 levels, before {before:.2f}")
