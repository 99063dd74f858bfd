"""Attacks on writing: kills, two writers at once, power cuts; every writing command is attacked.

    python -m tests.support.write_attacks --kills 200 --pairs 30 --cuts 20 --disk-cuts 28 --seed 1

runs each command on tiny inputs, and ends it with SIGKILL at a random moment or at a random change
of the disk; starts every two commands that write one target at once; rebuilds what power cuts leave
(`power_cuts`); and cuts the power of a file system on which the command works, or has just ended
(`loop_disk`), half of the times with the names of all files saved and their content not. After
each attack the target is as it was, or whole; the same command then ends well, and its result is
that of a run without an attack. Prints what was wrong, and as the last line the counts as JSON.
`--only train,pack` attacks these commands. Needs Linux, strace for the power cuts that are rebuilt,
and root, a loop device and mkfs.ext4 for those of a file system; where these are not there, the
last are skipped, and "disk cuts skipped" says why.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from loop_disk import MOUNTS, LoopDisk, cut_power, missing  # noqa: E402
from writing_commands import (  # noqa: E402
    COMMANDS,
    LIMIT_S,
    Command,
    complaints,
    copy_world,
    debris,
    faults,
    load_modules,
    make_world,
    run,
    start,
    target_content,
    wait,
)

# Commands that write or read one place
DATASETS = ("preprocess", "import", "unpack")
PAIRS = [
    *((one, other) for k, one in enumerate(DATASETS) for other in DATASETS[k:]),
    ("features", "features"),
    ("features", "pack"),
    ("features", "data-export"),
    ("pack", "pack"),
    ("data-export", "data-export"),
    ("train", "train"),
    ("train", "features"),
    ("import-checkpoint", "import-checkpoint"),
    ("render", "render"),
    ("render", "tts-video"),
    ("tts-video", "tts-video"),
    ("eval", "eval"),
    ("eval-pair", "eval-pair"),
    ("eval", "bench-fps"),
    ("bench-fps", "bench-fps"),
    ("export", "export"),
]
# Changes of the disk at which a process is killed: events of Python's audit hooks
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
BUSY = "is in use"


@dataclass
class Reference:
    """What a command does without an attack."""

    before: list[dict[str, str]]
    whole: list[dict[str, str]]
    seconds: float
    changes: int  # of the disk


@dataclass
class Attacks:
    """The world, and what was found."""

    folder: Path
    rng: random.Random
    counts: dict[str, Any] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)

    @property
    def world(self) -> Path:
        return self.folder / "world"

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def wrong(self, kind: str, what: str, trial: Path, log: Path) -> None:
        """Note a fault; its trial is kept."""
        self.count(kind)
        kept = self.folder / f"wrong-{len(self.found)}"
        shutil.copytree(trial, kept / "trial", symlinks=True, ignore_dangling_symlinks=True)
        shutil.copy(log, kept / "log")
        text = log.read_text(errors="replace").strip().splitlines()[-1:]
        self.found.append(f"{kind}: {what} [{kept}] {text}")
        print(self.found[-1], flush=True)

    # --- without an attack

    def reference(self, command: Command) -> Reference:
        """Run a command without an attack, once."""
        if command.name in self.references:
            return self.references[command.name]
        log = self.folder / "reference.log"
        trial = copy_world(self.world, self.folder / "reference")
        before = target_content(command, trial)
        counter = self.folder / "changes"
        began = time.monotonic()
        code = wait(start(command.words, trial, log, lambda: _count_changes(trial, counter)))
        seconds = time.monotonic() - began
        text = log.read_text(errors="replace")
        assert code == 0, f"{command.name} ends with {code}: {text[-2000:]}"
        left = debris(trial)
        assert not left, f"{command.name} leaves {left}"
        whole = target_content(command, trial)
        assert whole != before or command.name in ("features", "eval"), command.name
        changes = len(counter.read_bytes())
        self.references[command.name] = Reference(before, whole, seconds, changes)
        return self.references[command.name]

    # --- kills

    def kill(self, command: Command, trial: Path) -> None:
        """Kill a command at a random moment, look at what is left, and run it again."""
        reference, log = self.reference(command), trial.with_suffix(".log")
        copy_world(self.world, trial)
        moment = self.rng.random()
        if self.rng.random() < 0.5:
            at = 1 + int(moment * reference.changes)
            child = start(command.words, trial, log, lambda: _die_at_change(trial, at))
            when = f"at change {at} of {reference.changes}"
            wait(child)
        else:
            child = start(command.words, trial, log)
            when = f"after {moment * reference.seconds:.2f} s"
            timer = threading.Timer(moment * reference.seconds, _kill, [child])
            timer.start()
            wait(child)
            timer.cancel()
        self.count("kills")
        self._look_and_repeat(command, trial, log, f"{command.name} killed {when}")

    def _look_and_repeat(self, command: Command, trial: Path, log: Path, what: str) -> None:
        """Check the target after an attack, run the same command, and check its result."""
        reference = self.reference(command)
        fault = faults(command, trial, reference.before, reference.whole)
        if fault:
            self.wrong("losses", f"{what}: {fault}", trial, log)
            return
        self._repeat(command, trial, log, what)

    def _repeat(self, command: Command, trial: Path, log: Path, what: str) -> None:
        """Run the same command again, and compare its result with that without an attack."""
        reference = self.reference(command)
        complete = target_content(command, trial) == reference.whole
        runs = len(target_content(command, trial)) if command.name == "train" else 0
        try:
            code = run(command, trial, log)
        except AssertionError as hang:
            self.wrong("hangs", f"{what}: {hang}", trial, log)
            return
        line = complaints(log)
        if line:
            self.wrong("tracebacks", f"{what}: {line}", trial, log)
        elif code not in (command.again if complete else (0,)):
            self.wrong("stuck", f"{what}: the same command ends with {code}", trial, log)
        else:
            self._compare(command, trial, log, what, runs if not complete else runs + 1)
            if code == 0 and debris(trial):
                self.wrong("debris", f"{what}: {debris(trial)}", trial, log)

    def _compare(self, command: Command, trial: Path, log: Path, what: str, runs: int) -> None:
        reference, found = self.reference(command), target_content(command, trial)
        if command.name == "train":
            # One run, continued; only a finished one is followed by another.
            if len(found) > max(runs, 1) or any(one != reference.whole[0] for one in found):
                self.wrong("wrong resumes", f"{what}: {len(found)} runs", trial, log)
        elif command.same_bytes and found != reference.whole:
            names = [set(one.items()) ^ set(reference.whole[0].items()) for one in found]
            self.wrong("wrong results", f"{what}: {sorted(names[0])[:4]}", trial, log)
        elif not command.same_bytes and any(one != reference.whole[0] for one in found):
            self.wrong("wrong results", what, trial, log)

    # --- two at once

    def pair(self, one: Command, other: Command, trial: Path) -> None:
        """Start two commands that write one target at once."""
        for command in (one, other):
            self.reference(command)
        copy_world(self.world, trial)
        logs = [trial.with_suffix(".1.log"), trial.with_suffix(".2.log")]
        what = f"{one.name} and {other.name} at once"
        children = []
        for command, log in zip((one, other), logs, strict=True):
            children.append(start(command.words, trial, log))
            time.sleep(self.rng.choice((0, 0.02, 0.3)))
        codes = [wait(child) for child in children]
        self.count("pairs")
        for command, log, code in zip((one, other), logs, codes, strict=True):
            text = log.read_text(errors="replace")
            if complaints(log):
                self.wrong("tracebacks", f"{what}: {complaints(log)}", trial, log)
            elif code and not (code == 1 and (BUSY in text or "exists" in text)):
                self.wrong("failures", f"{what}: {command.name} ends with {code}", trial, log)
            elif code and BUSY in text and "process" not in text:
                self.wrong("failures", f"{what}: the holder is not named", trial, log)
        if all(codes):
            self.wrong("failures", f"{what}: both fail", trial, logs[0])
        winners = [c for c, code in zip((one, other), codes, strict=True) if not code]
        for target in {command.target for command in winners}:
            made = [command for command in winners if command.target == target]
            found = target_content(made[0], trial)
            if not any(self._is_result(command, found) for command in made):
                self.wrong("losses", f"{what}: {target} is of neither", trial, logs[0])
        if debris(trial):
            self.wrong("debris", f"{what}: {debris(trial)}", trial, logs[0])

    def _is_result(self, command: Command, found: list[dict[str, str]]) -> bool:
        whole = self.reference(command).whole[0]
        if command.name == "pack":  # another process may have added features before
            return len(found) == 1 and bool(found[0])
        return bool(found) and all(one == whole for one in found)

    # --- power cuts

    def cuts(self, command: Command, count: int) -> None:
        """Rebuild what power cuts leave of a command, and run the same command on each."""
        import power_cuts

        self.reference(command)
        before = copy_world(self.world, self.folder / "before")
        trial = copy_world(self.world, self.folder / "traced")
        work = self.folder / "trace"
        code, lines, store = power_cuts.record(command.words, trial, work)
        assert code == 0, (work / "log").read_text(errors="replace")[-2000:]
        cut, log = self.folder / "cut", self.folder / "cut.log"
        for what, state in power_cuts.states(lines, trial, before, store, count, self.rng):
            power_cuts.write_state(state, cut)
            log.write_text("")
            self.count("power cuts")
            self._look_and_repeat(command, cut, log, f"{command.name}, power cut {what}")

    def cut_disk(self, command: Command, disk: LoopDisk) -> None:
        """Cut the power of the disk on which a command works, and run it again on what is left."""
        reference, log = self.reference(command), self.folder / "disk.log"
        options = self.rng.choice(MOUNTS)
        disk.format(options)
        trial = copy_world(self.world, disk.path / "trial")
        disk.save()
        moment, way, commit = self.rng.random(), self.rng.random(), self.rng.random() < 0.5
        cut = partial(cut_power, disk.path, commit)
        if way < 0.5:
            at = 1 + int(moment * reference.changes)
            child = start(command.words, trial, log, lambda: _die_at_change(trial, at, cut))
            what = f"at change {at} of {reference.changes}"
            code = wait(child)
        else:
            child = start(command.words, trial, log)
            seconds = moment * reference.seconds if way < 0.85 else LIMIT_S
            code = _wait_and_cut(child, seconds, cut)
            what = "just after its end" if code == 0 else f"after {seconds:.2f} s"
        disk.restart()
        self.count("disk cuts")
        what = f"{command.name}, disk ({options}) cut {what}{', names committed' if commit else ''}"
        if code == 0:  # it had ended before the cut: its result must have outlasted it
            self.count("disk cuts after the end")
            fault = faults(command, trial, reference.whole, reference.whole)
            if fault or target_content(command, trial) != reference.whole:
                self.wrong("losses", f"{what}: {fault or 'as before'}", trial, log)
                return
        self._look_and_repeat(command, trial, log, what)


def _kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _wait_and_cut(child: int, seconds: float, cut: Callable[[], None]) -> int:
    """Wait for the end of a process, at most `seconds`; cut the power, kill it. Its exit code, or
    -SIGKILL.
    """
    code, deadline = None, time.monotonic() + seconds
    try:
        while code is None and time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
            time.sleep(0 if ended else 0.005)
        cut()
    finally:
        if code is None:
            _kill(child)
            code = wait(child)
    return code


def _is_change(trial: Path, event: str, arguments: tuple) -> bool:
    """Whether an audit event changes the disk below `trial`."""
    if event not in CHANGES or not arguments:
        return False
    if event == "open" and (not isinstance(arguments[2], int) or not arguments[2] & 3):
        return False
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return event != "open"
    return os.path.abspath(os.fsdecode(path)).startswith(f"{trial}/")


def _count_changes(trial: Path, counter: Path) -> None:
    """Append one byte to the file `counter` at each change of the disk."""
    descriptor = os.open(counter, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)

    def hook(event: str, arguments: tuple) -> None:
        if _is_change(trial, event, arguments):
            os.write(descriptor, b".")

    sys.addaudithook(hook)


def _die_at_change(trial: Path, number: int, cut: Callable[[], None] | None = None) -> None:
    """Kill this process just before its change of the disk with this number; `cut` the power
    first.
    """
    left = [number]

    def hook(event: str, arguments: tuple) -> None:
        if left[0] > 0 and _is_change(trial, event, arguments):
            left[0] -= 1
            if left[0] == 0:
                if cut is not None:
                    cut()
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attack(
    folder: Path, kills: int, pairs: int, cuts: int, disk_cuts: int, seed: int, only: list[str]
) -> dict[str, object]:
    """Attack the commands `only` (all: empty). Returns counts, and what was wrong as "found"."""
    rng = random.Random(seed)
    attacks = Attacks(folder.resolve(), rng)
    load_modules()
    commands = [command for name, command in COMMANDS.items() if not only or name in only]
    _make_world_in_a_child(attacks.world, [command.name for command in commands])
    _keep_pretrained_files(attacks.folder / "cache")
    if cuts:
        for command in commands:
            attacks.cuts(command, cuts)
            print(f"power cuts of {command.name}: {attacks.counts}", flush=True)
    for number in range(kills):
        attacks.kill(commands[number % len(commands)], attacks.folder / "killed")
        if number % 20 == 19:
            print(f"kills: {attacks.counts}", flush=True)
    chosen = [pair for pair in PAIRS if not only or set(pair) <= set(only)]
    for number in range(pairs if chosen else 0):
        one, other = (COMMANDS[name] for name in chosen[number % len(chosen)])
        attacks.pair(one, other, attacks.folder / "pair")
    _cut_disks(attacks, commands, disk_cuts)
    return {"seed": seed, **attacks.counts, "found": attacks.found}


def _cut_disks(attacks: Attacks, commands: list[Command], count: int) -> None:
    """Cut the power of a file system `count` times; each time another command works on it."""
    if not count:
        return
    if reason := missing():
        attacks.counts["disk cuts skipped"] = reason
        print(f"power cuts of a file system are skipped: this {reason}", flush=True)
        return
    disk = LoopDisk(attacks.folder)
    try:
        for number in range(count):
            attacks.cut_disk(commands[number % len(commands)], disk)
            if number % len(commands) == len(commands) - 1:
                print(f"disk cuts: {attacks.counts}", flush=True)
    finally:
        disk.close()


def _make_world_in_a_child(world: Path, names: list[str]) -> None:
    """Make the world in a process of its own: this one must stay without threads, to fork."""
    child = os.fork()
    if not child:
        code = 1
        try:
            make_world(world, names)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    assert wait(child) == 0, "the world could not be made"


def _keep_pretrained_files(folder: Path) -> None:
    """Let commands see only the pretrained files that are cached now: what another process gets
    meanwhile would change their results.
    """
    from being.assets.cache import cache_folder

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in cache_folder().glob("*"):
        (folder / path.name).symlink_to(path)
    os.environ["BEING_CACHE"] = str(folder)


def main() -> None:
    """Parse, attack, print the counts; exit code 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    parser.add_argument("--cuts", type=int, default=20, help="states of each command")
    parser.add_argument(
        "--disk-cuts", type=int, default=2 * len(COMMANDS), help="of a file system, in all"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="names of commands, separated by commas")
    parser.add_argument("--folder", type=Path, help="where the trials lie (default: temporary)")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # What is mounted is unmounted, and the attacked command ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    only = [name for name in options.only.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="being-attacks-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        numbers = (options.kills, options.pairs, options.cuts, options.disk_cuts)
        counts = attack(folder, *numbers, options.seed, only)
    counts["seconds"] = round(time.monotonic() - began)
    print(json.dumps(counts))
    sys.exit(bool(counts["found"]))


if __name__ == "__main__":
    main()
