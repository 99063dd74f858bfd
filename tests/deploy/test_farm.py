"""A farm without Ray: stages in order, states, resume, failures, and what a person sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from being.console import console
from being.deploy import stage_process
from being.deploy.farm import Beginning, Farm, Outcome, SubjectState, check_datasets
from being.deploy.farm_display import FarmDisplay, last_line
from being.deploy.farm_manifest import Subject
from being.deploy.farm_stages import STAGES, Place, SubjectStages
from being.deploy.ray_cluster import check_resources
from being.deploy.ray_workers import StageCrashed, run_stage
from being.errors import BeingError, EnvironmentFault, InputRejected


def subject(folder: Path, name: str, **settings: object) -> Subject:
    """A subject whose clip holds its name."""
    clip = folder / f"{name}.mp4"
    clip.write_text(name)
    return Subject(name, (clip,), None, **settings)  # type: ignore[arg-type]


def make(stages: SubjectStages, stage: str) -> str:
    """Make what a stage makes, without its work."""
    name, place = stages.subject.name, stages.place
    stages.begin(stage)
    if stage == "preprocess":
        path = place.dataset(name)
        path.mkdir(parents=True)
        source = {"sha256": stages.clips()[0]}
        (path / "dataset.json").write_text(json.dumps({"source": source}))
    elif stage == "train":
        path = place.home / "runs" / name / "20260101-000000_quick"
        (path / "avatar").mkdir(parents=True)
        (path / "avatar" / "manifest.json").write_text("{}")
    else:
        found = stages.video()
        assert found is not None
        path = found
        path.parent.mkdir()
        path.write_bytes(b"video")
    stages.finish(stage, str(path))
    return str(path)


class FakeWorkers:
    """Does stages at once, without their work. `faults`: (subject, stage) -> message."""

    def __init__(self, place: Place, faults: dict[tuple[str, str], str] | None = None):
        self.place, self.faults = place, faults or {}
        self.started: list[tuple[str, str]] = []
        self.waiting: list[tuple[Subject, str]] = []
        self.stopped = False
        self.interrupt_at: tuple[str, str] | None = None

    def start(self, subject: Subject, stage: str) -> None:
        self.started.append((subject.name, stage))
        self.waiting.append((subject, stage))

    def look(self, seconds: float) -> tuple[list[Beginning], list[Outcome]]:
        found, stage = self.waiting.pop(0)
        if (found.name, stage) == self.interrupt_at:
            raise KeyboardInterrupt
        begun = [Beginning(found.name, stage, "node")]
        if (fault := self.faults.get((found.name, stage))) is not None:
            return begun, [Outcome(found.name, stage, error=fault)]
        return begun, [Outcome(found.name, stage, make(SubjectStages(found, self.place), stage))]

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place.of(tmp_path / "home", tmp_path / "people.yaml")
    made.state.mkdir(parents=True)
    return made


def states(farm: Farm) -> dict[str, str]:
    return {state.name: state.state for state in farm.run()}


def test_each_subject_passes_all_stages_and_a_failure_stops_nobody_else(
    tmp_path: Path, place: Place
) -> None:
    people = [subject(tmp_path, name) for name in "abc"]
    workers = FakeWorkers(place, {("b", "preprocess"): "no face"})
    seen: list[str] = []
    farm = Farm(people, place, workers, lambda state: seen.append(state.line()))
    assert states(farm) == {"a": "done", "b": "failed", "c": "done"}
    assert [stage for name, stage in workers.started if name == "a"] == list(STAGES)
    assert [line for line in seen if line.startswith("b: ")][-1] == (
        "b: preprocess failed: no face"
    )
    assert sum("failed" in line for line in seen) == 1
    assert farm.states["a"].facts()["made"] == list(STAGES)


def test_a_second_call_does_only_what_is_not_done(tmp_path: Path, place: Place) -> None:
    people = [subject(tmp_path, name) for name in "ab"]
    Farm(people, place, FakeWorkers(place, {("b", "train"): "disk full"})).run()
    again = FakeWorkers(place)
    assert states(Farm(people, place, again)) == {"a": "done", "b": "done"}
    assert again.started == [("b", "train"), ("b", "render")]
    third = FakeWorkers(place)
    assert states(Farm(people, place, third)) == {"a": "done", "b": "done"}
    assert third.started == []


def test_another_text_renders_anew_and_another_config_trains_anew(
    tmp_path: Path, place: Place
) -> None:
    Farm([subject(tmp_path, "a")], place, FakeWorkers(place)).run()

    def redone(**settings: object) -> list[str]:
        stages = SubjectStages(subject(tmp_path, "a", **settings), place)
        return [stage for stage in STAGES if not stages.result(stage)]

    assert redone() == []
    assert redone(text="Hello") == ["render"]
    assert redone(override=("train.fine.steps=3",)) == ["train", "render"]


def test_a_result_whose_record_was_not_written_is_found(tmp_path: Path, place: Place) -> None:
    """The worker was killed between the end of the stage and its record."""
    stages = SubjectStages(subject(tmp_path, "a"), place)
    for stage in STAGES[:2]:
        make(stages, stage)
    stages.begin("render")
    video = stages.video()
    assert video is not None and not stages.result("render")
    video.parent.mkdir()
    video.write_bytes(b"video")
    assert stages.result("render") == str(video)


def test_a_dataset_of_somebody_else_is_never_replaced(tmp_path: Path, place: Place) -> None:
    first = subject(tmp_path, "a")
    make(SubjectStages(first, place), "preprocess")
    check_datasets([first], place)
    with pytest.raises(InputRejected, match="made with other settings"):
        check_datasets([subject(tmp_path, "a", size=256)], place)
    first.video[0].write_text("another video")
    with pytest.raises(InputRejected, match="subject 'a': .* made of another video"):
        check_datasets([first], place)


def test_an_interrupt_stops_the_workers(tmp_path: Path, place: Place) -> None:
    workers = FakeWorkers(place)
    workers.interrupt_at = ("a", "train")
    with pytest.raises(KeyboardInterrupt):
        Farm([subject(tmp_path, "a")], place, workers).run()
    assert workers.stopped


def test_a_repeated_stage_counts_its_attempts(tmp_path: Path, place: Place) -> None:
    farm = Farm([subject(tmp_path, "a")], place, FakeWorkers(place))
    for _ in range(2):
        farm._begun(Beginning("a", "preprocess", "node"))
    assert farm.states["a"].line() == "a: preprocess running on node, attempt 2"


@pytest.mark.parametrize(
    "nodes, told",
    [
        ([{"CPU": 8}], "asks for 2 GPUs: no machine of the cluster has one"),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], "asks for 2 GPUs: a machine has 1"),
        ([{"CPU": 2, "GPU": 2}, {"CPU": 64}], "asks for 4 CPUs: a machine has 2"),
    ],
)
def test_a_cluster_that_lacks_something_is_told(nodes: list[dict[str, float]], told: str) -> None:
    with pytest.raises(EnvironmentFault, match=told):
        check_resources(nodes, "subject 'a'", 4, 2)
    check_resources([*nodes, {"CPU": 4, "GPU": 2}], "subject 'a'", 4, 2)


def test_off_a_terminal_each_change_is_one_plain_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    monkeypatch.setattr(console, "json", False)
    with FarmDisplay(lambda name: tmp_path / name) as display:
        display.changed(SubjectState("a", "train", "running", 1, "10.0.0.1"))
        display.changed(SubjectState("b", "train", "failed", error="no\nface"))
    shown = capsys.readouterr()
    assert shown.out == "a: train running on 10.0.0.1\n"
    assert shown.err == "b: train failed: no face\n"


def test_on_a_terminal_a_table_has_a_row_for_each_subject(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    (tmp_path / "a").write_text("steps\nfine 3/10\x1b[31m\n")
    with FarmDisplay(lambda name: tmp_path / name) as display:
        display.changed(SubjectState("a", "train", "running", 1, since=time.monotonic()))
        display.changed(SubjectState("b", "preprocess", "failed", error="no face"))
        from rich.console import Console

        screen = Console(width=100, record=True, file=open(os.devnull, "w"))
        screen.print(display._table())
    rows = screen.export_text().splitlines()
    assert rows[1].split()[:4] == ["a", "train", "running", "0:00"] and "fine 3/10\\x1b" in rows[1]
    assert rows[2].split() == ["b", "preprocess", "failed", "no", "face"]
    assert rows[3].strip() == "1 running, 1 failed"


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 5000 + b"\nlast \xff\n")
    assert last_line(tmp_path / "log") == "last \ufffd"
    assert last_line(tmp_path / "none") == ""


# Processes of stages. The program is replaced by a short script.


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Makes a stage run this Python text instead of `being`; returns the words of a command."""

    def use(text: str) -> list[str]:
        script = tmp_path / "script.py"
        script.write_text("import json, os, signal, sys, time\n" + text)
        launcher = tmp_path / "launcher.py"
        launcher.write_text(
            "import sys\nfrom being.deploy import stage_process\n"
            f"stage_process.PROGRAM = [sys.executable, {str(script)!r}]\n"
            "sys.exit(stage_process.main())\n"
        )
        monkeypatch.setattr(stage_process, "MODULE", [str(launcher)])
        return []

    return use


