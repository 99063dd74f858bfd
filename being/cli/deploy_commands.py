"""Commands for several machines: farm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.command import command
from being.console import console
from being.errors import BeingError, ExitCode

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster to work on, auto for the one of this machine (default: this machine "
        "alone, by a Ray of its own). All its machines must see the files under the same paths.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(
        app,
        "farm",
        fetches=True,
        epilog="Examples: being farm people.yaml; being farm people.yaml --address 10.0.0.5:6379",
    )(farm)


def farm(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST",
            help="YAML file of the subjects: name, video and consent of each, and how it is made; "
            "docs/scaling.md lists the keys.",
        ),
    ],
    address: AddressOption = None,
) -> dict[str, Any]:
    """Preprocess, train and render many subjects, on this machine or a Ray cluster.

    What is done is not done again: after a stop, the same command goes on. A subject that fails
    does not stop the others.
    """
    from being.deploy.farm_manifest import read_manifest

    subjects = read_manifest(manifest)
    from being.deploy.ray_cluster import check_ray

    check_ray()
    from being.deploy.farm_run import run_farm
    from being.deploy.farm_stages import Place
    from being.paths import home

    states = run_farm(subjects, Place.of(home(), manifest), address)
    failed = [state for state in states if state.state == "failed"]
    facts = {"subjects": [state.facts() for state in states]}
    if failed:
        error = BeingError(
            f"{len(failed)} of {len(states)} subjects failed",
            ", ".join(state.name for state in failed),
            "Their lines stand above; the same command tries them again, and no others",
            ExitCode.FAILED,
        )
        error.details = facts
        raise error
    console.info(f"{len(states)} avatars are done")
    return facts
