"""Options that several commands share: config, overrides, device, rasterizer, output file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Config file, or name of a shipped one: quick (two CPU cores), 64_dim_1_transformer "
        "(GPU), 64_dim_2_transformer, fast (a smaller network). Default: by the device.",
    ),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="KEY.PATH=VALUE",
        help="Set one config value, for instance train.fine.steps=500; may be repeated. "
        "being config lists all keys.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, or auto: CUDA where there is a GPU.")
]
SplatOption = Annotated[
    str | None,
    typer.Option(
        "--splat",
        metavar="NAME",
        help="Rasterizer: triton (CUDA), cpu, torch (slow, any device), gsplat or diff-gaussian "
        "where they are installed (CUDA); default: auto, the fastest that can run here.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Output file (mp4, mov, mkv or webm; default: in the folder videos/ of the avatar, "
        "where a number is added to a taken name).",
    ),
]


def select_rasterizer(device: str, splat: str | None) -> str:
    """The rasterizer backend that renders on `device`: the one called `splat`, or the fastest.

    Raises UsageError for an unknown name, EnvironmentFault for a device or backend that this
    machine lacks.
    """
    from being.model.device import pick_device
    from being.splat import select_backend

    return select_backend(splat or "auto", pick_device(device))