def run(tmp_path: Path, stage: str = "preprocess") -> str:
    place = Place.of(tmp_path / "home", tmp_path / "people.yaml")
    place.state.mkdir(parents=True, exist_ok=True)
    return run_stage(subject(tmp_path, "a"), stage, place, {"BEING_HOME": str(place.home)})


def test_a_stage_returns_what_its_command_made(
    tmp_path: Path, program: Callable[[str], list[str]]
) -> None:
    program('print(json.dumps({"ok": True, "dataset": os.environ["BEING_HOME"] + "/data/a"}))')
    assert run(tmp_path) == str(tmp_path / "home/data/a")
    assert "BEING_HOME" not in os.environ or os.environ["BEING_HOME"] != str(tmp_path / "home")


def test_an_honest_failure_is_not_repeated_and_a_crash_is(
    tmp_path: Path, program: Callable[[str], list[str]]
) -> None:
    refusal = (
        '{"ok": False, "error": {"what": "no face", "why": "black", "fix": "Record", "code": 4}}'
    )
    program(f"print(json.dumps({refusal})); sys.exit(4)")
    with pytest.raises(BeingError) as error:
        run(tmp_path)
    assert str(error.value) == "no face: black. Record"
    program("print('deep in a kernel', file=sys.stderr); os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(StageCrashed, match="ended by signal 11; its last words: deep in a kernel"):
        run(tmp_path)


def test_a_stage_ends_with_the_worker_that_holds_it(
    tmp_path: Path, program: Callable[[str], list[str]]
) -> None:
    """Also where the worker is killed, and the stage has started programs of its own."""
    program(
        "import subprocess\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pids')!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(tmp_path / 'pids')!r} + '.new', {str(tmp_path / 'pids')!r})\n"
        "time.sleep(60)"
    )
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from pathlib import Path; from being.deploy import stage_process as s; "
            f"s.MODULE = [{str(tmp_path / 'launcher.py')!r}]; "
            f"s.run_attached(Path({str(tmp_path / 'l')!r}), Path({str(tmp_path / 'log')!r}), [])",
        ]
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert all(alive(pid) for pid in pids)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    """Whether a process runs, and is not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
