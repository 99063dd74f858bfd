"""`being rm`: all of a person goes and nothing else, also after kills, with links and faults."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import being
from small_homes import add_dataset, add_person, add_run, write

from being.files import Part
from being.library.belongings import find_belongings
from being.library.removal import remove
from being.locks import locked

HOSTILE = "a\x1b[31mred\u202egpj"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with Ada and May; Ada's must always stay."""
    home = tmp_path / "home"
    monkeypatch.setenv("BEING_HOME", str(home))
    add_person(home, "Ada")
    add_person(home, "May")
    return home


def content(folder: Path) -> dict[str, str]:
    """Every file, folder and link below `folder`, with its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = "folder"
        if path.is_symlink():
            what = f"link to {os.readlink(path)}"
        elif path.is_file():
            what = path.read_text(errors="replace")
        found[str(path.relative_to(folder))] = what
    return found


@pytest.fixture
def only_ada(home: Path) -> Callable[[], bool]:
    """Whether the home holds what is Ada's, and nothing more."""
    kept = {name: text for name, text in content(home).items() if "May" not in name}
    return lambda: content(home) == kept


def rm(*arguments: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON object and stderr of `being rm`."""
    result = being("rm", "--json", *arguments)
    assert "Traceback" not in result.stderr and "internal error" not in result.stderr, result.stderr
    return result.exit_code, json.loads(result.stdout), result.stderr


def test_all_of_a_person_goes_and_nothing_of_another(
    home: Path, only_ada: Callable[[], bool]
) -> None:
    write(home / "data/.May.part/ori_imgs/0.jpg")
    write(home / "data/.May.part-0123456789ab/ori_imgs/0.jpg")
    write(home / "runs/May/.20260103-100000_quick.part-0123456789ab/run.json")
    write(home / "runs/May/.20260101-100000_quick.lock")
    write(home / "runs/May/notes.txt")
    write(home / "data/May-2.being", "damaged")
    code, answer, _ = rm("May", "--yes")
    assert code == 0 and not answer["failed"] and only_ada(), content(home).keys()
    assert len(answer["removed"]) == len(answer["items"]) == 12


def test_names_that_only_begin_alike_stay(home: Path) -> None:
    others = [
        write(home / "data/.Mayor.part/0.jpg"),
        write(home / "data/.May.v2.part-0123456789ab/0.jpg"),
        write(home / "exports/May-too-gaussiantalker/READ_ME.txt"),
        write(home / "Mayor.being"),
        add_dataset(home / "data/May2") / "dataset.json",
        add_dataset(home / "data/may") / "dataset.json",
    ]
    assert rm("May", "--yes")[0] == 0
    assert all(file.exists() for file in others)


def test_datasets_and_runs_belong_by_their_own_names_too(home: Path) -> None:
    data = add_dataset(home / "data/clip7", "Eve")
    by_dataset = add_run(home / "runs/trial/one", data, name="trial")
    by_name = add_run(home / "runs/trial/two", home / "data/Ada", name="Eve")
    other = add_run(home / "runs/trial/three", home / "data/Ada", name="trial")
    code, answer, _ = rm("Eve", "--yes")
    assert code == 0 and set(answer["removed"]) == {str(data), str(by_dataset), str(by_name)}
    assert answer["removed"][-1] == str(data), "by the dataset a stopped removal finds the runs"
    assert (other / "run.json").exists()


def test_the_runs_of_a_dataset_that_is_gone_belong_too(home: Path) -> None:
    run = add_run(home / "runs/trial/one", home / "data/Eve", name="trial")
    assert rm("Eve", "--yes")[1]["removed"] == [str(run)] and not run.exists()


def test_a_dry_run_shows_and_changes_nothing(home: Path) -> None:
    before = content(home)
    code, answer, shown = rm("May", "--dry-run")
    assert code == 0 and answer["dry_run"] and content(home) == before
    for part in ("data/May", "runs/May/20260102-100000_quick", "May.being", "eval/b_May"):
        assert str(home / part) in shown
    total = sum(item["bytes"] for item in answer["items"])
    assert answer["bytes"] == total > 6 * 4096


def test_without_a_terminal_the_list_is_shown_and_nothing_removed(home: Path) -> None:
    before = content(home)
    code, answer, shown = rm("May")
    assert code == 2 and "--yes" in answer["error"]["fix"] and len(answer["items"]) == 7
    assert str(home / "data/May") in shown and content(home) == before
    assert str(home / "data/May") in being("rm", "May", "-q").stderr


@pytest.mark.parametrize("answer, removed", [("yes", True), ("Y", True), ("", False), ("n", False)])
def test_on_a_terminal_it_asks(
    home: Path,
    only_ada: Callable[[], bool],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    removed: bool,
) -> None:
    from being.cli.library_commands import QUESTION
    from being.cli.library_commands import rm as command
    from being.errors import BeingError

    before, screen = content(home), Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    monkeypatch.setattr(sys, "stderr", screen)
    if removed:
        command("May")
        assert only_ada()
    else:
        with pytest.raises(BeingError, match="the answer was not yes"):
            command("May")
        assert content(home) == before
    shown, _, _ = screen.getvalue().partition(QUESTION)
    assert str(home / "data/May") in shown, "the question comes after the list"


@pytest.mark.parametrize("name", ["", ".", "..", "data/May", "/", "../home/data/May", ".May"])
def test_what_is_no_name_is_refused(home: Path, name: str) -> None:
    before = content(home)
    code, answer, _ = rm("--yes", "--", name)
    assert code == 2 and "is not the name" in answer["error"]["what"] and content(home) == before


def test_an_unknown_name_is_refused(home: Path) -> None:
    assert rm("Maj", "--yes")[1]["error"]["fix"] == "See the names with: being list"


@pytest.mark.parametrize("name", [HOSTILE, "-rf", "*", "a b\n", os.fsdecode(b"x\xff"), "~"])
def test_odd_names_are_safe(home: Path, only_ada: Callable[[], bool], name: str) -> None:
    assert rm("May", "--yes")[0] == 0
    data = add_dataset(home / "data" / name, "fine")
    add_run(home / "runs" / name / "one", data, name="fine")
    result = being("rm", "--yes", "--", name)
    assert result.exit_code == 0, result.stderr
    assert not set("\x1b\u202e\udcff") & set(result.stdout + result.stderr)
    assert only_ada()


def test_no_link_is_followed(home: Path, tmp_path: Path) -> None:
    outside = add_dataset(tmp_path / "outside/Eve")
    run = add_run(tmp_path / "outside/runs/one", outside, name="Eve")
    before = content(tmp_path / "outside")
    (home / "data/Eve").symlink_to(outside)
    (home / "runs/Eve").symlink_to(run.parent)
    (home / "data/others").symlink_to(tmp_path / "outside")
    (home / "runs/Ada/linked").symlink_to(run)
    inner = add_run(home / "runs/Eve2/one", outside, name="Eve")
    (inner / "videos/out").symlink_to(tmp_path / "outside")
    (inner / "videos/file").symlink_to(outside / "dataset.json")
    code, answer, shown = rm("Eve", "--yes")
    assert code == 0 and content(tmp_path / "outside") == before
    left = [name for name in content(home) if "Eve" in name or "linked" in name]
    assert left == ["runs/Eve2"] and (home / "data/others").is_symlink()
    assert f"{outside} stays: only the link {home / 'data/Eve'} to it is removed" in shown
    assert f"{home / 'data/others/Eve'} stays: it lies behind the link" in shown


def test_in_linked_data_and_runs_the_content_goes_and_the_links_stay(
    home: Path, tmp_path: Path
) -> None:
    for name in ("data", "runs"):
        (home / name).rename(tmp_path / f"disk-{name}")
        (home / name).symlink_to(tmp_path / f"disk-{name}")
    assert rm("May", "--yes")[0] == 0
    assert (home / "data").is_symlink() and (home / "runs").is_symlink()
    assert os.listdir(tmp_path / "disk-data") == os.listdir(tmp_path / "disk-runs") == ["Ada"]


def test_a_dataset_outside_the_home_is_named_and_stays(home: Path, tmp_path: Path) -> None:
    data = add_dataset(tmp_path / "elsewhere/Eve")
    add_run(home / "runs/Eve/one", data)
    code, answer, _ = rm("Eve", "--yes")
    assert code == 0 and data.exists() and str(data) in answer["kept"][0]


@pytest.mark.parametrize(
    "held", ["data/May", "runs/May/20260102-100000_quick", "runs/May/20260101-100000_quick/eval"]
)
def test_nothing_is_removed_while_a_process_holds_a_lock(home: Path, held: str) -> None:
    before = content(home)
    with locked(home / held, "trains this run"):
        code, answer, _ = rm("May", "--yes")
    assert code == 1 and "is in use" in answer["error"]["what"]
    assert "trains this run since" in answer["error"]["why"] and content(home) == before


def test_nothing_is_removed_while_a_video_or_dataset_is_being_made(home: Path) -> None:
    before = content(home)
    for target in ("runs/May/20260101-100000_quick/videos/new.mp4", "runs/May/new.mp4"):
        part = Part(home / target)
        code, answer, _ = rm("May", "--yes")
        part.discard()
        assert code == 1 and "another process writes" in answer["error"]["why"]
    write(home / "data/.Eve.part/0.jpg")
    with locked(home / "data/Eve", "makes this dataset"):
        assert rm("Eve", "--yes")[0] == 1
    assert (home / "data/.Eve.part/0.jpg").exists()
    assert rm("Eve", "--yes")[0] == 0 and content(home) == before


def killed_at(call: int, home: Path) -> bool:
    """Remove May in a process that is killed at this call that changes the disk; whether it was."""
    child = os.fork()
    if child == 0:
        left = call

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def change(*arguments: Any, **settings: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return function(*arguments, **settings)

            return change

        for name in ("rename", "unlink", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            remove(find_belongings("May", home))
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_removal_that_is_killed_leaves_no_half_and_the_next_one_ends_it(
    home: Path, only_ada: Callable[[], bool]
) -> None:
    kills = 0
    trial = add_run(home / "runs/trial/one", home / "data/May", name="trial")
    before = content(home)
    while killed_at(kills, home):
        kills += 3  # every third call, for the time it takes
        whole = {path.parent for path in home.rglob("run.json") if "removed" not in str(path)}
        assert all((run / "videos/hello.mp4").exists() for run in whole), "a half run"
        if (home / "data/May").exists():
            assert (home / "data/May/ori_imgs/0.jpg").exists(), "a half dataset"
        code, answer, _ = rm("May", "--yes")
        # Only a kill at the very end leaves nothing for a second removal, but a lock file.
        assert code == 0 or "there is nothing" in answer["error"]["what"]
        left = [name for name in content(home) if "May" in name or "remov" in name]
        assert not trial.exists() and (code == 2 or not left), left
        assert all(name.endswith(".lock") for name in left)
        add_person(home, "May")
        add_run(trial, home / "data/May", name="trial")
        assert content(home) == before
    assert kills > 30 and not any("May" in name for name in content(home))


def test_what_cannot_be_removed_is_named_and_the_others_go(
    home: Path, only_ada: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, unlink = os.rename, os.unlink

    def stubborn_rename(source: Any, *arguments: Any, **settings: Any) -> None:
        if str(source).endswith("exports/May-gaussiantalker"):
            raise PermissionError(13, "Permission denied", str(source))
        rename(source, *arguments, **settings)

    def stubborn_unlink(path: Any, **settings: Any) -> None:
        if str(path).endswith("hello.mp4"):
            raise OSError(30, "Read-only file system", str(path))
        unlink(path, **settings)

    monkeypatch.setattr(os, "rename", stubborn_rename)
    monkeypatch.setattr(os, "unlink", stubborn_unlink)
    code, answer, shown = rm("May", "--yes")
    assert (
        code == 1 and [entry["why"] for entry in answer["failed"]].count("Permission denied") == 1
    )
    assert "May-gaussiantalker cannot be removed: Permission denied" in shown
    assert "videos/hello.mp4 cannot be removed: Read-only file system" in shown
    assert not (home / "data/May").exists() and not (home / "May.being").exists()
    monkeypatch.undo()
    monkeypatch.setenv("BEING_HOME", str(home))
    assert rm("May", "--yes")[0] == 0 and only_ada()
