"""Runs fuzzed inputs through the parsers, each parser in a process of its own, and counts.

A case fails when a parser raises anything but its own refusal, takes more than 5 s of the
processor, a minute in all or 2 GB of memory, opens a connection, starts a program, writes outside
its folder, or ends the process.
A failing case is named by parser, seed and number, and can be run again alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS_MAX = 5.0
BYTES_MAX = 1 << 30
# What a worker prints when the parser has read its valid input.
READY = "ready"
OWN_FAULT = 3  # exit code of a worker whose mutation failed
# A case that waits for something is ended after this time, s.
KILL_AFTER = 60
# Events of Python's audit hooks that a parser must not cause.
FORBIDDEN = {
    "exec",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "urllib.Request",
}
PATH_EVENTS = {"os.mkdir", "os.remove", "os.rmdir"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Count:
    """What became of the inputs of one parser."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0  # s
    most_bytes: int = 0  # of the process while it read an input
    failures: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        """One line of the table."""
        return (
            f"{name:<22}{self.inputs:>8}{self.accepted:>10}{self.refused:>10}"
            f"{len(self.failures):>10}{self.slowest:>9.2f} s{self.most_bytes >> 20:>7} MB"
        )


HEADER = f"{'parser':<22}{'inputs':>8}{'accepted':>10}{'refused':>10}{'failures':>10}" + (
    f"{'slowest':>11}{'memory':>10}"
)


def run_parser(name: str, seed: int, first: int, stop: int) -> Count:
    """Count the cases [first, stop) of a parser; a process that ends early is started again."""
    count = Count()
    at = first
    while at < stop:
        command = [sys.executable, "-m", "tests.support.fuzzing", "--worker", name]
        command += ["--seed", str(seed), "--first", str(at), "--stop", str(stop)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        reached, lines = at, done.stdout.splitlines()
        if READY not in lines or done.returncode == OWN_FAULT:
            raise RuntimeError(f"{name}: the fuzzer itself failed\n{done.stderr[-3000:]}")
        for line in lines:
            if line.startswith("{"):
                reached = add_report(count, json.loads(line))
        if reached >= stop and done.returncode == 0:
            break
        # The case that was being read ended the process.
        last = done.stderr.strip().splitlines()
        shown = "; ".join(last[-3:])[:300]
        count.failures.append(
            f"{name} {seed} {reached}: the process ended ({done.returncode}) {shown}"
        )
        count.inputs += 1
        at = reached + 1
    return count


def add_report(count: Count, report: dict[str, Any]) -> int:
    """Add a worker's report; returns the next case."""
    count.inputs += report["inputs"]
    count.accepted += report["accepted"]
    count.refused += report["refused"]
    count.slowest = max(count.slowest, report["slowest"])
    count.most_bytes = max(count.most_bytes, report["most_bytes"])
    count.failures += report["failures"]
    return int(report["next"])


# --- in the process of one parser


class Watch:
    """An audit hook that notes what a parser must not do. It is on only while a case is read."""

    def __init__(self, folder: Path):
        self.folder = os.path.realpath(folder)
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in FORBIDDEN and not (event == "exec" and _is_own_code(arguments[0])):
            self.seen.append(f"{event} {str(arguments)[:120]}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            self._check(event, arguments[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._check(event, arguments[1])
        elif event in PATH_EVENTS:
            self._check(event, arguments[0], arguments[-1])

    def _check(self, event: str, path: Any, folder: int = -1) -> None:
        """Note a path outside of the folder; folder: what a relative path starts from."""
        if isinstance(path, int) or path is None:
            return
        if folder != -1:
            with contextlib.suppress(OSError):
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
        whole = os.path.realpath(os.fsdecode(path))
        inside = whole.startswith(self.folder + os.sep) or whole == self.folder
        if not inside and whole != os.devnull and not whole.endswith(".pyc"):
            self.seen.append(f"{event} {whole}")


def _is_own_code(code: Any) -> bool:
    """Whether compiled code comes from an installed file, as an import runs it."""
    name = getattr(code, "co_filename", "")
    return name.startswith(("<frozen", "<string>", "<__array_function__", "<attrs")) or (
        os.path.isabs(name) and os.path.exists(name)
    )


def work(name: str, seed: int, first: int, stop: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Run the cases [first, stop) of a parser in `folder`; yields reports for `add_report`."""
    from tests.support.fuzzing.targets import TARGETS

    target = TARGETS[name](folder / "valid")
    target.check_valid()  # also warms up what is loaded once
    print(READY, flush=True)
    watch, count = Watch(folder), Count()
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        for case in range(first, stop):
            rng = random.Random(f"{seed}/{name}/{case}")
            place = folder / "case"
            place.mkdir()
            failure = _run_case(target, rng, place, watch, count)
            shutil.rmtree(place, ignore_errors=True)
            target.restore()
            count.inputs += 1
            if failure:
                count.failures.append(f"{name} {seed} {case}: {failure}")
            if failure or case % 50 == 49 or case + 1 == stop:
                yield {**vars(count), "next": case + 1}
                count = Count()
    finally:
        tempfile.tempdir = usual


def _run_case(target: Any, rng: random.Random, place: Path, watch: Watch, count: Count) -> str:
    """Read one fuzzed input; what is wrong with how the parser took it, else an empty text."""
    try:
        read = target.prepare(rng, place)
    except Exception:
        traceback.print_exc()
        os._exit(OWN_FAULT)
    watch.seen = []
    _reset_peak()
    before = _peak()
    faulthandler.dump_traceback_later(KILL_AFTER, exit=True)
    # Time of the processor: other programs may keep this one waiting.
    start = time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        watch.on = True
        failure = _outcome(target, read, count)
        watch.on = False
    faulthandler.cancel_dump_traceback_later()

    # What it took, and what it did.
    seconds, peak = time.process_time() - start, _peak() - before
    count.slowest, count.most_bytes = max(count.slowest, seconds), max(count.most_bytes, peak)
    own = [w for w in warned if issubclass(w.category, RuntimeWarning) and "/being/" in w.filename]
    faults = (
        (seconds > SECONDS_MAX, f"took {seconds:.1f} s"),
        (peak > BYTES_MAX, f"took {peak >> 20} MB"),
        (bool(watch.seen), f"caused {watch.seen[:3]}"),
        (bool(own), "; ".join(f"warned {w.message} at {w.filename}:{w.lineno}" for w in own[:2])),
    )
    return failure or next((text for wrong, text in faults if wrong), "")


def _outcome(target: Any, read: Any, count: Count) -> str:
    """Call `read`, and count what came of it; what is wrong with it, else an empty text."""
    from being.errors import BeingError

    try:
        read()
    except BeingError as error:
        count.refused += 1
        message = error.message()
        if "internal error" in message or len(message) > 5000 or not (error.why or error.fix):
            return f"message {message[:200]!r}"
    except target.refusals:
        count.refused += 1
    except BaseException as error:
        trace = traceback.extract_tb(error.__traceback__)
        where = next((f for f in reversed(trace) if "/being/" in f.filename), trace[-1])
        text = str(error).splitlines()[0][:120] if str(error) else ""
        return f"{type(error).__name__}: {text} at {where.filename}:{where.lineno}"
    else:
        count.accepted += 1
    return ""


def _reset_peak() -> None:
    """Let the kernel measure the peak of this process's memory anew (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> int:
    """Peak memory of this process since `_reset_peak`, bytes."""
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) << 10
