"""Threads follow the cores that the process may use and that others leave free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from being import threads
from being.threads import FreeCores, allowed_cores

# Version 1 with a limit, version 2 with one, version 2 without one, and one above the own group
GROUPS = {
    "version 1": ({"cpu/job/cpu.cfs_quota_us": "250000", "cpu/job/cpu.cfs_period_us": "100000"}, 2),
    "version 1, none": ({"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "1000"}, 8),
    "version 2": ({"job/cpu.max": "300000 100000"}, 3),
    "version 2, none": ({"job/cpu.max": "max 100000"}, 8),
    "less than one core": ({"job/cpu.max": "20000 100000"}, 1),
    "of the group above": ({"job/cpu.max": "max 100000", "cpu.max": "100000 100000"}, 1),
    "unreadable": ({"job/cpu.max": "many 0"}, 8),
}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of eight cores, in files below the folder that is returned."""
    (tmp_path / "proc/self").mkdir(parents=True)
    monkeypatch.setattr(threads, "PROC", tmp_path / "proc")
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_affinity", lambda: set(range(8)))
    return tmp_path


@pytest.mark.parametrize("name", GROUPS)
def test_a_control_group_limits_the_cores(system: Path, name: str) -> None:
    files, cores = GROUPS[name]
    line = "3:cpu,cpuacct:/job\n" if name.startswith("version 1") else "0::/job\n"
    (system / "proc/self/cgroup").write_text(f"9:name=systemd:/\n5:memory:/other\n{line}")
    for file, text in files.items():
        path = system / "cgroup" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert allowed_cores() == cores


def test_the_affinity_limits_the_cores() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from being.threads import allowed_cores; print(allowed_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


class Machine:
    """Eight cores, and two more that this process may not use, with a load that a test sets."""

    def __init__(self, system: Path, monkeypatch: pytest.MonkeyPatch):
        self.stat = system / "proc/stat"
        self.waiting = system / "proc/self/task/1/schedstat"
        self.waiting.parent.mkdir(parents=True)
        self.now = self.own = self.busy = self.waited = 0.0
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(threads.time, "process_time", lambda: self.own)
        self.write()

    def write(self) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        cores = [f"cpu{i} {int(self.busy / 8 * ticks)} 0 0 777 888 0 0 0 0 0" for i in range(8)]
        foreign = [f"cpu{i} {int(self.now * ticks)} 0 0 0 0 0 0 0 0 0" for i in (8, 9)]
        self.stat.write_text("\n".join(["cpu 1 2 3 4", *cores, *foreign, "intr 1"]))
        self.waiting.write_text(f"{int(self.own * 1e9)} {int(self.waited * 1e9)} 12\n")

    def work(self, seconds: float, own: float, others: float, waited: float = 0.5) -> None:
        """Let time pass, in which this process and the others use so many cores, and threads of
        this process wait for one.
        """
        self.waited += waited * seconds
        self.now += seconds
        self.own += own * seconds
        self.busy += (own + others) * seconds
        self.write()


def test_the_count_falls_at_once_and_rises_when_it_is_sure(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(system, monkeypatch)
    free = FreeCores(8)
    machine.work(0.5, own=7, others=1)
    assert free.update() == 8, "too soon to look"
    machine.work(1, own=7, others=1)
    assert free.update() == 7
    machine.work(2, own=0.5, others=7.5)
    assert free.update() == 1, "never none"
    machine.work(2, own=1, others=0.3)
    assert free.update() == 1
    machine.work(2, own=1, others=0.3)
    assert free.update() == 8
    machine.work(2, own=6, others=2)
    assert free.update() == 6


def test_others_of_a_lower_priority_take_no_threads(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(system, monkeypatch)
    free = FreeCores(8)
    machine.work(2, own=5, others=3, waited=0.05)
    assert free.update() == 8
    machine.work(2, own=5, others=3, waited=0.5)
    assert free.update() == 5
    # With fewer threads none waits, and the others fill the cores: that says nothing.
    for _ in range(29):
        machine.work(2, own=5, others=3, waited=0)
        assert free.update() == 5
    machine.work(4, own=5, others=3, waited=0)
    assert free.update() == 8, "a try after a minute"
    machine.work(2, own=5, others=3, waited=0.5)
    assert free.update() == 5


def test_without_the_time_that_threads_waited_the_others_decide(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(system, monkeypatch)
    machine.waiting.unlink()
    monkeypatch.setattr(machine, "waiting", system / "elsewhere")
    free = FreeCores(8)
    machine.work(2, own=5, others=3)
    assert free.update() == 5


def test_without_a_load_to_read_the_count_stays(system: Path) -> None:
    assert FreeCores(5).update() == 5


SHOWN = """
import os, sys, time
sys.argv = ["being", "--version"]
from being.cli import app
from being import threads
try:
    app.main()
except SystemExit:
    pass
import torch
before = torch.get_num_threads()
threads.INTERVAL_S = 0.0
if threads._free_cores:
    threads._free_cores.count = threads._free_cores.allowed = 1
threads.use_free_cores()
follows = threads._free_cores is not None
print(os.environ["GOMP_SPINCOUNT"], before, torch.get_num_threads(), follows)
"""


@pytest.mark.parametrize("given", [{}, {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "7"}])
def test_the_program_sets_what_the_environment_does_not(given: dict[str, str]) -> None:
    variables = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")
    environment = {k: v for k, v in os.environ.items() if k not in variables} | given
    command = [sys.executable, "-c", SHOWN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    spins, before, after, follows = done.stdout.split()[-4:]
    if given:
        assert (spins, before, after, follows) == ("7", "1", "1", "False")
    else:
        assert (spins, after, follows) == (threads.SPINS, "1", "True")
        assert int(before) == allowed_cores()
