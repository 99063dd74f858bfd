"""`being`: the command line. Commands parse, call and print; the work is in the package."""

from __future__ import annotations

import typer

import being
from being.cli import avatar_commands, data_commands, train_commands
from being.cli.shell import stop_on_sigterm

app = typer.Typer(name="being", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="A short video of a person in, a talking avatar out: video, dataset, avatar, frames.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"being {being.__version__}")
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True,
                                       help="Print the version.")) -> None:
    pass


for group in (data_commands, train_commands, avatar_commands):
    group.register(app)


def main() -> None:
    """Entry point of the `being` program."""
    stop_on_sigterm()
    app()
