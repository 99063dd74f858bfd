"""Commands for data of the GaussianTalker family: data import, data export, import-checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.command import command
from being.cli.data_commands import DatasetArgument, data_group
from being.console import console

ConsentOption = Annotated[
    str | None,
    typer.Option(
        "--consent",
        help="Whose face it is and how they agreed; recorded in the dataset and in every video.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    data = data_group(app)
    command(
        data,
        "import",
        fetches=True,
        epilog="Example: being data import GaussianTalker/data/May --consent 'her own'",
    )(import_)
    command(
        data,
        "export",
        fetches=True,
        epilog="Example: being data export data/me --for gaussiantalker",
    )(export)
    command(
        app,
        "import-checkpoint",
        fetches=True,
        epilog="Example: being import-checkpoint output/May --data data/May",
    )(import_checkpoint)


def import_(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder that AD-NeRF, RAD-NeRF, ER-NeRF, GaussianTalker, TalkingGaussian, InsTaG "
            "or SyncTalk made from a video.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Dataset directory (default: data/<name>).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the subject (default: DIR's).")
    ] = None,
    consent: ConsentOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset.")] = False,
) -> dict[str, Any]:
    """Make a dataset from another system's; its cameras, masks and features stay as they are."""
    from being.interop.family import import_family
    from being.paths import home

    subject = name or directory.resolve().name
    report = import_family(
        directory, out or home() / "data" / subject, name=subject, consent=consent, force=force
    )
    console.info(f"{report.system}, {report.frames} frames")
    parts = {"found": report.found, "rebuilt": report.rebuilt, "missing": report.missing}
    for title, lines in parts.items():
        for line in lines:
            console.info(f"  {title:<8} {line}")
    console.info(f"dataset {report.path}\nnext: being train {report.path}")
    return {
        "dataset": str(report.path),
        "system": report.system,
        "frames": report.frames,
        **parts,
    }


def export(
    dataset: DatasetArgument = None,
    system: Annotated[
        str, typer.Option("--for", help="gaussiantalker, talkinggaussian or instag.")
    ] = "gaussiantalker",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output directory (default: exports/<name>-<system>)."),
    ] = None,
    full_width: Annotated[
        bool,
        typer.Option(
            "--full-width",
            help="Keep all channels of the speech features; one line of the system's code must "
            "change then, and the command prints it.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> dict[str, Any]:
    """Write a dataset as a directory on which another system of the family can train."""
    from being.data.dataset import Dataset
    from being.interop.family import export_family
    from being.paths import home, latest_dataset

    source = dataset or latest_dataset()
    target = out or home() / "exports" / f"{Dataset.open(source).name}-{system}"
    report = export_family(source, system, target, full_width=full_width, force=force)
    for line in [*report.written, *report.notes]:
        console.info(f"  {line}")
    if report.code_change:
        console.info(f"one line of the system's code must change: {report.code_change}")
    console.info(f"directory {report.path}")
    return {
        "directory": str(report.path),
        "system": system,
        "written": report.written,
        "notes": report.notes,
        "change": report.code_change,
    }


def import_checkpoint(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a trained GaussianTalker (its --model_path)."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Dataset of the poses, plates and audio: the one imported from the directory on "
            "which it was trained.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run (default: under runs/).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the subject (default: the clip's).")
    ] = None,
    iteration: Annotated[
        int | None, typer.Option("--iteration", help="Iteration to import (default: the last).")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Its config, for the number of attention heads (default: that of its cfg_args, "
            "else 2).",
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--override",
            metavar="KEY.PATH=VALUE",
            help="Set one config value: model.n_head, avatar.seconds or avatar.plate_quality.",
        ),
    ] = None,
    consent: ConsentOption = None,
) -> dict[str, Any]:
    """Import a trained GaussianTalker as a run for render, tts-video and bench-fps."""
    from being.config import load
    from being.interop.gaussiantalker import importer

    settings = load(config, override)
    names = [item.partition("=")[0].strip() for item in override or []]
    heads_given = config is not None or "model.n_head" in names
    imported = importer.import_checkpoint(
        directory,
        data,
        out,
        name=name,
        iteration=iteration,
        heads=settings.model.n_head if heads_given else None,
        consent=consent,
        avatar=settings.avatar,
    )
    for line in imported.warnings:
        console.warn(line)
    for line in imported.notes:
        console.info(f"  {line}")
    console.info(
        f"run {imported.run} (iteration {imported.iteration}, {imported.gaussians} Gaussians)\n"
        f'next: being tts-video {imported.run} --text "Hello"'
    )
    return {
        "run": str(imported.run),
        "iteration": imported.iteration,
        "gaussians": imported.gaussians,
        "notes": imported.notes,
        "warnings": imported.warnings,
    }
