"""The command view: looks at an avatar or a dataset, in a window or in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.command import command
from being.console import console
from being.errors import UsageError

if TYPE_CHECKING:
    from being.view.content import Content


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(
        app,
        "view",
        fetches=True,
        epilog="Examples: being view; being view data/me --frame 100 --out look; "
        "being view --window --ellipsoids",
    )(view)


def view(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN|DATASET|AVATAR",
            help="Folder of a run, a dataset or an avatar bundle (default: the most recent "
            "finished run; without one, the most recent dataset).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder of view.png and view.html (default: view/ in the run or dataset; of an "
            "avatar bundle alone, NAME-view).",
        ),
    ] = None,
    window: Annotated[
        bool,
        typer.Option(
            "--window",
            help="Open a window and write nothing; needs being[view] and a display. Without "
            "--out this is the default where both are there.",
        ),
    ] = False,
    ellipsoids: Annotated[
        bool,
        typer.Option("--ellipsoids", help="The window begins with ellipsoids instead of points."),
    ] = False,
    audio: Annotated[
        Path | None,
        typer.Option(
            "--audio",
            metavar="FILE",
            help="Speech of the driven frame (default: the run's clip; else the built-in sample).",
        ),
    ] = None,
    frame: Annotated[
        int | None,
        typer.Option(
            "--frame",
            metavar="N",
            help="Dataset: the frame whose mesh is shown (default: in the middle). Avatar: the "
            "frame of the audio that drives it (default: the loudest).",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace files of these names that being did not make."),
    ] = False,
) -> dict[str, Any]:
    """Look at the Gaussians, the face mesh, the camera path and the tri-planes.

    In an open3d window, or as a picture and a page of one file that shows them in a browser.
    """
    if window and out is not None:
        raise UsageError("--window writes no files", fix="Give --window or --out, not both")
    from being.view.display import check_window, has_display, has_open3d
    from being.view.places import default_folder, find_source

    if window:
        check_window()
    kind, folder = find_source(source)
    console.info(f"{kind} {folder}")
    if kind == "dataset" and audio is not None:
        raise UsageError(
            "a dataset is not driven by audio", f"{folder} is a dataset", "Leave --audio out"
        )
    in_window = window or (out is None and has_open3d() and has_display())
    result: dict[str, Any] = {"source": str(folder), "kind": kind}
    if in_window:
        _show(_content(kind, folder, audio, frame), ellipsoids)
        return {**result, "window": True}
    if ellipsoids:
        console.info("--ellipsoids is for the window; the page has a switch for them")
    return {
        **result,
        **_write(kind, folder, out or default_folder(kind, folder), audio, frame, force),
    }


def _content(kind: str, folder: Path, audio: Path | None, frame: int | None) -> Content:
    if kind == "dataset":
        from being.view.dataset_content import dataset_content

        return dataset_content(folder, frame)
    from being.view.avatar_content import avatar_content

    return avatar_content(folder, audio, frame)


def _show(content: Content, ellipsoids: bool) -> None:
    """Show the content in a window until it is closed; print the keys."""
    from being.view.display import KEYS
    from being.view.window import show

    for key, meaning in KEYS:
        console.info(f"  {key}  {meaning}")
    show(content, ellipsoids)


def _write(
    kind: str, folder: Path, out: Path, audio: Path | None, frame: int | None, force: bool
) -> dict[str, Any]:
    """Write picture and page; print where they are."""
    from being.view.files import check_view_folder, write_view

    check_view_folder(out, force)
    content = _content(kind, folder, audio, frame)
    written = write_view(out, content)
    console.info(
        f"picture {written.picture}\n"
        f"page {written.page} ({written.page_bytes / 1e6:.1f} MB, open it in a browser)"
    )
    return {
        "window": False,
        "picture": str(written.picture),
        "page": str(written.page),
        "page_bytes": written.page_bytes,
        "gaussians": [len(cloud) for cloud in content.clouds],
        "frames": len(content.cameras.world_to_camera),
    }
