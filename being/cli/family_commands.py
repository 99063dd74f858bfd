"""`being data import`: datasets of the AD-NeRF / ER-NeRF / GaussianTalker / InsTaG family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.data_group import group
from being.cli.shell import command

ConsentOption = Annotated[str | None, typer.Option("--consent", help="Whose face it is and how they agreed; recorded "
                                                                     "in the dataset and in every video.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    data = group(app)

    @command(data, "import", epilog="Example: being data import GaussianTalker/data/May --consent 'her own'")
    def import_(
        directory: Annotated[Path, typer.Argument(metavar="DIR", help="What AD-NeRF, RAD-NeRF, ER-NeRF, "
                                                  "GaussianTalker, TalkingGaussian, InsTaG or SyncTalk made of a "
                                                  "video.")],
        out: Annotated[Path | None, typer.Option("--out", help="Dataset directory (default: data/<name>).")] = None,
        name: Annotated[str | None, typer.Option("--name", help="Name of the subject (default: DIR's).")] = None,
        consent: ConsentOption = None,
        force: Annotated[bool, typer.Option("--force", help="Replace an existing dataset.")] = False,
    ) -> dict[str, Any]:
        """Make a dataset of another system's preprocessing: its cameras, masks and features stay as they are."""
        from being.data.family import import_family
        from being.files import home
        from being.progress import say

        subject = name or directory.resolve().name
        report = import_family(directory, out or home() / "data" / subject, name=subject, consent=consent, force=force)
        say(f"{report.system}, {report.frames} frames")
        for title, lines in (("found", report.found), ("rebuilt", report.rebuilt), ("missing", report.missing)):
            for line in lines:
                say(f"  {title:<8} {line}")
        say(f"dataset {report.path}\nnext: being train {report.path}")
        return {"dataset": str(report.path), "system": report.system, "frames": report.frames, "found": report.found,
                "rebuilt": report.rebuilt, "missing": report.missing}
