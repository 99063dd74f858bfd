"""Where datasets and runs lie under the home, also hidden and damaged ones; their size on disk."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from being.files import PART_NAME, is_part_of
from being.paths import hidden_name

DATASET_MARKER = "dataset.json"
RUN_MARKER = "run.json"
BLOCK = 512  # bytes of a block of `st_blocks`
# What is removed first gets a name like `.me.removed-0123456789ab`.
REMOVED = re.compile(r"\..*\.removed-[0-9a-f]{12}", re.S)
UNFINISHED = re.compile(r"\..+\.(part|old)", re.S)


@dataclass(frozen=True)
class Place:
    """A file or folder where a dataset or a run is expected."""

    path: Path
    link: Path | None = None  # the link below `data/` or `runs/` through which the path leads

    @property
    def hidden(self) -> bool:
        """Whether it is a hidden work folder, or left by a removal."""
        return self.path.name.startswith(".")


def places(root: Path, marker: str) -> list[Place]:
    """The datasets or runs one or two levels below `root`, in the order of their names.

    marker: the file that each of them holds; a folder without it is damaged, and is listed too.
    `root` may be a link. Hidden files and folders count as far as this program makes them.
    """
    return list(_places(root, marker))


def _places(root: Path, marker: str) -> Iterator[Place]:
    for path in children(root):
        link = path if path.is_symlink() else None
        if is_work_name(path.name):
            yield Place(path, link)
        if path.name.startswith(".") or not (path.is_dir() or link):
            continue
        inside = [] if os.path.lexists(path / marker) else _members(path, marker)
        if inside:
            yield from (Place(p, link or (p if p.is_symlink() else None)) for p in inside)
        elif link or not is_empty(path):
            yield Place(path, link)


def _members(folder: Path, marker: str) -> list[Path]:
    """The places in a folder of datasets or runs; none where it is no such folder."""
    inside = [
        path
        for path in children(folder)
        if is_work_name(path.name) or (path.is_dir() and not path.name.startswith("."))
    ]
    is_group = any(is_work_name(p.name) or os.path.lexists(p / marker) for p in inside)
    return inside if is_group else []


def children(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where it is no folder or cannot be read."""
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except OSError:
        return []


def is_empty(folder: Path) -> bool:
    """Whether a folder is known to be empty: one that cannot be read is not."""
    try:
        return not os.listdir(folder)
    except OSError:
        return False


def is_work_name(name: str) -> bool:
    """Whether `name` is that of a hidden work folder or file, or was left by a removal."""
    return any(pattern.fullmatch(name) for pattern in (REMOVED, UNFINISHED, PART_NAME))


def is_left_by_removal(path: Path) -> bool:
    """Whether a removal that was stopped has left `path`."""
    return REMOVED.fullmatch(path.name) is not None


def is_work_of(name: str, target: str) -> bool:
    """Whether `name` is that of a hidden work folder or file of the folder or file `target`."""
    names = (hidden_name(target, ".part"), hidden_name(target, ".old"))
    return name in names or is_part_of(name, target)


def size_on_disk(path: Path) -> int:
    """Bytes that a file or folder takes on the disk; no link is followed.

    A file with several names counts once. What cannot be read counts nothing.
    """
    total, seen, waiting = 0, set(), [path]
    while waiting:
        path = waiting.pop()
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            waiting += children(path)
        elif status.st_nlink > 1:
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        blocks = getattr(status, "st_blocks", None)  # Windows has none
        total += status.st_size if blocks is None else blocks * BLOCK
    return total
