"""Files and folders of datasets and runs: searched, named and checked before they are written."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from being.errors import BeingError, InputRejected, UsageError

# A scheme of two letters or more: one letter is a drive of Windows. `Path` joins double slashes.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)

NAME_BYTES_MAX = 255  # bytes of a file's name that file systems take


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
    """The folder one or two levels below `folder` whose file `marker` changed last, or None.

    Hidden folders do not count: what they hold is not complete.
    """
    inside = [*folder.glob("*"), *folder.glob("*/*")]
    found = [
        path
        for path in inside
        if (path / marker).is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
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


def real_path(path: Path) -> Path:
    """`path` without links: what is written replaces the target of a link, not the link."""
    return Path(os.path.realpath(path))


def hidden_name(name: str, ending: str) -> str:
    """`.NAME` + `ending`, the name of a hidden file that belongs to the file or folder `name`.

    A long name is cut, with a digest in its place, so that file systems take the result.
    """
    room = NAME_BYTES_MAX - 1 - len(os.fsencode(ending))
    if len(os.fsencode(name)) > room:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        name = f"{cut_name(name, room - 9)}-{digest}"
    return f".{name}{ending}"


def cut_name(name: str, size: int) -> str:
    """The first characters of `name` that take at most `size` bytes."""
    while len(os.fsencode(name)) > size:
        name = name[:-1]
    return name


def free_names(path: Path) -> Iterator[Path]:
    """`path`, then the same with -2, -3, ... before the suffix."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def check_not_input(out: Path, inputs: Iterable[Path | None]) -> None:
    """Raise UsageError where writing `out` would change a file or folder that is read.

    That is so for the same file or folder, also through a link, and where one lies in the other.
    """
    for path in inputs:
        if path is None or not path.exists():
            continue
        same = out.exists() and out.samefile(path)
        out_real, input_real = real_path(out), real_path(path)
        if same or out_real in input_real.parents or input_real in out_real.parents:
            why = "they are the same" if same else "one of them lies in the other"
            raise UsageError(
                f"{out} cannot be written while {path} is read",
                why,
                "Choose another place with --out",
            )
