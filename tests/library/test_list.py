"""`being list`: what it tells of healthy, unfinished and damaged entries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from program import being
from small_homes import AVATAR, add_dataset, add_person, add_run, write

from being.library.places import size_on_disk
from being.locks import locked

HOSTILE = "a\x1b[31mred\u202egpj"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def listed() -> dict[str, dict[str, Any]]:
    """The entries of `being list --json` by their path below the home."""
    result = being("list", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    return {
        str(Path(entry["path"]).relative_to(answer["home"])): entry for entry in answer["entries"]
    }


def test_an_empty_home_has_nothing(home: Path) -> None:
    result = being("list")
    assert result.exit_code == 0 and f"no dataset and no run under {home}" in result.stdout
    assert not home.exists(), "a list writes nothing"


def test_each_entry_says_what_it_is(home: Path) -> None:
    add_person(home, "May")
    first, second = (f"runs/May/2026010{day}-100000_quick" for day in (1, 2))
    entries = listed()
    assert list(entries) == ["data/May", first, f"{first}/avatar", second]
    told = {
        path: (e["kind"], e["name"], e["state"], e["frames"], e["steps"], e["consent"])
        for path, e in entries.items()
    }
    statement = "her own; release of 3 May"
    assert told == {
        "data/May": ("dataset", "May", "ready", 50, None, statement),
        first: ("run", "May", "finished", None, 1200, "unconfirmed"),
        f"{first}/avatar": ("avatar", "May", "ready", 7, None, "unconfirmed"),
        second: ("run", "May", "not finished, fine", None, 1200, statement),
    }
    assert entries[f"{first}/avatar"]["licence"] == "CC BY"
    table = being("list").stdout
    assert "50 frames" in table and "1200 steps" in table and "licence of May: CC BY" in table
    positions = {line.index("ready") for line in table.splitlines() if "ready" in line}
    assert len(positions) == 1, "the columns are aligned"


def test_the_size_is_that_of_the_blocks_and_follows_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder / "a", "x" * 100_000)
    blocks = os.stat(folder / "a").st_blocks * 512
    before = size_on_disk(folder)
    assert blocks >= 100_000 and before - blocks < 100_000
    (folder / "again").hardlink_to(folder / "a")
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder)
    assert size_on_disk(folder) - before < 20_000


def test_damaged_entries_are_named_and_end_nothing(home: Path) -> None:
    add_dataset(home / "data/good")
    write(home / "data/torn/dataset.json", '{"schema": 1, "na')
    write(home / "data/wrong/dataset.json", {"schema": 1, "name": "../x", "frames": -1})
    write(home / "data/lost/ori_imgs/0.jpg")
    (home / "data/dangling").symlink_to(home / "nowhere")
    (home / "data/loop").symlink_to("loop")
    os.mkfifo(home / "data/pipe")
    write(home / "runs/May/one/run.json", "[" * 100_000)
    write(home / "runs/May/two/checkpoints/last/state.json", {"stage": 3})
    run = add_run(home / "runs/May/three", home / "data/good")
    write(run / "avatar/manifest.json", {**AVATAR, "name": "May", "poses": -2})
    entries = listed()
    damaged = {path for path, entry in entries.items() if entry["damage"]}
    assert damaged == {
        "data/torn",
        "data/wrong",
        "data/lost",
        "data/dangling",
        "data/loop",
        "runs/May/one",
        "runs/May/two",
        "runs/May/three/avatar",
    }
    assert entries["data/lost"]["damage"] == "it has no dataset.json"
    assert "poses" in entries["runs/May/three/avatar"]["damage"]
    result = being("list")
    assert result.exit_code == 0 and result.stderr.count("is damaged") == len(damaged)


def test_a_folder_that_cannot_be_read_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "data/closed").mkdir(parents=True)
    (home / "data/empty").mkdir()
    list_folder = os.listdir

    def closed(path: Any = ".") -> list[str]:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "listdir", closed)
    entries = listed()
    assert list(entries) == ["data/closed"]
    assert entries["data/closed"]["damage"] == "it cannot be read: Permission denied"


def test_records_of_strangers_end_nothing(home: Path) -> None:
    add_dataset(home / "data/May")
    for k, path in enumerate(("\0", "\ud800", "a" * 10_000, "../" * 2000, "", 3, None, ["x"])):
        write(home / f"runs/May/{k}/run.json", {"schema": 1, "name": "May", "dataset": path})
        write(home / f"eval/{k}/metrics.json", {"pred": path, "truth": path})
    assert len(listed()) == 9
    result = being("rm", "May", "--dry-run", "--json")
    assert result.exit_code == 0 and len(json.loads(result.stdout)["items"]) == 9


def test_what_is_unfinished_in_use_or_left_behind_is_listed(home: Path) -> None:
    add_dataset(home / "data/May")
    write(home / "data/.Ada.part/ori_imgs/0.jpg")
    write(home / "data/.Bob.removed-0123456789ab/ori_imgs/0.jpg")
    with locked(home / "data/May", "makes this dataset"):
        entries = listed()
    assert {path: entry["state"] for path, entry in entries.items()} == {
        "data/May": "in use",
        "data/.Ada.part": "unfinished",
        "data/.Bob.removed-0123456789ab": "left by a removal that was stopped",
    }
    assert entries["data/.Ada.part"]["name"] == "Ada"


def test_text_of_files_and_folders_commands_no_terminal(home: Path) -> None:
    add_dataset(home / "data" / HOSTILE, "fine")
    add_dataset(home / "data" / os.fsdecode(b"x\xff"), "bytes")
    run = add_run(home / "runs/May/one", home / "data/fine")
    write(
        run / "avatar/manifest.json",
        {**AVATAR, "name": "May", "licence": HOSTILE + "\nb", "consent": {"statement": HOSTILE}},
    )
    result = being("list")
    assert result.exit_code == 0, result.stderr
    assert not set("\x1b\u202e\udcff") & set(result.stdout + result.stderr)
    assert "\\x1b[31m" in result.stdout and "\\xff" in result.stdout
    json.loads(being("list", "--json").stdout)


def test_linked_folders_are_read(home: Path, tmp_path: Path) -> None:
    add_dataset(tmp_path / "disk/May")
    home.mkdir()
    (home / "data").symlink_to(tmp_path / "disk")
    assert list(listed()) == ["data/May"]


def test_a_list_needs_no_torch(home: Path) -> None:
    add_person(home, "May")
    code = (
        "import sys; from being.library.entries import list_entries; from pathlib import Path\n"
        "assert len(list_entries(Path(sys.argv[1]))) == 4; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, home], check=True)
