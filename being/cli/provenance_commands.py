"""Command about the marks of files: verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.command import command
from being.console import console

WIDTH = 22  # characters of the first column


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "verify", epilog="Example: being verify speech.mp4")(verify)


def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A video, a sound, a picture, a folder of PNG pictures, a recorded stream, or the "
            "manifest of a session (.json).",
        ),
    ],
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="ROOTS.pem",
            help="Root certificates; a signature that leads to one of them is trusted.",
        ),
    ] = None,
    watermark: Annotated[
        bool,
        typer.Option("--watermark/--no-watermark", help="Look for the watermark in the pixels."),
    ] = True,
) -> dict[str, Any]:
    """Say what the marks of a file tell: AI-generated or not, whose avatar, consent, time.

    Metadata, Content Credentials (C2PA), marks of a stream's pictures and the watermark are read.
    The key of the watermark is that of BEING_WATERMARK_KEY, else the public one. Exit code 0: a
    mark says AI-generated, and none is broken; 5: nothing says so, or a mark is broken.
    """
    from being.provenance.verification import missing_marks
    from being.provenance.verification import verify as read_marks
    from being.provenance.watermark import chosen_key

    verdict = read_marks(file, chosen_key(), trust, watermark)
    for found in verdict.findings:
        console.info(f"{found.mark:<{WIDTH}}{found.state:<8}{found.text}")
    if error := missing_marks(verdict):
        raise error
    console.info(f"{file} is AI-generated")
    return verdict.facts()
