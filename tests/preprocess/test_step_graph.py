"""Resumed runs: finished steps are kept, changed ones are done again, two runs never overlap."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from being.errors import BeingError, InputRejected
from being.preprocess.step_graph import Step, StepStopped, StopFlag, run_steps
from being.preprocess.workspace import Workspace


class Bench:
    """The context of the test steps: lists the steps that ran; raises inside the step `fault`."""

    def __init__(
        self,
        folder: Path,
        fault: str = "",
        error: type[BaseException] = RuntimeError,
        setting: int = 1,
    ):
        self.folder, self.fault, self.error, self.setting = folder, fault, error, setting
        self.ran: list[str] = []


def make(name: str, *after: str, version: int = 1) -> Step[Bench]:
    """A step that joins the files of the steps before it in two files of its own folder."""

    def run(bench: Bench, advance) -> None:
        bench.ran.append(name)
        (bench.folder / name).mkdir()
        text = "".join((bench.folder / need / "0").read_text() for need in after) + name
        text += str(bench.setting) if name == "a" else ""
        (bench.folder / name / "0").write_text(text)
        advance(1)
        if bench.fault == name:
            raise bench.error(name)
        (bench.folder / name / "1").write_text(text)

    def settings(bench: Bench) -> int | None:
        return bench.setting if name == "a" else None

    return Step(name, run, (name,), after, version=version, settings=settings)


STEPS = [make("a"), make("b", "a"), make("c", "a"), make("d", "b", "c")]
NEWER = [make("a"), make("b", "a", version=2), *STEPS[2:]]


def run(out: Path, bench: Bench | None = None, steps=STEPS, key: str = "video", **given) -> Bench:
    with Workspace(out) as workspace:
        workspace.resume(key)
        bench = bench or Bench(workspace.folder, **given)
        run_steps(steps, bench, workspace, StopFlag())
        (workspace.folder / "dataset.json").write_text("{}")
        workspace.publish()
    return bench


def content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("fault, left", [("b", "bcd"), ("c", "bcd"), ("d", "d")])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, BeingError, OSError])
def test_finished_steps_are_not_done_again(
    tmp_path: Path, fault: str, left: str, error: type[BaseException]
) -> None:
    run(tmp_path / "whole")
    with pytest.raises(error):
        run(tmp_path / "out", fault=fault, error=error)
    assert not (tmp_path / "out").exists() and (tmp_path / ".out.part" / fault / "0").is_file()
    again = run(tmp_path / "out")
    assert fault in again.ran and set(again.ran) <= set(left)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "out"}


def test_a_rejected_input_and_a_failure_of_the_first_step_leave_nothing(tmp_path: Path) -> None:
    for fault, error in (("d", InputRejected), ("a", RuntimeError)):
        with pytest.raises(error):
            run(tmp_path / "below" / "out", fault=fault, error=error)
        assert not list(tmp_path.iterdir())


def stopped(out: Path) -> Path:
    with pytest.raises(RuntimeError):
        run(out, fault="d")
    return out.with_name(f".{out.name}.part")


@pytest.mark.parametrize(
    "change, expected",
    [
        ("setting", "abcd"),
        ("version", "bd"),
        ("altered file", "bd"),
        ("lost file", "cd"),
        ("more files", "cd"),
        ("video", "abcd"),
        ("broken record", "abcd"),
        ("nothing", "d"),
    ],
)
def test_changed_steps_are_done_again(
    tmp_path: Path,
    change: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, given = tmp_path / "out", {}
    part = stopped(out)
    if change == "setting":
        given["setting"] = 2
    elif change == "version":
        given["steps"] = NEWER
    elif change == "altered file":
        (part / "b/1").write_text("another")
    elif change == "lost file":
        (part / "c/1").unlink()
    elif change == "more files":
        (part / "c/2").write_text("")
    elif change == "broken record":
        (part / ".work/steps.json").write_text("[")
    again = run(out, key="other" if change == "video" else "video", **given)
    assert ("discarded" in capsys.readouterr().out) == (change in ("video", "broken record"))
    # A step that is done again with the same outputs does not make the steps after it run.
    assert "".join(sorted(again.ran)) == expected
    assert content(out).keys() == {f"{name}/{k}" for name in "abcd" for k in "01"} | {
        "dataset.json"
    }


def test_steps_run_in_parallel_and_the_first_error_ends_the_others(tmp_path: Path) -> None:
    both, ended = threading.Barrier(2, timeout=20), []

    def slow(bench: Bench, advance) -> None:
        both.wait()
        try:
            while True:
                time.sleep(0.01)
                advance(1)
        except StepStopped:
            ended.append("slow")
            raise

    def fail(bench: Bench, advance) -> None:
        both.wait()
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        run(
            tmp_path / "out",
            steps=[Step("slow", slow, (), version=1), Step("fail", fail, (), version=1)],
        )
    assert ended == ["slow"]


HOLD = """
import sys, time
from pathlib import Path
from being.preprocess.workspace import Workspace
with Workspace(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(BeingError, match="is in use: process .* makes this dataset"):
            run(tmp_path / "out")
    finally:
        other.kill()
        other.wait()
    run(tmp_path / "out")
    with pytest.raises(BeingError, match="exists already"):
        run(tmp_path / "out")
