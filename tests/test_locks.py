"""One process writes a target at a time; the second is told who the first is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from being.errors import BeingError
from being.locks import lock_path, locked

HOLDING = """
import sys, time
from pathlib import Path
from being.locks import locked
sys.argv[0] = "being"
with locked(Path(sys.argv[1]), "trains this run", shared="shared" in sys.argv):
    print("held", flush=True)
    time.sleep(100)
"""


def holder(target: Path, *words: str) -> subprocess.Popen[str]:
    """A process that holds the lock of `target`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, target, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_holds_the_lock_and_a_dead_one_holds_none(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "me"
    first = holder(target)
    (tmp_path / "link").symlink_to(target)
    for name in (target, tmp_path / "link"):
        said = rf"is in use: process {first.pid} \(being.*\) trains this run since 20.*Wait"
        with pytest.raises(BeingError, match=said), locked(name, "writes"):
            pass
    assert lock_path(target).exists()
    first.send_signal(signal.SIGKILL)
    first.wait()
    with locked(target, "writes"):
        assert f"process {os.getpid()}" in lock_path(target).read_text()
    assert not lock_path(target).exists()


def test_readers_exclude_writers_but_not_each_other(tmp_path: Path) -> None:
    target = tmp_path / "data"
    reader = holder(target, "shared")
    with locked(target, "reads", shared=True):
        pass
    with pytest.raises(BeingError, match="is in use"), locked(target, "writes"):
        pass
    reader.terminate()
    reader.wait()
    with (
        locked(target, "writes"),
        pytest.raises(BeingError, match="is in use"),
        locked(target, "reads", shared=True),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == []


def test_folders_that_are_made_for_a_lock_do_not_stay_empty(tmp_path: Path) -> None:
    with locked(tmp_path / "a/b/c", "writes"):
        assert (tmp_path / "a/b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a/b/c", "writes"):
        (tmp_path / "a/b/c").mkdir()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c"]


def test_a_lock_that_cannot_be_made_is_an_error_of_writers_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BeingError, match="cannot write"), locked(tmp_path / "file/x", "writes"):
        pass
    with locked(tmp_path / "file/x", "reads", shared=True):
        pass
