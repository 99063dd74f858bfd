"""Kills, power cuts and two writers at once lose nothing: a few attacks; all of them are slow.

The attacks run in a process of their own, which forks the attacked ones.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_disk import MOUNTS, LoopDisk, cut_power, missing
from power_cuts import _whole_lines

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and traced")


def attacked(*options: str) -> dict[str, Any]:
    """The counts of attacks of `tests.support.write_attacks`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.write_attacks", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout[-4000:], done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def attached_files() -> str:
    """What the loop devices of this machine show."""
    program = shutil.which("losetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return subprocess.run([program, "--all"], capture_output=True, text=True).stdout


def test_calls_that_another_thread_interrupts_are_read_with_their_results(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(
        '5 mkdir("/a/b", 0777 <unfinished ...>\n'
        '6 openat(AT_FDCWD</a>, "c", O_CREAT <unfinished ...>\n'
        "5 <... mkdir resumed>)              = 0\n"
        "6 <... openat resumed>, 0666)       = 3</a/c>\n"
    )
    assert list(_whole_lines(tmp_path / "trace")) == [
        'mkdir("/a/b", 0777) = 0',
        'openat(AT_FDCWD</a>, "c", O_CREAT, 0666) = 3</a/c>',
    ]


@pytest.fixture
def loop_disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """A disk whose power can be cut. Skips where none can be mounted."""
    if reason := missing():
        pytest.skip(f"a file system cannot be mounted here: this {reason}")
    disk = LoopDisk(tmp_path)
    yield disk
    disk.close()
    assert not os.path.ismount(disk.path)


@pytest.mark.parametrize("options", MOUNTS)
def test_a_power_cut_of_a_disk_loses_only_what_was_not_saved(
    loop_disk: LoopDisk, options: str
) -> None:
    loop_disk.format(options)
    saved, lost = loop_disk.path / "saved", loop_disk.path / "lost"
    saved.write_bytes(b"1" * 5000)
    loop_disk.save()
    lost.write_bytes(b"2" * 5000)
    cut_power(loop_disk.path)
    with pytest.raises(OSError):
        (loop_disk.path / "later").touch()
    loop_disk.restart()
    assert saved.read_bytes() == b"1" * 5000
    assert not lost.exists()


@pytest.mark.timeout(900)  # half a minute on a free machine
def test_a_few_attacks_lose_nothing() -> None:
    cuts = "2" if shutil.which("strace") else "0"
    words = ("--kills", "2", "--pairs", "1", "--cuts", cuts, "--disk-cuts", "1")
    counts = attacked(*words, "--only", "unpack")
    assert (counts["kills"], counts["pairs"]) == (2, 1)
    assert counts.get("disk cuts") == 1 or counts["disk cuts skipped"].startswith("needs")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_attacks_on_every_writing_command_lose_nothing() -> None:
    if not shutil.which("strace"):
        pytest.skip("strace records the order of writes")
    counts = attacked("--kills", "200", "--pairs", "22", "--cuts", "20", "--disk-cuts", "0")
    # Some commands have fewer than 20 different states.
    assert counts["kills"] == 200 and counts["power cuts"] >= 200


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_power_cuts_of_a_mounted_file_system_lose_nothing() -> None:
    counts = attacked("--kills", "0", "--pairs", "0", "--cuts", "0", "--disk-cuts", "42")
    if "disk cuts skipped" in counts:
        pytest.skip(f"a file system cannot be mounted here: this {counts['disk cuts skipped']}")
    assert counts["disk cuts"] == 42


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_attack_unmounts_its_file_system(tmp_path: Path, ending: int) -> None:
    if reason := missing():
        pytest.skip(f"a file system cannot be mounted here: this {reason}")
    words = ("--kills", "0", "--pairs", "0", "--cuts", "0", "--disk-cuts", "1000")
    words += ("--only", "import-checkpoint", "--folder", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.write_attacks", *words], cwd=ROOT
    )
    try:
        while not (tmp_path / "disk/trial").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(ending)
        assert process.wait(60) != 0
    finally:
        process.kill()
    assert not os.path.ismount(tmp_path / "disk")
    deadline = time.monotonic() + 20  # until the last process on it has ended
    while str(tmp_path / "disk.ext4") in attached_files() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert str(tmp_path / "disk.ext4") not in attached_files()
