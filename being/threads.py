"""Threads: how many this process may have, how many cores are free, and how threads wait.

The threads of a matrix product or an element-wise operation share it in equal parts and wait for
each other at its end. Where one of them shares its core with another program, all of them wait for
that one: with two threads on two cores and one other program, a training step takes 2.6 times as
long, with one thread 1.2 times (docs/measurements.md). So the program counts the cores that others
leave free, while it works, and its threads sleep soon when they wait.

Who sets OMP_NUM_THREADS gets that number, whatever others do.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# Turns of a waiting OpenMP thread before it sleeps, some ten microseconds; its own default is about
# a millisecond. Without any, each operation costs a wake-up: a step alone takes a third longer.
SPINS = "10000"
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
# Files of a control group that hold its processor time and the period, in microseconds
VERSION_2: tuple[str, ...] = ("cpu.max",)
VERSION_1: tuple[str, ...] = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
INTERVAL_S = 1.0  # between two looks at the load
# A core counts as free when others use less than this share of it.
FREE_BELOW = 0.4
# Others that have a lower priority take cores only while this process leaves them. Then its own
# threads have waited for a core for less than this share of the time.
WAITED_BELOW = 0.12
RETRY_S = 60.0  # after which all cores are tried again, because that shows only by trying
# Of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
WAITING = (3, 4)
FIELDS = 8


def allowed_cores() -> int:
    """The number of cores that this process may use, at least 1: its affinity, and the processor
    time that its control group gets (a container with `--cpus`).
    """
    cores = len(_affinity()) or os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, round(quota)))


def forget_startup() -> None:
    """Take all objects of the start out of garbage collection, in a process that serves for long.

    A collection then looks only at what sessions made: it is short, and frequent enough that their
    memory goes soon.
    """
    gc.collect()
    gc.freeze()


def _affinity() -> set[int]:
    """Numbers of the cores that this process may run on; empty where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _quota() -> float | None:
    """Cores' worth of processor time that the control groups of this process allow, if limited.

    The limit of a group above counts as well. No limit is "max" or -1.
    """
    limits = []
    for line in _text(PROC / "self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        root, names = CGROUP, VERSION_2
        if controllers:
            root, names = CGROUP / "cpu", VERSION_1
            if "cpu" not in controllers.split(","):
                continue

        # In a container the path may be that of the host: then only the root is there.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            words = " ".join(_text(folder / name) for name in names).split()
            if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
                limits.append(int(words[0]) / int(words[1]))
            if folder == root:
                break
    return min(limits, default=None)


def _text(path: Path) -> str:
    """The text of a file of the kernel; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class _Load:
    """Time so far, in s."""

    at: float  # on the monotonic clock
    busy: float  # of the cores that this process may use, by all programs
    own: float  # of the processor
    waited: float  # that the threads of this process waited for a core

    @staticmethod
    def now() -> _Load | None:
        """The load now; None where the system does not tell it (`/proc/stat`)."""
        mine, busy, seen = _affinity(), 0, 0
        for line in _text(PROC / "stat").splitlines():
            name, *rest = line.split()
            if not (name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in mine):
                continue
            ticks = [int(word) for word in rest[:FIELDS]]
            busy += sum(tick for i, tick in enumerate(ticks) if i not in WAITING)
            seen += 1
        if not seen:
            return None
        seconds = busy / os.sysconf("SC_CLK_TCK")
        return _Load(time.monotonic(), seconds, time.process_time(), _waited())


def _waited() -> float:
    """How long the threads of this process waited for a core so far, in s; infinite where the
    system does not say.
    """
    words = [_text(file).split() for file in PROC.glob("self/task/*/schedstat")]
    return sum(int(word[1]) for word in words if len(word) == 3) / 1e9 if words else math.inf


class FreeCores:
    """The number of cores that other programs leave to this one, from looks at the load."""

    def __init__(self, allowed: int):
        """allowed: the most that is returned."""
        self.allowed = self.count = allowed
        self._before = _Load.now()
        self._wanted = allowed  # at the look before
        self._fell = -math.inf  # when the count fell

    def update(self) -> int:
        """Return the number, at least 1; looks at the load when the last look is a second old.

        It falls at once, and rises when two looks in a row say so, or for a try.
        """
        if self._before is None or time.monotonic() - self._before.at < INTERVAL_S:
            return self.count
        load, before = _Load.now(), self._before
        self._before = load
        if load is None:
            return self.count

        seconds = load.at - before.at
        others = (load.busy - before.busy - (load.own - before.own)) / seconds
        free = math.floor(len(_affinity()) - others + FREE_BELOW)
        wanted = max(1, min(self.allowed, free))
        if wanted < self.count:
            if load.waited - before.waited < WAITED_BELOW * seconds:
                wanted = self.count
            else:
                self._fell = load.at
        elif self.count < self.allowed and load.at - self._fell > RETRY_S:
            wanted = self._wanted = self.allowed
        self.count = min(wanted, max(self.count, self._wanted))
        self._wanted = wanted
        return self.count


_free_cores: FreeCores | None = None


def prepare_threads() -> None:
    """Set up the threads of this program; call it once, before numpy and torch are loaded.

    Numbers and waiting that the environment sets stay.
    """
    global _free_cores
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if "OMP_NUM_THREADS" in os.environ:
        return
    # The libraries see the affinity, but not what a control group allows.
    allowed = allowed_cores()
    if allowed < (len(_affinity()) or os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(allowed)
    _free_cores = FreeCores(allowed)


def use_free_cores() -> None:
    """Let torch's operations in this thread use the cores that are free now.

    Called in long loops, once a step. It does nothing in a program that has not called
    `prepare_threads`, and where the number of threads was given.
    """
    torch = sys.modules.get("torch")
    if _free_cores is None or torch is None:
        return
    count = _free_cores.update()
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
