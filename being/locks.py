"""Locks: one process at a time writes a run, a dataset, a pack or a report."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from being.errors import BeingError
from being.paths import hidden_name, make_folders, real_path, remove_empty_folders

HOLDER_MAX = 500  # characters read of a lock file
OTHER_FOLDER = "Wait for it to end, or choose another place with --out"


@contextmanager
def locked(
    target: Path, doing: str, fix: str = OTHER_FOLDER, *, shared: bool = False
) -> Iterator[None]:
    """Hold the lock of the file or folder `target` while a `with` block writes it.

    doing: what the holder does, for the message to others, for instance "trains this run". fix:
    what the refused one can do. shared: for readers: they exclude writers, not each other; where no
    lock file can be made, they read without one.

    The lock is the hidden file `.NAME.lock` beside the target, and is removed afterwards. Missing
    folders are made; those that are still empty afterwards are removed. The lock of a process that
    dies is free at once. Raises BeingError, which names the holder, where another process holds it.
    """
    file = lock_path(target)
    folders: list[Path] = []
    try:
        folders, stream = _open_locked(file, target, doing, fix, shared)
    except OSError as error:
        if not shared:
            raise BeingError(
                f"cannot write {target}", str(error), "Choose another place with --out"
            ) from error
        yield
        return
    try:
        yield
    finally:
        _release(file, stream, shared)
        remove_empty_folders(folders)


def lock_path(target: Path) -> Path:
    """The lock file of a target. All links to a target have the same one."""
    real = real_path(target)
    return real.with_name(hidden_name(real.name, ".lock"))


def holder(target: Path) -> str:
    """The process that holds the lock of a target, as it wrote it; empty where none does."""
    return holder_of_file(lock_path(target))


def holder_of_file(file: Path) -> str:
    """The process that holds the lock file `file`, as it wrote it; empty where none does."""
    try:
        stream = open(file, "r+", encoding="utf-8")
    except OSError:
        return ""
    with stream:
        return "" if acquire(stream.fileno()) else _holder(file)


def remove_abandoned_locks(folder: Path) -> None:
    """Remove the lock files in a folder whose processes have died."""
    if os.name == "nt":  # an open file cannot be removed there
        return
    for file in folder.glob(".*.lock"):
        try:
            stream = open(file, "r+", encoding="utf-8")
        except OSError:
            continue
        if acquire(stream.fileno(), without_locks=False):
            _release(file, stream, shared=False)
        else:
            stream.close()


def acquire(descriptor: int, shared: bool = False, without_locks: bool = True) -> bool:
    """Whether this process now holds the lock of an open file or folder.

    without_locks: the result on a file system that has no locks. The lock ends when the descriptor
    is closed or the process dies.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _acquire_on_windows(descriptor, shared)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return without_locks
    return True


def _acquire_on_windows(descriptor: int, shared: bool) -> bool:
    """`acquire` on Windows, which knows no shared locks: readers take none."""
    import msvcrt

    if shared:
        return True
    try:
        # Beyond the text, which others read.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True


def _open_locked(
    file: Path, target: Path, doing: str, fix: str, shared: bool
) -> tuple[list[Path], IO[str]]:
    """The folders that were made, and the open lock file that this process has locked.

    Raises BeingError where another process holds it, OSError where it cannot be made.
    """
    made: list[Path] = []
    while True:
        made += make_folders(file.parent)
        try:
            stream = open(file, "a+", encoding="utf-8")
        except FileNotFoundError:  # another process has just removed its empty folder
            continue
        except OSError:
            remove_empty_folders(made)
            raise
        if not acquire(stream.fileno(), shared):
            stream.close()
            raise BeingError(f"{target} is in use", _holder(file), fix)

        # The holder before may have removed the locked file: then the lock is on nothing.
        try:
            if os.path.samestat(os.fstat(stream.fileno()), os.stat(file)):
                _write_holder(stream, doing)
                return made, stream
        except FileNotFoundError:
            pass
        stream.close()


def _write_holder(stream: IO[str], doing: str) -> None:
    """Write who holds the lock. A full disk is no reason not to work: then it stays unknown."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        stream.truncate(0)
        stream.write(f"process {os.getpid()} ({_program()}) {doing} since {since}")
        stream.flush()
    except OSError:
        pass


def _program() -> str:
    """`being` with its command, or `python` for another program that uses the package."""
    words = [*sys.argv, ""]
    if Path(words[0]).stem not in ("being", "app"):
        return "python"
    return f"being {words[1]}" if re.fullmatch("[a-z][a-z-]*", words[1]) else "being"


def _holder(file: Path) -> str:
    """Who holds a lock, as it wrote it."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            text = stream.read(HOLDER_MAX).strip()
    except OSError:
        text = ""
    return text if text.isprintable() and text else "another process works there"


def _release(file: Path, stream: IO[str], shared: bool) -> None:
    """Remove the lock file, then free the lock. Other readers of a shared lock keep the file."""
    try:
        if os.name != "nt" and (not shared or acquire(stream.fileno())):
            file.unlink(missing_ok=True)
    except OSError:
        pass
    stream.close()
    if os.name == "nt":  # an open file cannot be removed there
        try:
            file.unlink(missing_ok=True)
        except OSError:
            pass
