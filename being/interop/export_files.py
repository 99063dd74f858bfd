"""Exported files carry a mark, by which a later export knows those that it may replace."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from being.errors import BeingError
from being.files import Part, new_folder, sync_folder, sync_tree
from being.paths import check_writable

MARK = "made with being"  # in the comment of a .ply file, in the description of an .onnx file


@contextmanager
def exported_together(folder: Path) -> Iterator[Path]:
    """A hidden folder to write an export into; its files appear in `folder` when the block ends.

    They appear all at once in a new folder, and one right after the other in one that exists: no
    network is left beside that of another export. After an error none appears.
    """
    if not folder.exists():
        with new_folder(folder) as part:
            yield part
        return
    with Part(folder / "export", folder=True) as part:
        yield part.path
        sync_tree(part.path)
        for file in sorted(part.path.iterdir()):
            os.replace(file, folder / file.name)
        sync_folder(folder)
        part.discard()


def check_export_files(files: Iterable[Path], force: bool = False) -> None:
    """Raise BeingError where one of the files cannot be written, or exists and has no mark.

    force: files without a mark may be replaced.
    """
    for file in files:
        check_writable(file)
        if not file.exists() or force:
            continue
        if not file.is_file() or MARK.encode() not in file.read_bytes():
            raise BeingError(
                f"{file} exists and was not made by being export",
                "it would be lost",
                "Choose another folder with --out, or replace it with --force",
            )
