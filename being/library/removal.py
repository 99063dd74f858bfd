"""Removal of files and folders: each is renamed to a hidden name first, then deleted.

So a removal that is killed leaves no half of a dataset or run, and the next one finds the rest.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from being.errors import BeingError
from being.files import PART_NAME, sync_folder
from being.library.belongings import Belongings, Item
from being.library.places import is_left_by_removal
from being.locks import acquire, holder, holder_of_file, locked, remove_abandoned_locks
from being.paths import hidden_name

WAIT = "Wait for it to end, or end it, and remove again"


@dataclass
class Removal:
    """What a removal has done."""

    removed: list[Item] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)  # path, and why it stays


def remove(belongings: Belongings) -> Removal:
    """Remove all items; what cannot be removed is in `failed`, and the others are removed still.

    Raises BeingError, before anything is removed, where another process uses one of them.
    """
    result = Removal()
    for item in belongings.items:
        _check_unused(item)
    with ExitStack() as locks:
        for target in dict.fromkeys(item.lock for item in belongings.items if item.lock):
            _lock(target, locks)
        for item in belongings.items:
            failed = _remove_item(item.path)
            result.failed += failed
            if not failed:
                result.removed.append(item)
    for folder in belongings.shared:
        remove_abandoned_locks(folder)  # their names name the person
    for folder in belongings.folders:
        with suppress(OSError):  # it holds what could not be removed
            folder.rmdir()
    return result


def _check_unused(item: Item) -> None:
    """Raise BeingError where a process holds the lock of an item or of something in it."""
    user = holder(item.lock) if item.lock is not None else ""
    user = user or _user_of_part(item.path)
    if not user and not item.path.is_symlink():
        for folder, folders, files in os.walk(item.path):
            for name in (*folders, *files):
                user = user or _user(Path(folder), name)
    if user:
        raise BeingError(f"{item.path} is in use", user, f"{WAIT}. Nothing was removed")


def _user(folder: Path, name: str) -> str:
    """The process that holds a lock file or a hidden part; empty where none does."""
    if name.startswith(".") and name.endswith(".lock"):
        return holder_of_file(folder / name)
    return _user_of_part(folder / name)


def _user_of_part(path: Path) -> str:
    """That a process writes the hidden part `path`; empty where none does."""
    if os.name == "nt" or not PART_NAME.fullmatch(path.name):
        return ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return "" if acquire(descriptor) else f"another process writes {path.name}"
    finally:
        os.close(descriptor)


def _lock(target: Path, locks: ExitStack) -> None:
    """Hold the lock of a target; a link or a folder that cannot be written has none to make."""
    if target.is_symlink():  # the lock file would lie behind the link
        return
    try:
        locks.enter_context(locked(target, "removes it", f"{WAIT}. Nothing was removed"))
    except BeingError as error:
        if not isinstance(error.__cause__, OSError):
            raise


def _remove_item(path: Path) -> list[tuple[Path, str]]:
    """Remove a file, a link or a whole folder; returns what stays, and why."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return []
        hidden = path
        if not is_left_by_removal(path):
            ending = f".removed-{secrets.token_hex(6)}"
            hidden = path.with_name(hidden_name(path.name, ending))
            os.rename(path, hidden)
            sync_folder(path.parent)
    except FileNotFoundError:  # another removal was faster
        return []
    except OSError as error:
        return [(path, error.strerror or str(error))]
    return _delete_folder(hidden)


def _delete_folder(folder: Path) -> list[tuple[Path, str]]:
    """Delete a folder with all in it, and follow no link; returns what stays, and why."""
    failed: list[tuple[Path, str]] = []

    def note(function: Callable[..., Any], path: str, error: BaseException) -> None:
        # A folder that is not empty only follows from what stays in it.
        code = getattr(error, "errno", None)
        if code == errno.ENOENT or (failed and code == errno.ENOTEMPTY):
            return
        failed.append((Path(path), getattr(error, "strerror", None) or str(error)))

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=note)
    else:
        shutil.rmtree(folder, onerror=lambda call, path, info: note(call, path, info[1]))
    return failed
