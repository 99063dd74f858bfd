"""Exported files carry a mark, by which a later export knows those that it may replace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from being.errors import BeingError
from being.paths import check_writable

MARK = "made with being"  # in the comment of a .ply file, in the description of an .onnx file


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
