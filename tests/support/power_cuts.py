"""Power cuts: records what a command asks of the disk, and rebuilds what a power cut may leave.

`record` runs a command under strace, which lists in order every write, fsync, rename, link and
removal of all its threads, also those of libraries; a hook around `os.fsync` keeps the content
that was made safe. `states` rebuilds the folder at moments in between, by two models of a disk:

- ordered: all names are on the disk, but of a file only what was synced (ext4 and the like);
- strict: of a folder too, only the names that were there when it was synced (what POSIX promises).

Of a file that was not synced there is nothing, or zeros of its length.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,mmap,"
    "sendfile,copy_file_range,fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir"
)
# Runs a command with a hook that keeps what is synced: store, trial, words
TRACED = """
import os, shutil, sys, threading
from pathlib import Path
store, trial = Path(sys.argv[1]), Path(sys.argv[2])
lock, fsync, sync = threading.Lock(), os.fsync, os.sync
count = iter(range(10**9))

def keep(path):
    # A mark in the trace says which file's content is kept under the number.
    number = next(count)
    shutil.copyfile(path, store / str(number))
    os.close(os.open(store / f"{number}.kept", os.O_CREAT | os.O_WRONLY))

def traced_fsync(descriptor):
    with lock:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_file() and trial in path.parents:
            keep(path)
        fsync(descriptor)

def traced_sync():
    with lock:
        for path in sorted(trial.rglob("*")):
            if path.is_file() and not path.is_symlink():
                keep(path)
        sync()

