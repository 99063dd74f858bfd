"""Writing of files and folders: they appear complete or not at all, and are safe on the disk.

Everything that a person keeps is written in a *part*: a hidden file or folder beside the target,
with a name of its own, so that two processes never write into the same one. It takes the target's
name when it is complete and safe on the disk. Until then the old content stays. So a kill, a full
disk or a power cut leaves the old content or the new one, and at most a hidden part, which the next
writer in the same folder removes.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from being.locks import acquire
from being.paths import (
    cut_name,
    free_names,
    hidden_name,
    make_folders,
    real_path,
    remove_empty_folders,
)

if TYPE_CHECKING:
    from torch import Tensor

TOKEN_BYTES = 6  # of the random part of a part's name
PART_NAME = re.compile(rf"\..*\.part-[0-9a-f]{{{2 * TOKEN_BYTES}}}(\.[^.]*)?", re.S)
STEM_BYTES = 180  # of the target's name in a part's name
SUFFIX_BYTES = 24  # a longer suffix is taken for a piece of the name
# A folder with more files is first written out as a whole, which is faster than file by file.
SYNC_ALL_ABOVE = 64
# fsync ends with these where a file system does not know it.
NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.EBADF)
LINK_FAULTS = (
    errno.EPERM,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.ENOSYS,
    errno.EMLINK,
)
# Of Linux' renameat2 and macOS' renamex_np
AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2
# Parts that are neither published nor discarded.
_open_parts: set[Part] = set()


class Part:
    """A hidden file or folder in which a target is written; made at once, empty.

    As a context manager it publishes the part at the end of the block, unless that is done, and
    discards it after an error. This process holds a lock on the part, so others see that it is in
    use.
    """

    def __init__(self, target: Path, *, folder: bool = False, free_name: bool = False):
        """target: a link is followed. free_name: never replace anything: `publish` takes the first
        free one of NAME, NAME-2, NAME-3, ...

        Raises OSError where nothing can be written, and for a pipe or device, which stays.
        """
        self.target = Path(target)
        self._real = real_path(target)
        if free_name:
            self._real = real_path(self.target.absolute().parent) / self.target.name
        self._folder, self._free_name = folder, free_name
        if folder and not free_name:
            restore_old_folder(self._real)
        elif not free_name and not _is_replaceable(self._real):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(target))
        self._new_folders: list[Path] = []
        self._lock: int | None = None
        self.process = os.getpid()  # a forked child leaves it alone
        self.path = self._real.with_name(_part_name(self._real.name))
        _open_parts.add(self)
        while self._lock is None:
            self._new_folders += make_folders(self._real.parent)
            remove_abandoned_parts(self._real.parent)
            self.path = self._real.with_name(_part_name(self._real.name))
            try:
                self._lock = _create_locked(self.path, folder)
            except FileNotFoundError:  # another process has just removed its empty folder
                continue
            except OSError:
                _open_parts.discard(self)
                remove_empty_folders(self._new_folders)
                raise

    def publish(self, names: Iterable[Path] = ()) -> Path:
        """Give the part the name of the target, whose old content ends; returns the path.

        names: the names to try with `free_name`, instead of NAME, NAME-2, ... Everything is on the
        disk when this returns.
        """
        if self._folder:
            sync_tree(self.path)
        else:
            sync_file(self.path)
        if self._free_name:
            rename = _rename_folder if self._folder else _link_file
            names = names or free_names(self._real)
            real = next(name for name in names if rename(self.path, name))
            self.target = self.target.with_name(real.name)
        elif self._folder:
            replace_folder(self.path, self._real)
        else:
            os.replace(self.path, self._real)
        sync_folder(self._real.parent)
        self._close()
        return self.target

    def discard(self) -> None:
        """Remove the part, and the folders that were made for it."""
        _remove(self.path)
        self._close()
        remove_empty_folders(self._new_folders)

    def _close(self) -> None:
        _open_parts.discard(self)
        if self._lock is not None and self._lock >= 0:
            os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._lock is not None:
                self.publish()
        finally:
            if self._lock is not None:
                self.discard()


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """The path of an empty hidden file to write; it becomes `path` when the block ends well."""
    with Part(path) as part:
        yield part.path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """The path of an empty hidden folder to fill; it becomes `path` when the block ends well."""
    with Part(path, folder=True) as part:
        yield part.path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with new_file(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=1))


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all. Raises OSError, for instance on a full disk.

    The library's own writer raises another type then, which says nothing of the file.
    """
    from safetensors.torch import save

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(plain))


