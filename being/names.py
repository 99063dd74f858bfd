"""Names of subjects, and paths inside containers: one check for all that come from outside."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from being.console import printable
from being.errors import InputRejected, UsageError

NAME = re.compile(r"[^.\\/:][^\\/:]*")  # of a subject: it becomes a folder's
NAME_BYTES = 200  # file systems take 255, and the hidden folders have longer names
DEPTH_MAX = 8  # folders in each other inside a container


def is_subject_name(name: Any) -> bool:
    """Whether `name` can be the name of a subject, and so of the folders of its runs."""
    return (
        isinstance(name, str)
        and NAME.fullmatch(name) is not None
        and bool(name.strip())
        and printable(name, one_line=True) == name
        and len(os.fsencode(name)) <= NAME_BYTES
    )


def check_subject_name(name: str) -> None:
    """Raise UsageError where `name` cannot be the name of a subject."""
    if not is_subject_name(name):
        raise UsageError(
            f"'{name[:80]}' cannot be the name of a subject",
            "the folders of its runs have that name",
            "Give a short one without slashes that does not begin with a dot: --name NAME",
        )


def path_inside(folder: Path, name: Any) -> Path:
    """The path in `folder` of `name`, a relative path with slashes that a file gives.

    Raises ValueError for a name that leads out of the folder, is hidden, or cannot be printed.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not 0 < len(parts) <= DEPTH_MAX or not all(is_subject_name(part) for part in parts):
        raise ValueError(f"{str(name)[:80]!r} is not a path inside the folder")
    return folder.joinpath(*parts)


def check_links(folder: Path) -> None:
    """Raise InputRejected for a link below `folder` that leads out of it.

    Whoever reads the folder would copy files of this machine into what is made from it.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path) and not _lies_in(os.path.realpath(path), root):
                raise InputRejected(
                    f"{path} is a link that leads out of {folder}",
                    "the file behind it would be copied",
                    "Put the file itself there, if it belongs there",
                )


def _lies_in(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)
