"""The files of a view: `view.png` and `view.html`, made without a display."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from being.errors import BeingError
from being.files import write_text
from being.interop.export_files import check_export_files, exported_together
from being.view import drawing
from being.view.content import Content, Picture
from being.view.page_writing import page
from being.view.sheet import SIDE, notes, sheet, write_sheet

PICTURE_FILE, PAGE_FILE = "view.png", "view.html"
STILL_SIDE = 480  # px
PATH_SIZE = 560, 150  # px, of the camera path in the page


@dataclass(frozen=True)
class ViewFiles:
    """The written files."""

    picture: Path
    page: Path
    page_bytes: int


def check_view_folder(folder: Path, force: bool = False) -> None:
    """Raise BeingError where the files cannot be written, or others of these names are there.

    force: these may be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise BeingError(f"{folder} is a file, not a folder", fix="Choose another one with --out")
    check_export_files([folder / PICTURE_FILE, folder / PAGE_FILE], force)


def write_view(folder: Path, content: Content) -> ViewFiles:
    """Write picture and page of the content into `folder`; both appear when both are complete.

    Raises BeingError where they cannot be written.
    """
    turned = _turntables(content, SIDE)
    image = sheet(content, turned)
    rows = dict(turned)
    if content.planes:
        rows["Tri-planes: mean absolute value over the channels, dark to light"] = [
            picture for row in content.planes for picture in row
        ]
    if content.frames:
        rows["Frames"] = content.frames
    rows["Camera path, from blue to red"] = drawing.camera_path(content, *PATH_SIZE)
    text = page(content, notes(content), _still(content), rows)
    try:
        with exported_together(folder) as part:
            write_sheet(part / PICTURE_FILE, content, image)
            write_text(part / PAGE_FILE, text)
    except OSError as error:
        raise BeingError(
            f"cannot write {folder}", str(error), "Free disk space or choose another --out"
        ) from error
    return ViewFiles(folder / PICTURE_FILE, folder / PAGE_FILE, len(text.encode()))


def _turntables(content: Content, side: int) -> dict[str, list[Picture]]:
    """Gaussians and mesh from several sides, pictures of `side` px, by heading."""
    rows = {
        f"{cloud.name.capitalize()} head": drawing.turntable(content, cloud, side)
        for cloud in content.clouds
    }
    if content.mesh is not None:
        heading = f"Face mesh, {content.mesh.name}"
        rows[heading] = drawing.mesh_turntable(content, content.mesh, side)
    return rows


def _still(content: Content) -> Picture:
    """The head from the front, for browsers that cannot draw it."""
    if content.clouds:
        return drawing.turntable(content, content.clouds[0], STILL_SIDE, (0,))[0]
    assert content.mesh is not None, content.kind
    return drawing.mesh_turntable(content, content.mesh, STILL_SIDE, (0,))[0]
