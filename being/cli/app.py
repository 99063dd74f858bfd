"""The program `being`: the command line with all its commands."""

from __future__ import annotations

import typer

import being
from being.cli import (
    avatar_commands,
    data_commands,
    deploy_commands,
    eval_commands,
    interop_commands,
    library_commands,
    live_commands,
    machine_commands,
    provenance_commands,
    refine_commands,
    train_commands,
    view_commands,
)
from being.cli.command import Commands, keep_standard_streams, stop_on_signals
from being.threads import prepare_threads

HELP = (
    "A short video of a person in, a talking avatar out: being preprocess, then train, then "
    "tts-video."
)
EPILOG = (
    "Datasets go to data/<name>/ and runs to runs/<name>/ under the current directory, or under "
    "BEING_HOME. Exit codes: 0 done, 1 failed, 2 usage or config, 3 something this machine lacks, "
    "4 the input was rejected, 5 a quality gate was missed, 130 interrupted."
)
app = typer.Typer(
    name="being",
    cls=Commands,
    pretty_exceptions_enable=False,
    help=HELP,
    epilog=EPILOG,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"being {being.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


for group in (
    data_commands,
    train_commands,
    avatar_commands,
    live_commands,
    deploy_commands,
    eval_commands,
    interop_commands,
    library_commands,
    view_commands,
    refine_commands,
    provenance_commands,
    machine_commands,
):
    group.register(app)


def main() -> None:
    """Run the program; the entry point `being`."""
    keep_standard_streams()
    stop_on_signals()
    prepare_threads()
    app()


if __name__ == "__main__":
    main()
