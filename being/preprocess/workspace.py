"""The hidden folder in which a dataset is built, and the record of its finished steps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from being.console import console
from being.errors import BeingError, InputRejected, UsageError
from being.files import (
    new_folder,
    replace_folder,
    restore_old_folder,
    sync_folder,
    sync_tree,
    write_json,
)
from being.locks import locked
from being.paths import check_writable, hidden_name, real_path
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
        """out: the dataset's path; a link is followed. force: replace a dataset that exists."""
        self.out, self.force = out, force
        self._target = real_path(out)
        self.folder = self._target.with_name(hidden_name(self._target.name, ".part"))
        self.finished: dict[str, FinishedStep] = {}
        self._state_folder = self.folder / WORK_FOLDER
        self._key = ""
        self._lock = ExitStack()

    def __enter__(self) -> Workspace:
        """Make the folder and lock the dataset's path.

        Raises BeingError when the output exists, when the folder cannot be made, or when another
        process writes there.
        """
        check_free(self.out, self.force)
        check_writable(self.folder)
        self._lock.enter_context(locked(self.out, "makes this dataset"))
        try:
            # The other process may have finished just before the lock was free.
            restore_old_folder(self._target)
            check_free(self.out, self.force)
            self._state_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._lock.close()
            raise BeingError(
                f"cannot write {self.out}", str(error), "Choose another folder with --out"
            ) from error
        except BaseException:
            self._lock.close()
            raise
        return self

    def resume(self, key: str) -> None:
        """Take over the finished steps of an earlier run of the same `key`; discard other files.

        key: the video's digest.
        """
        self._key = key
        why = "it was left by a run on another video"
        try:
            state = read_json(self._state_folder / "steps.json")
            earlier = {name: FinishedStep(**facts) for name, facts in state["steps"].items()}
            same = state["key"] == key
        except (InputRejected, TypeError, KeyError, AttributeError):
            earlier, same, why = {}, False, "its record of finished steps cannot be read"
            if not (self._state_folder / "steps.json").exists():
                why = "no step of it was finished"
        if same:
            self.finished = earlier
            return
        left = [path for path in self.folder.iterdir() if path != self._state_folder]
        if left or earlier:
            console.info(f"discarded {self.folder}: {why}")
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
        """Move the folder, which is now complete, to the dataset's path.

        Until it has that path it can be resumed. So its record of steps is removed afterwards.
        """
        sync_tree(self.folder)
        replace_folder(self.folder, self._target)
        shutil.rmtree(self._target / WORK_FOLDER, ignore_errors=True)
        sync_folder(self._target)

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        rejected = isinstance(error, InputRejected | UsageError)
        if kind is not None and (rejected or not self.finished):
            self.discard()
        self._lock.close()

    def _save(self) -> None:
        steps = {name: asdict(finished) for name, finished in self.finished.items()}
        write_json(self._state_folder / "steps.json", {"key": self._key, "steps": steps})


@contextmanager
def new_dataset(out: Path, force: bool = False) -> Iterator[Path]:
    """An empty hidden folder that becomes the dataset `out` when the block ends without an error.

    After an error nothing is left. Raises BeingError when the output exists, when nothing can be
    written there, or when another process writes there.
    """
    check_free(out, force)
    check_writable(out)
    with locked(out, "makes this dataset"):
        # The other process may have finished just before the lock was free.
        restore_old_folder(real_path(out))
        check_free(out, force)
        try:
            with new_folder(out) as folder:
                yield folder
                shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        except OSError as error:
            raise BeingError(
                f"cannot write {out}", str(error), "Free disk space or choose another folder"
            ) from error


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
