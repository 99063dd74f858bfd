"""Folders of datasets and runs: searched, checked, created and replaced."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from being.errors import BeingError, InputRejected, UsageError

# A scheme of two letters or more: one letter is a drive of Windows. `Path` joins double slashes.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def home() -> Path:
    """The folder with `data/` and `runs/`: BEING_HOME if it is set, else the current folder."""
    return user_path(os.environ.get("BEING_HOME", "."))


def user_path(value: str | Path) -> Path:
    """The path that a person gave, with `~` expanded. Raises InputRejected for a URL."""
    return Path(expand_path(os.fspath(value)))


def expand_path(text: str) -> str:
    """`text`, which may be a path, with `~` expanded. Raises InputRejected for a URL."""
    url = URL.fullmatch(text)
    if url is not None and not os.path.lexists(text):
        raise InputRejected(
            f"{url[1]}://{url[2]} is a URL",
            "files and folders of this machine are read and written, nothing on the net",
            "Download it first, and give the path of the file",
        )
    return os.path.expanduser(text)


def check_folder(path: Path, wanted: str, fix: str) -> None:
    """Raise InputRejected, with the advice `fix`, unless a folder is at `path`.

    wanted: what the folder should be, for instance "a dataset".
    """
    if path.is_dir():
        return
    if not path.exists():
        raise InputRejected(f"{path} does not exist", f"{wanted} is needed", fix)
    raise InputRejected(f"{path} is not {wanted}", "it is a file, not a folder", fix)


def newest_folder(folder: Path, marker: str) -> Path | None:
    """The folder one or two levels below `folder` whose file `marker` changed last, or None."""
    found = [path for path in folder.glob("*") if (path / marker).is_file()]
    found += [path for path in folder.glob("*/*") if (path / marker).is_file()]
    return max(found, key=lambda path: (path / marker).stat().st_mtime, default=None)


def latest_dataset() -> Path:
    """The most recent dataset under `data/`. Raises UsageError when there is none."""
    found = newest_folder(home() / "data", "dataset.json")
    if found is None:
        raise UsageError(
            f"there is no dataset under {home() / 'data'}",
            fix="Make one with: being preprocess VIDEO",
        )
    return found


def check_writable(path: Path) -> None:
    """Raise BeingError when no file or folder can be created at `path`. Creates nothing itself.

    So errors that are found later leave nothing on the disk.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        why = f"{folder} is a file, not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = f"the folder {folder} is not writable"
    else:
        return
    raise BeingError(f"cannot write {path}", why, "Choose another path with --out")


def make_folders(folder: Path) -> list[Path]:
    """Create `folder` with its parents. Returns the new ones, innermost first.

    `remove_empty_folders` takes them away again.
    """
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return absent


def remove_empty_folders(folders: list[Path]) -> None:
    """Remove those of the folders that are empty, innermost first; stop at one that is not."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def replace_folder(part: Path, folder: Path) -> None:
    """Rename the finished folder `part` to `folder`, whose old content is removed.

    After an interruption in between, the old content is in `.NAME.old`.
    """
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        # Without `folder`, `old` may be all that an interrupted run left.
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