def replace_folder(part: Path, folder: Path) -> None:
    """Give the finished folder `part`, which is on the disk, the name `folder`.

    The old content is removed after the new one has the name. Where the system cannot swap two
    names in one step, the old content is for a moment in `.NAME.old` (`old_folder`).
    """
    try:
        os.rename(part, folder)  # `folder` is missing, or empty
    except OSError:
        if not folder.is_dir():
            raise
        if _swap_names(part, folder):
            old = part
        else:
            old = old_folder(folder)
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
            os.rename(part, folder)
        sync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
        return
    sync_folder(folder.parent)
    shutil.rmtree(old_folder(folder), ignore_errors=True)  # left where this was killed in between


def restore_old_folder(folder: Path) -> None:
    """Give the old content its name back where `replace_folder` was killed in between."""
    if not os.path.lexists(folder) and old_folder(folder).is_dir():
        os.rename(old_folder(folder), folder)


def old_folder(folder: Path) -> Path:
    """Where `replace_folder` puts the old content for a moment, on systems without a swap."""
    return folder.with_name(hidden_name(folder.name, ".old"))


def remove_abandoned_parts(folder: Path) -> None:
    """Remove the parts in a folder whose processes have died."""
    if os.name == "nt":  # there a part has no lock that shows whether it is in use
        return
    try:
        names = [name for name in os.listdir(folder) if PART_NAME.fullmatch(name)]
    except OSError:
        return
    for name in names:
        # A dataset in the making (`.NAME.part`) may be resumed; it is no part of this kind.
        if name.endswith(".part"):
            continue
        path = folder / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if acquire(descriptor, without_locks=False):
                _remove(path)
        except OSError:
            pass
        finally:
            os.close(descriptor)


def is_part_of(name: str, target: str) -> bool:
    """Whether `name` is that of a part of the file or folder `target`."""
    stem, suffix = _stem_and_suffix(target)
    pattern = f"{re.escape(f'.{stem}.part-')}[0-9a-f]{{{2 * TOKEN_BYTES}}}{re.escape(suffix)}"
    return re.fullmatch(pattern, name) is not None


@atexit.register
def discard_open_parts() -> None:
    """Remove the parts of this process that a signal left before their `with` block began."""
    for part in [part for part in _open_parts if part.process == os.getpid()]:
        with suppress(OSError):
            part.discard()


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name != "nt":
        _sync(path, os.O_RDONLY)


def sync_tree(folder: Path) -> None:
    """Wait until a folder is on the disk with everything in it."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if len(files) > SYNC_ALL_ABOVE and hasattr(os, "sync"):
        os.sync()
    for path in files:
        sync_file(path)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            sync_folder(path)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_replaceable(path: Path) -> bool:
    """Whether `path` is free, a file, or a folder, for which the system has its own error."""
    return not path.exists() or path.is_file() or path.is_dir()


def _part_name(name: str) -> str:
    stem, suffix = _stem_and_suffix(name)
    return f".{stem}.part-{secrets.token_hex(TOKEN_BYTES)}{suffix}"


def _stem_and_suffix(name: str) -> tuple[str, str]:
    """Stem, cut to a length that leaves room in a name, and suffix: it tells libraries the type."""
    stem, suffix = os.path.splitext(name)
    if len(os.fsencode(suffix)) > SUFFIX_BYTES:
        stem, suffix = name, ""
    return cut_name(stem, STEM_BYTES), suffix


def _create_locked(path: Path, folder: bool) -> int | None:
    """Make the part `path` and lock it: its descriptor, -1 on Windows.

    None where another process has taken it for abandoned in between. Raises OSError.
    """
    if folder:
        path.mkdir()
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    if os.name == "nt":
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if acquire(descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except FileNotFoundError:
        pass
    os.close(descriptor)
    return None


def _link_file(part: Path, name: Path) -> bool:
    """Give the finished file `part` the name `name`; False where the name is taken."""
    try:
        os.link(part, name)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in LINK_FAULTS:
            raise
        # A disk without links: take the name, then replace the empty file.
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        os.replace(part, name)
        return True
    part.unlink()
    return True


def _rename_folder(part: Path, name: Path) -> bool:
    """Give the finished folder `part` the name `name`; False where the name is taken."""
    if os.path.lexists(name):
        return False
    try:
        os.rename(part, name)
    except OSError:
        if os.path.lexists(name):
            return False
        raise
    return True


def _swap_names(one: Path, other: Path) -> bool:
    """Swap the names of two folders in one step; False where the system cannot."""
    try:
        library = ctypes.CDLL(None)
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "darwin":
            return library.renamex_np(*names, RENAME_SWAP) == 0
        swap = library.renameat2
        return swap(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    except (OSError, AttributeError, TypeError):  # the function is missing
        return False
