"""`being preprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.shell import command


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""

    @command(app, "preprocess", epilog="Example: being preprocess me.mp4 --consent 'my own face'")
    def preprocess(
        video: Annotated[Path, typer.Argument(metavar="VIDEO", help="Video of one person who speaks to the "
                                                                "camera, with sound, 2 s or longer.")],
        out: Annotated[Path | None, typer.Option("--out", help="Dataset directory (default: data/<name>).")] = None,
        name: Annotated[str | None, typer.Option("--name", help="Name of the subject (default: the video's).")] = None,
        size: Annotated[int | None, typer.Option("--size", help="Side of the square picture in px (default: the "
                                                                "clip's, at most 512).", min=128, max=2048)] = None,
        consent: Annotated[str | None, typer.Option("--consent", help="Whose face it is and how they agreed; recorded "
                                                                      "in the dataset and in every video.")] = None,
        force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset.")] = False,
    ) -> dict[str, Any]:
        """Turn a video into a dataset: frames, landmarks, head poses, masks, plates, speech features."""
        from being.files import home
        from being.preprocess import preprocess as run
        from being.progress import say

        subject = name or video.stem
        folder = out or home() / "data" / subject
        path = run(video, folder, name=subject, size=size, consent=consent, force=force)
        say(f"dataset {path}\nlook at {path / 'contact_sheet.jpg'}\nnext: being train {path}")
        return {"dataset": str(path)}
