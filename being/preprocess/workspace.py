"""The hidden folder in which a dataset is made: one run at a time; what a killed run finished stays
for the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from being.console import say
from being.errors import BeingError, InputRejected, UsageError
from being.files import write_json
from being.paths import check_place, make_folders, remove_empty, replace_folder

OWN = ".work"  # the run's own files inside the folder; they do not become part of the dataset
BLOCK = 1 << 20  # bytes a read


@dataclass(frozen=True)
class Done:
    """A finished step."""

    inputs: str  # digest over all that its outputs depend on
    digest: str  # of its outputs
    seconds: float


class Workspace:
    """`.NAME.part` beside the dataset NAME. As a context manager it holds the folder's lock.

    After an error the folder stays where a later run can go on from it; a refused input leaves
    nothing behind.
    """

    def __init__(self, out: Path, force: bool = False):
        self.out, self.force = out, force
        self.folder = out.with_name(f".{out.name}.part")
        self.own = self.folder / OWN
        self.done: dict[str, Done] = {}
        self._key = ""
        self._parents: list[Path] = []
        self._lock: IO[str] | None = None

    def __enter__(self) -> Workspace:
        """Raises BeingError when the place is taken, cannot be made, or another run works there."""
        check_free(self.out, self.force)
        check_place(self.folder)
        try:
            self._parents = make_folders(self.folder.parent)
            self._lock = _locked(self.own)
        except OSError as error:
            remove_empty(self._parents)
            raise BeingError(
                f"cannot write {self.out}", str(error), "Choose another place with --out"
            ) from error
        if self._lock is None:
            raise BeingError(
                f"another run is making the dataset {self.out}",
                f"it works in {self.folder}",
                "Wait for it to end, or choose another place with --out",
            )
        try:
            check_free(
                self.out, self.force
            )  # the other run may have finished just before the lock was free
        except BeingError as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def claim(self, key: str) -> None:
        """Take over what an earlier run of the same `key` (the video's digest) finished; discard
        all else.
        """
        self._key = key
        try:
            state = json.loads((self.own / "steps.json").read_text())
            earlier = {name: Done(**facts) for name, facts in state["steps"].items()}
            same = state["key"] == key
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            earlier, same = {}, False
        if same:
            self.done = earlier
            return
        left = [path for path in self.folder.iterdir() if path != self.own]
        if left or earlier:
            say(f"{self.folder} was left by a run on another video: discarded")
        for path in left:
            _remove(path)
        self._save()

    def record(self, name: str, done: Done) -> None:
        """Note that the step `name` is finished; call from one thread at a time."""
        self.done[name] = done
        self._save()

    def clear(self, patterns: tuple[str, ...]) -> None:
        """Remove the files and folders that match `patterns` inside the folder."""
        for pattern in patterns:
            for path in list(self.folder.glob(pattern)):
                _remove(path)

    def digest(self, patterns: tuple[str, ...]) -> str:
        """sha256 over the names and contents of the files that match, and of all files in folders
        that match.
        """
        return digest_of(self.folder, patterns)

    def finish(self) -> None:
        """Put the folder, now whole, in the dataset's place."""
        shutil.rmtree(self.own)
        replace_folder(self.folder, self.out)

    def discard(self) -> None:
        """Remove the folder, and the parents that were made for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_empty(self._parents)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and (isinstance(error, InputRejected | UsageError) or not self.done):
            self.discard()
        if self._lock is not None:
            self._lock.close()

    def _save(self) -> None:
        write_json(
            self.own / "steps.json",
            {"key": self._key, "steps": {k: asdict(v) for k, v in self.done.items()}},
        )


def check_free(out: Path, force: bool) -> None:
    """Raise BeingError when `out` is something else than an empty folder or, with `force`, a
    dataset.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not (out / "dataset.json").is_file():
            raise BeingError(
                f"{out} exists and is not a dataset", fix="Choose another place with --out"
            )
        if not force:
            raise BeingError(
                f"the dataset {out} exists already",
                fix="Replace it with --force, or choose an --out",
            )


def digest_of(folder: Path, patterns: tuple[str, ...]) -> str:
    """See `Workplace.digest`, for any `folder`."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    files = {
        file
        for path in found
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    }
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder)}\n{file.stat().st_size}\n".encode())
        _feed(digest, file)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """sha256 of a file's content, hexadecimal."""
    digest = hashlib.sha256()
    _feed(digest, path)
    return digest.hexdigest()


def _feed(digest: Any, path: Path) -> None:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _locked(folder: Path) -> IO[str] | None:
    """The open file `lock` in `folder`, held by this process until it is closed or the process
    dies; None where another process holds it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = open(folder / "lock", "a")
        except FileNotFoundError:  # the run before has just finished and taken the folder away
            continue
        if not _hold(file):
            file.close()
            return None
        try:
            if os.fstat(file.fileno()).st_ino == os.stat(folder / "lock").st_ino:
                return file
        except FileNotFoundError:
            pass
        file.close()


def _hold(file: IO[str]) -> bool:
    """Whether this process now holds the lock of an open file. Where the file system knows no
    locks, it does.
    """
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
    except OSError:
        pass
    return True
