"""`being train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.shell import ConfigOption, DeviceOption, OverrideOption, SplatOption, command
from being.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(
        app,
        "train",
        epilog="Examples: being train data/me; being train --stage fine; "
        "being train data/me --config quick -o train.fine.steps=500",
    )(train)


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Dataset directory (default: the most "
            "recent one; with no choice at all the newest "
            "run goes on if it is not finished).",
        ),
    ] = None,
    stage: Annotated[
        str,
        typer.Option(
            "--stage",
            help="How far to go: coarse, fine (coarse first where it is not done), or all.",
        ),
    ] = "all",
    config: ConfigOption = None,
    override: OverrideOption = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Go on with this run, on its own dataset and config."),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Start a new run even where an unfinished one could go on."),
    ] = False,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            help="Share of the clip held out at its end, 0 to 0.9 (default: the family's 1/11).",
        ),
    ] = None,
    until_plateau: Annotated[
        bool,
        typer.Option(
            "--until-plateau",
            help="End the fine stage when its held-out "
            "PSNR has levelled off, with a short cool-down.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    splat: SplatOption = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="wandb",
            help="Send the figures to Weights & Biases "
            "too (TensorBoard's events are always written).",
        ),
    ] = None,
) -> dict[str, Any]:
    """Train an avatar: the coarse stage (a still head), then the fine one (moved by sound)."""
    from being.config import load
    from being.console import say
    from being.model.device import pick_device
    from being.paths import latest_dataset
    from being.train.training import continued
    from being.train.training import train as work

    choices = {
        "DATA": data,
        "--config": config,
        "-o": override or None,
        "--fresh": fresh or None,
        "--holdout": holdout,
        "--until-plateau": until_plateau or None,
    }
    given = [name for name, value in choices.items() if value is not None]
    if run is not None and given:
        raise UsageError(
            f"--run and {given[0]} exclude each other",
            "a run goes on with its own data and config",
            "Leave one of them out",
        )
    if run is None and not given:
        run = continued(stage)
    if config is None and run is None:
        gpu = pick_device(device).type == "cuda"
        config = Path("64_dim_1_transformer" if gpu else "quick")
        say(
            f"config {config} ({'the model of record' if gpu else 'no GPU is used; on one: 64_dim_1_transformer'})"
        )
    settings = load(
        config, override, {"data.holdout": holdout, "train.until_plateau": until_plateau or None}
    )
    label = config.stem if config else ""
    folder = data if data is not None else latest_dataset() if run is None else None
    if folder is not None:
        say(f"dataset {folder}")
    done = work(folder, settings, label, stage, run, fresh, device, splat=splat, log=log)
    if done.record.get("finished"):
        say(
            f"avatar {done.path / 'avatar'}\nsee {done.path / 'previews'}\n"
            f'next: being tts-video --text "Hello"'
        )
    return {
        "run": str(done.path),
        "finished": bool(done.record.get("finished")),
        "best_psnr_head": done.record.get("best"),
        "device": done.record["device"],
        "splat": done.record["splat"],
    }
