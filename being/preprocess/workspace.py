"""The hidden folder in which a dataset is built: its lock, and the record of finished steps."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from being.console import console
from being.errors import BeingError, InputRejected, UsageError
from being.files import write_json
from being.paths import check_writable, make_folders, remove_empty_folders, replace_folder
from being.reading.structured import read_json

# The run's own files inside the folder; they do not become part of the dataset.
WORK_FOLDER = ".work"
BLOCK = 1 << 20  # bytes per read


@dataclass(frozen=True)
class FinishedStep:
    """The record of a finished step."""

    inputs: str  # digest over everything that its outputs depend on
    digest: str  # of its outputs
    seconds: float


class Workspace:
    """The folder `.NAME.part` beside the dataset NAME. As a context manager it holds its lock.

    After an error the folder stays, so that a later run can resume; after a rejected input, or
    when no step is finished, it is removed.
    """

    def __init__(self, out: Path, force: bool = False):
        self.out, self.force = out, force
        self.folder = out.with_name(f".{out.name}.part")
        self.finished: dict[str, FinishedStep] = {}
        self._state_folder = self.folder / WORK_FOLDER
        self._key = ""
        self._parents: list[Path] = []
        self._lock: IO[str] | None = None

    def __enter__(self) -> Workspace:
        """Make the folder and lock it.

        Raises BeingError when the output exists, when the folder cannot be made, or when another
        run works in it.
        """
        check_free(self.out, self.force)
        check_writable(self.folder)
        try:
            self._parents = make_folders(self.folder.parent)
            self._lock = _lock_folder(self._state_folder)
        except OSError as error:
            remove_empty_folders(self._parents)
            raise BeingError(
                f"cannot write {self.out}", str(error), "Choose another folder with --out"
            ) from error
        if self._lock is None:
            raise BeingError(
                f"another run is making the dataset {self.out}",
                f"it works in {self.folder}",
                "Wait for it to end, or choose another folder with --out",
            )

        # The other run may have finished just before the lock was free.
        try:
            check_free(self.out, self.force)
        except BeingError as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def resume(self, key: str) -> None:
        """Take over the finished steps of an earlier run of the same `key`; discard other files.

        key: the video's digest.
        """
        self._key = key
        try:
            state = read_json(self._state_folder / "steps.json")
            earlier = {name: FinishedStep(**facts) for name, facts in state["steps"].items()}
            same = state["key"] == key
        except (InputRejected, TypeError, KeyError, AttributeError):
            earlier, same = {}, False
        if same:
            self.finished = earlier
            return
        left = [path for path in self.folder.iterdir() if path != self._state_folder]
        if left or earlier:
            console.info(f"discarded {self.folder}: it was left by a run on another video")
        for path in left:
            _remove(path)
        self._save()

    def record(self, name: str, finished: FinishedStep) -> None:
        """Save that the step `name` is finished; call from one thread at a time."""
        self.finished[name] = finished
        self._save()

    def clear(self, patterns: tuple[str, ...]) -> None:
        """Remove the files and folders that match `patterns` inside the folder."""
        for pattern in patterns:
            for path in list(self.folder.glob(pattern)):
                _remove(path)

    def digest(self, patterns: tuple[str, ...]) -> str:
        """`digest_of` this folder."""
        return digest_of(self.folder, patterns)

    def publish(self) -> None:
        """Move the folder, which is now complete, to the dataset's path."""
        shutil.rmtree(self._state_folder)
        replace_folder(self.folder, self.out)

    def discard(self) -> None:
        """Remove the folder, and the parents that were made for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_empty_folders(self._parents)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        rejected = isinstance(error, InputRejected | UsageError)
        if kind is not None and (rejected or not self.finished):
            self.discard()
        if self._lock is not None:
            self._lock.close()

    def _save(self) -> None:
        steps = {name: asdict(finished) for name, finished in self.finished.items()}
        write_json(self._state_folder / "steps.json", {"key": self._key, "steps": steps})


def check_free(out: Path, force: bool) -> None:
    """Raise BeingError unless `out` is missing, an empty folder or, with `force`, a dataset."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "dataset.json").is_file():
        raise BeingError(
            f"{out} exists and is not a dataset", fix="Choose another folder with --out"
        )
    if not force:
        raise BeingError(
            f"the dataset {out} exists already",
            fix="Replace it with --force, or choose another folder with --out",
        )


def digest_of(folder: Path, patterns: tuple[str, ...]) -> str:
    """sha256, hexadecimal, over names and contents of the files in `folder` that match `patterns`.

    A folder that matches counts with all files in it.
    """
    matches = {path for pattern in patterns for path in folder.glob(pattern)}
    files: set[Path] = set()
    for path in matches:
        inside = path.rglob("*") if path.is_dir() else [path]
        files.update(file for file in inside if file.is_file())
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder)}\n{file.stat().st_size}\n".encode())
        _update_with_file(digest, file)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """sha256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    _update_with_file(digest, path)
    return digest.hexdigest()


def _update_with_file(digest: Any, path: Path) -> None:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _lock_folder(folder: Path) -> IO[str] | None:
    """The open file `lock` in `folder`, or None where another process holds it.

    This process holds the lock until the file is closed or the process dies.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = open(folder / "lock", "a")
        except FileNotFoundError:  # the run before has just finished and removed the folder
            continue
        if not _acquire(file):
            file.close()
            return None

        # The run before may have removed the locked file: then the lock is on nothing.
        try:
            if os.fstat(file.fileno()).st_ino == os.stat(folder / "lock").st_ino:
                return file
        except FileNotFoundError:
            pass
        file.close()


def _acquire(file: IO[str]) -> bool:
    """Whether this process now holds the lock of an open file; True without lock support."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        pass
    return True
