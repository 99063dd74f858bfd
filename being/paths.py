"""Where datasets, runs and outputs go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from being.errors import BeingError, UsageError


def home() -> Path:
    """Where `data/` and `runs/` are: the folder in BEING_HOME, else the current one."""
    return Path(os.environ.get("BEING_HOME", "."))


def newest(folder: Path, marker: str) -> Path | None:
    """The directory one or two levels under `folder` whose file `marker` was changed last."""
    found = [p for depth in ("*", "*/*") for p in folder.glob(depth) if (p / marker).is_file()]
    return max(found, key=lambda p: (p / marker).stat().st_mtime, default=None)


def latest_dataset() -> Path:
    """The most recent dataset under `data/`. Raises UsageError when there is none."""
    found = newest(home() / "data", "dataset.json")
    if found is None:
        raise UsageError(
            f"there is no dataset under {home() / 'data'}",
            fix="Make one with: being preprocess VIDEO",
        )
    return found


def check_place(path: Path) -> None:
    """Raise BeingError when no file or folder can be made at `path`. Nothing is made: later errors
    leave no trace.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        why = f"{folder} is a file, not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = f"the folder {folder} may not be written to"
    else:
        return
    raise BeingError(f"cannot write {path}", why, "Choose another place with --out")


def make_folders(folder: Path) -> list[Path]:
    """Make `folder` with its parents; those that were not there before, innermost first (for
    `remove_empty`).
    """
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return absent


def remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty, innermost first; the others stay."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def replace_folder(part: Path, folder: Path) -> None:
    """Put the finished folder `part` in the place of `folder`; killed in between, `.NAME.old` is
    what was there.
    """
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():  # else `old` may be all that a killed run left
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
