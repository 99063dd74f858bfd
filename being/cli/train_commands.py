"""The commands train and config: train an avatar, list the config keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.command import command
from being.cli.options import ConfigOption, DeviceOption, OverrideOption, SplatOption
from being.cli.server_packages import check_server_packages
from being.console import console
from being.errors import UsageError

if TYPE_CHECKING:
    from being.config import KeyDescription

GPU_CONFIG, CPU_CONFIG = "64_dim_1_transformer", "quick"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(
        app,
        "train",
        fetches=True,
        epilog="Examples: being train data/me; being train --stage fine; "
        "being train data/me --config quick -o train.fine.steps=500",
    )(train)
    command(
        app, "config", epilog="Examples: being config; being config quick; being config --json"
    )(config_)


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Dataset directory (default: the most recent one; without any other choice, the "
            "newest run continues if it is unfinished).",
        ),
    ] = None,
    stage: Annotated[
        str,
        typer.Option(
            "--stage",
            help="Last stage to train: coarse, fine (coarse first if it is not done), or all.",
        ),
    ] = "all",
    config: ConfigOption = None,
    override: OverrideOption = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Continue this run, with its own dataset and config."),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Start a new run even if an unfinished one could continue."),
    ] = False,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            help="Share of the clip held out at its end, 0 to 0.9 (default: 1/11, as in "
            "GaussianTalker).",
        ),
    ] = None,
    until_plateau: Annotated[
        bool,
        typer.Option(
            "--until-plateau",
            help="End the fine stage when its held-out PSNR no longer rises, with a short "
            "cool-down.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    splat: SplatOption = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            metavar="wandb",
            help="Send the figures to Weights & Biases too (TensorBoard's events are always "
            "written).",
        ),
    ] = None,
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="Show figures, sheets and previews as they come in a page on this machine "
            "(needs being[serve]).",
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", help="Port of --page (default 8092).", min=1),
    ] = None,
) -> dict[str, Any]:
    """Train an avatar: the coarse stage (a still head), then the fine stage (driven by audio)."""
    from being.config import load
    from being.paths import latest_dataset
    from being.train.training import run_to_continue, train_avatar

    # What was chosen; a run that continues has its own data and config.
    choices = {
        "DATA": data,
        "--config": config,
        "-o": override or None,
        "--fresh": fresh or None,
        "--holdout": holdout,
        "--until-plateau": until_plateau or None,
    }
    chosen = [name for name, value in choices.items() if value is not None]
    if run is not None and chosen:
        raise UsageError(
            f"--run and {chosen[0]} exclude each other",
            "a run continues with its own data and config",
            "Leave one of them out",
        )
    if run is None and not chosen:
        run = run_to_continue(stage)

    # The defaults of a new run: config by the device, and the most recent dataset.
    if config is None and run is None:
        config = _config_for_device(device)
    if data is None and run is None:
        data = latest_dataset()
    if data is not None:
        console.info(f"dataset {data}")

    flags = {"data.holdout": holdout, "train.until_plateau": until_plateau or None}
    settings = load(config, override, flags)
    with _page(page, port) as started:
        trained = train_avatar(
            data,
            settings,
            config.stem if config else "",
            stage,
            run,
            fresh,
            device,
            splat=splat,
            log=log,
            started=started,
        )
    finished = bool(trained.record.get("finished"))
    if finished:
        console.info(
            f"avatar {trained.path / 'avatar'}\nsee {trained.path / 'previews'}\n"
            f'next: being tts-video --text "Hello"'
        )
    return {
        "run": str(trained.path),
        "finished": finished,
        "best_psnr_head": trained.record.get("best"),
        "device": trained.record["device"],
        "splat": trained.record["splat"],
    }


def _config_for_device(device: str) -> Path:
    """The shipped config for the device; prints it."""
    from being.model.device import pick_device

    gpu = pick_device(device).type == "cuda"
    config = GPU_CONFIG if gpu else CPU_CONFIG
    why = "the model of record" if gpu else f"no GPU is used; with one: {GPU_CONFIG}"
    console.info(f"config {config} ({why})")
    return Path(config)


@contextmanager
def _page(wanted: bool, port: int | None) -> Iterator[Callable[[Path], None]]:
    """Serve the page of the training if `wanted`; gives what tells it the run."""
    if not wanted:
        if port is not None:
            raise UsageError("--port belongs to --page", fix="Add --page, or leave --port out")
        yield lambda run: None
        return
    check_server_packages("the page of a training")
    from being.run_page.server import DEFAULT_PORT, RunPage

    with RunPage(port or DEFAULT_PORT) as server:
        console.info(f"page {server.url}")
        yield server.show


def config_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Config file, or name of a shipped one (default: the default values).",
        ),
    ] = None,
    override: OverrideOption = None,
) -> dict[str, Any]:
    """List every config key with its value, its bounds and its meaning."""
    from being.config import describe, load

    keys = describe(load(name, override))
    defaults = {key.name: key.value for key in describe()}
    for key in keys:
        console.info(_key_line(key, defaults[key.name]))
        console.info(f"    {key.help}")
    return {
        "config": name,
        "keys": [
            {
                "key": key.name,
                "value": key.value,
                "default": defaults[key.name],
                "min": _finite_or_none(key.bounds[0]) if key.bounds else None,
                "max": _finite_or_none(key.bounds[1]) if key.bounds else None,
                "help": key.help,
            }
            for key in keys
        ],
    }


def _key_line(key: KeyDescription, default: Any) -> str:
    """A key with its value, and in parentheses its default where that differs, and its bounds."""
    notes = []
    if key.value != default:
        notes.append(f"default {_as_yaml(default)}")
    if key.bounds:
        least, most = (_finite_or_none(bound) for bound in key.bounds)
        if least is not None:
            notes.append(f"at least {least:g}")
        if most is not None:
            notes.append(f"at most {most:g}")
    line = f"{key.name}: {_as_yaml(key.value)}"
    return f"{line}  ({', '.join(notes)})" if notes else line


def _as_yaml(value: Any) -> str:
    """A config value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_as_yaml(item) for item in value)}]"
    return str(value)


def _finite_or_none(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None
