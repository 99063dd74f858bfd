"""The group of commands `being data ...`; every file that adds one asks for it here."""

from __future__ import annotations

import typer

NAME = "data"


def group(app: typer.Typer) -> typer.Typer:
    """The group `data` of `app`, made when it is first asked for."""
    for info in app.registered_groups:
        if info.name == NAME and info.typer_instance is not None:
            return info.typer_instance
    made = typer.Typer(
        name=NAME, help="Datasets in and out: other systems' directories, single files."
    )
    app.add_typer(made, name=NAME)
    return made
