"""The command eval: measures a run, or compares any video with the true one; writes a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.command import command
from being.cli.options import DeviceOption, SplatOption, select_rasterizer
from being.cli.render_options import DeformationOption
from being.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(
        app,
        "eval",
        fetches=True,
        epilog="Examples: being eval; being eval runs/me/RUN --cross speech.wav,hibari,espeak; "
        "being eval --pred other.mp4 --truth clip.mp4 --require lip_r=0.7,lag=1",
    )(evaluate)


def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Folder of a run (default: the most recent one)."),
    ] = None,
    part: Annotated[
        str, typer.Option("--part", help="Frames to measure on: test, validation or train.")
    ] = "test",
    cross: Annotated[
        list[str] | None,
        typer.Option(
            "--cross",
            metavar="SOURCE,...",
            help="Let the avatar speak these too: audio files, folders of them, voices (hibari, "
            "kokoro:af_heart, espeak:fr), held-out (three voices on which lips are judged); may be "
            "repeated.",
        ),
    ] = None,
    pred: Annotated[
        Path | None, typer.Option("--pred", help="Measure this video instead of a run.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="The true video that --pred is compared with.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --pred: output folder of the report.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Measure only the first so many frames.", min=1)
    ] = None,
    require: Annotated[
        str,
        typer.Option(
            "--require",
            metavar="NAME=BOUND,...",
            help="Exit with code 5 when a figure misses its bound, for instance "
            "lip_r=0.7,lag=1,mouth.lpips=0.07.",
        ),
    ] = "",
    identity: Annotated[
        bool,
        typer.Option(
            "--identity",
            help="Download the network of the identity measure if it is missing (100 MB, once).",
        ),
    ] = False,
    syncnet: Annotated[
        Path | None,
        typer.Option(
            "--syncnet",
            metavar="FILE",
            help="Weights of SyncNet (syncnet_v2.model), for Sync-C and Sync-D; needs the extra "
            "syncnet.",
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--override",
            metavar="KEY.PATH=VALUE",
            help="Measure a run with another data.size or data.holdout than its own, for instance "
            "data.size=512; may be repeated.",
        ),
    ] = None,
    deform: DeformationOption = "network",
    device: DeviceOption = "auto",
    splat: SplatOption = None,
) -> dict[str, Any]:
    """Measure a run on held-out frames, or any video against the true one; writes a report."""
    from being import eval as evaluation

    if pred is None and truth is None:
        if out is not None:
            raise UsageError(
                "--out belongs to --pred",
                "the report of a run goes into the folder of the run",
                "Leave it out",
            )
        rasterizer = select_rasterizer(device, splat)
        return {
            **evaluation.evaluate(
                run,
                part=part,
                device=device,
                cross=cross or (),
                require=require,
                frames=frames,
                identity=identity,
                override=override or (),
                rasterizer=rasterizer,
                syncnet=syncnet,
                deform=deform,
            ),
            "splat": rasterizer,
            "deform": deform,
        }
    if pred is None or truth is None:
        raise UsageError("--pred and --truth belong together", fix="Give both videos")
    changed = part != "test" or deform != "network" or splat is not None or override
    if run is not None or cross or changed:
        raise UsageError(
            "a pair of videos has no run, no part and no avatar",
            fix="Give only --pred, --truth, --out, --frames, --require, --identity and --syncnet",
        )
    return evaluation.evaluate_pair(
        pred,
        truth,
        out=out,
        require=require,
        frames=frames,
        identity=identity,
        syncnet=syncnet,
    )