os.fsync, os.sync = traced_fsync, traced_sync
from writing_commands import run_here
run_here(tuple(sys.argv[3:]), trial)
"""
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"^(?:\d+|AT_FDCWD)<([^>]*)>")


@dataclass
class Node:
    """A file or folder on the disk."""

    folder: bool
    names: dict[str, Node] = field(default_factory=dict)  # of a folder, now
    safe_names: dict[str, Node] = field(default_factory=dict)  # of a folder, when it was synced
    safe: bytes | None = None  # content of a file, when it was synced
    changed: bool = False  # since then
    size: int = 0  # of a file, in bytes


def record(words: tuple[str, ...], trial: Path, work: Path) -> tuple[int, list[str], Path]:
    """Run a command in `trial` under strace: exit code, lines of the trace, folder of contents."""
    store, log = work / "store", work / "trace"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    strace = ["strace", "-f", "-y", "-qq", "-s", "4096", "-e", "signal=none"]
    strace += ["-e", f"trace={CALLS}"]
    program = [sys.executable, "-c", TRACED, str(store), str(trial), *words]
    with open(work / "log", "wb") as output:
        done = subprocess.run(
            [*strace, "--seccomp-bpf", "-o", str(log), *program],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    return done.returncode, list(_whole_lines(log)), store


def _whole_lines(log: Path) -> Iterator[str]:
    """The calls of a trace, each where it ended."""
    begun: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        process, _, call = line.strip().partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[process] = call.removesuffix("<unfinished ...>").rstrip()
        elif call.startswith("<... "):
            # strace aligns the result with spaces.
            end = re.sub(r"\) +(= [^=]*)$", r") \1", call.partition(" resumed>")[2])
            yield begun.pop(process, "") + end
        else:
            yield call


class Disk:
    """The files below a folder, as a trace changes them."""

    def __init__(self, trial: Path, before: Path, store: Path):
        """before: a copy of the trial from before the command, which is safe on the disk."""
        self.trial, self.store = str(trial), store
        self.root = _read_tree(before)
        self._kept: list[int] = []

    def follow(self, call: str) -> bool:
        """Apply a call of the trace; whether it changed anything below the folder."""
        name, _, rest = call.partition("(")
        arguments, _, result = rest.rpartition(") = ")
        value = result.split("<")[0].split()[0] if result.split() else "?"
        if name == "mmap" and value.startswith("0x"):  # an address
            value = "0"
        if not value.lstrip("-").isdigit() or value.startswith("-"):
            return False  # it failed
        if name in ("open", "openat", "creat"):
            return self._open(arguments, result)
        if name in ("rename", "renameat", "renameat2"):
            return self._rename(*self._paths(arguments)[:2], swap="RENAME_EXCHANGE" in arguments)
        if name in ("link", "linkat"):
            source, target = self._paths(arguments)[:2]
            node = self._find(source)
            if node is None and self._inside(target):
                node = Node(False, changed=True)
            return self._put(target, node) if node is not None else False
        if name in ("unlink", "unlinkat", "rmdir"):
            return self._take(self._paths(arguments)[0]) is not None
        if name in ("mkdir", "mkdirat"):
            return self._put(self._paths(arguments)[0], Node(True))
        if name in ("sync", "syncfs"):
            return self._sync_all()
        if name in ("fsync", "fdatasync"):
            return self._sync(arguments)
        return self._write(name, arguments, int(value))

    # --- calls

    def _open(self, arguments: str, result: str) -> bool:
        path = result.partition("<")[2].rpartition(">")[0]
        if path.startswith(f"{self.store}/") and path.endswith(".kept"):
            self._kept.append(int(Path(path).stem))
        if not self._inside(path) or "O_CREAT" not in arguments and "O_TRUNC" not in arguments:
            return False
        node = self._find(path)
        if node is None:
            return self._put(path, Node(False, changed=True))
        if "O_TRUNC" in arguments and not node.folder:
            node.changed, node.size = True, 0
            return True
        return False

    def _write(self, name: str, arguments: str, value: int) -> bool:
        if name == "mmap":
            if "PROT_WRITE" not in arguments or "MAP_SHARED" not in arguments:
                return False
            arguments = next((a for a in arguments.split(", ") if "<" in a), "")
        elif name == "copy_file_range":
            arguments = arguments.split(", ")[2]
        found = DESCRIPTOR.match(arguments)
        path = found[1] if found else (QUOTED.findall(arguments) or [""])[0]
        node = self._find(path) if self._inside(path) else None
        if node is None or node.folder:
            return False
        node.changed = True
        if name in ("ftruncate", "truncate"):
            node.size = int(arguments.rpartition(", ")[2])
        elif name not in ("mmap", "fallocate"):
            node.size += value
        return True

    def _sync(self, arguments: str) -> bool:
        found = DESCRIPTOR.match(arguments)
        node = self._find(found[1]) if found and self._inside(found[1]) else None
        if node is None:
            return False
        if node.folder:
            node.safe_names = dict(node.names)
        else:
            assert self._kept, f"{arguments}: synced without os.fsync"
            node.safe, node.changed = (self.store / str(self._kept.pop())).read_bytes(), False
            self._kept.clear()
        return True

    def _sync_all(self) -> bool:
        # `traced_sync` has kept every file, in the order of their paths.
        files = sorted(_files(self.root, Path(self.trial)))
        kept, self._kept = self._kept, []
        assert len(kept) == len(files), (len(kept), len(files))
        for number, (_, node) in zip(kept, files, strict=True):
            node.safe, node.changed = (self.store / str(number)).read_bytes(), False
        for node in _folders(self.root):
            node.safe_names = dict(node.names)
        return True

    def _rename(self, source: str, target: str, swap: bool) -> bool:
        moved = self._take(source)
        if moved is None:
            return False
        other = self._take(target)
        if swap and other is not None:
            self._put(source, other)
        return self._put(target, moved)

    # --- paths

    def _paths(self, arguments: str) -> list[str]:
        """The paths of a call, absolute."""
        paths = []
        for found in re.finditer(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', arguments):
            paths.append(os.path.normpath(os.path.join(found[1] or self.trial, found[2])))
        return paths

    def _inside(self, path: str) -> bool:
        return path == self.trial or path.startswith(f"{self.trial}/")

    def _parent(self, path: str) -> tuple[Node | None, str]:
        folder, _, name = path.rpartition("/")
        return self._find(folder), name

    def _find(self, path: str) -> Node | None:
        if not self._inside(path):
            return None
        node: Node | None = self.root
        for name in path[len(self.trial) :].split("/"):
            if name and node is not None:
                node = node.names.get(name)
        return node

    def _put(self, path: str, node: Node) -> bool:
        if not self._inside(path):
            return False
        folder, name = self._parent(path)
        assert folder is not None, path
        folder.names[name] = node
        return True

    def _take(self, path: str) -> Node | None:
        folder, name = self._parent(path)
        return folder.names.pop(name, None) if folder is not None else None


def _read_tree(path: Path) -> Node:
    """A folder that is safe on the disk."""
    if not path.is_dir():
        content = path.read_bytes()
        return Node(False, safe=content, size=len(content))
    names = {inside.name: _read_tree(inside) for inside in path.iterdir()}
    return Node(True, names, dict(names))


def _files(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    if not node.folder:
        yield path, node
    for name, inside in node.names.items():
        yield from _files(inside, path / name)


def _folders(node: Node) -> Iterator[Node]:
    if node.folder:
        yield node
        for inside in node.names.values():
            yield from _folders(inside)


def _left(node: Node, strict: bool, zeros: bool) -> dict[str, bytes | None]:
    """What a power cut leaves of a folder: content of files by relative path, None for folders."""
    found: dict[str, bytes | None] = {}
    for name, inside in (node.safe_names if strict else node.names).items():
        if inside.folder:
            found[name] = None
            below = _left(inside, strict, zeros)
            found |= {f"{name}/{path}": content for path, content in below.items()}
        elif inside.changed or inside.safe is None:
            found[name] = b"\0" * inside.size if zeros else inside.safe or b""
        else:
            found[name] = inside.safe
    return found


def states(
    lines: list[str], trial: Path, before: Path, store: Path, count: int, rng: random.Random
) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """At most `count` different states that power cuts leave, with a description of each.

    Half of them are chosen among the moments just after a rename, link or removal.
    """
    changes = []
    disk = Disk(trial, before, store)
    for number, line in enumerate(lines):
        if disk.follow(line):
            changes.append((number, line.startswith(("rename", "link", "unlink", "rmdir"))))
    models = list(itertools.product((False, True), repeat=2))  # strict, zeros
    moments = [(number, *model) for number, _ in changes for model in models]
    named = {n for n, names in changes if names}
    first = [m for m in moments if m[0] in named]
    rng.shuffle(first)
    rng.shuffle(moments)
    order = [m for pair in zip(first, moments, strict=False) for m in pair] + moments
    wanted = order[: 12 * count]

    # Play the trace again up to each of the moments.
    found: dict[tuple[int, bool, bool], dict[str, bytes | None]] = {}
    disk = Disk(trial, before, store)
    by_number: dict[int, list[tuple[int, bool, bool]]] = {}
    for moment in wanted:
        by_number.setdefault(moment[0], []).append(moment)
    for number, line in enumerate(lines):
        disk.follow(line)
        for moment in by_number.get(number, ()):
            found[moment] = _left(disk.root, moment[1], moment[2])
    seen = set()
    for moment in wanted:
        digest = _digest(found[moment])
        if digest not in seen and len(seen) < count:
            seen.add(digest)
            model = f"{'strict' if moment[1] else 'ordered'}, {'zeros' if moment[2] else 'nothing'}"
            yield f"after call {moment[0]} ({model}): {lines[moment[0]][:160]}", found[moment]


def _digest(state: dict[str, bytes | None]) -> str:
    digest = hashlib.sha256()
    for path, content in sorted(state.items(), key=lambda item: item[0]):
        digest.update(f"{path} {content is None} {len(content or b'')}\n".encode())
        digest.update(hashlib.sha256(content or b"").digest())
    return digest.hexdigest()


def write_state(state: dict[str, bytes | None], trial: Path) -> None:
    """Put a state on the disk as the folder `trial`."""
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir(parents=True)
    for path, content in sorted(state.items(), key=lambda item: item[0].count("/")):
        if content is None:
            (trial / path).mkdir()
        else:
            (trial / path).write_bytes(content)
