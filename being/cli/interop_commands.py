"""`being data import`, `data export`, `import-checkpoint`: to and from the GaussianTalker family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.data_group import group
from being.cli.shell import command

ConsentOption = Annotated[
    str | None,
    typer.Option(
        "--consent",
        help="Whose face it is and how they agreed; recorded in the dataset and in every video.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    data = group(app)
    command(
        data,
        "import",
        epilog="Example: being data import GaussianTalker/data/May --consent 'her own'",
    )(import_)
    command(data, "export", epilog="Example: being data export data/me --for gaussiantalker")(
        export
    )
    command(
        app,
        "import-checkpoint",
        epilog="Example: being import-checkpoint output/May --data data/May",
    )(import_checkpoint)


def import_(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="What AD-NeRF, RAD-NeRF, ER-NeRF, "
            "GaussianTalker, TalkingGaussian, InsTaG or SyncTalk made of a "
            "video.",
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
    """Make a dataset of another system's preprocessing: its cameras, masks and features stay as
    they are.
    """
    from being.console import say
    from being.interop.family import import_family
    from being.paths import home

    subject = name or directory.resolve().name
    report = import_family(
        directory, out or home() / "data" / subject, name=subject, consent=consent, force=force
    )
    say(f"{report.system}, {report.frames} frames")
    for title, lines in (
        ("found", report.found),
        ("rebuilt", report.rebuilt),
        ("missing", report.missing),
    ):
        for line in lines:
            say(f"  {title:<8} {line}")
    say(f"dataset {report.path}\nnext: being train {report.path}")
    return {
        "dataset": str(report.path),
        "system": report.system,
        "frames": report.frames,
        "found": report.found,
        "rebuilt": report.rebuilt,
        "missing": report.missing,
    }


def export(
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="DATASET", help="Dataset directory (default: the most recent one)."),
    ] = None,
    system: Annotated[
        str, typer.Option("--for", help="gaussiantalker, talkinggaussian or instag.")
    ] = "gaussiantalker",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory to write (default: exports/<name>-<system>)."),
    ] = None,
    full_width: Annotated[
        bool,
        typer.Option(
            "--full-width",
            help="Keep all channels of the speech features: a "
            "line of the system's code has to change, and is named.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> dict[str, Any]:
    """Write a dataset as a directory that another system of the family reads and trains on."""
    from being.console import say
    from being.data.dataset import Dataset
    from being.interop.family import export_family
    from being.paths import home, latest_dataset

    source = dataset or latest_dataset()
    place = out or home() / "exports" / f"{Dataset.open(source).name}-{system}"
    report = export_family(source, system, place, full_width=full_width, force=force)
    for line in [*report.written, *report.notes]:
        say(f"  {line}")
    if report.change:
        say(f"one line of their code to change: {report.change}")
    say(f"directory {report.path}")
    return {
        "directory": str(report.path),
        "system": system,
        "written": report.written,
        "notes": report.notes,
        "change": report.change,
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
            help="Dataset that gives poses, plates and sound: the one "
            "imported from the directory it was trained on.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run (default: under runs/).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the subject (default: the clip's).")
    ] = None,
    iteration: Annotated[
        int | None, typer.Option("--iteration", help="Which one (default: the last).")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Its config, for the number of attention heads "
            "(default: what cfg_args says, else 2).",
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
    """Turn a trained GaussianTalker into a run that render, tts-video and bench-fps take."""
    from being.config import load
    from being.console import say, warn
    from being.interop.gaussiantalker.importer import import_checkpoint as work

    settings = load(config, override)
    told = config is not None or any(
        item.partition("=")[0].strip() == "model.n_head" for item in override or []
    )
    done = work(
        directory,
        data,
        out,
        name=name,
        iteration=iteration,
        heads=settings.model.n_head if told else None,
        consent=consent,
        avatar=settings.avatar,
    )
    for line in done.warnings:
        warn(line)
    for line in done.notes:
        say(f"  {line}")
    say(
        f"run {done.run} (iteration {done.iteration}, {done.gaussians} Gaussians)\n"
        f'next: being tts-video {done.run} --text "Hello"'
    )
    return {
        "run": str(done.run),
        "iteration": done.iteration,
        "gaussians": done.gaussians,
        "notes": done.notes,
        "warnings": done.warnings,
    }
