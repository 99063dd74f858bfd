"""Files and folders are written whole or not at all, safe on the disk, each part for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from being import files
from being.files import (
    Part,
    new_file,
    new_folder,
    old_folder,
    remove_abandoned_parts,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """The file is whole, and of the one that ended last."""
    target = tmp_path / "one.mp4"
    with Part(target) as first, Part(target) as second:
        assert first.path != second.path and first.path.suffix == ".mp4"
        first.path.write_text("first")
        second.path.write_text("second")
        second.publish()
        assert target.read_text() == "second"
    assert target.read_text() == "first" and names(tmp_path) == ["one.mp4"]


def test_an_error_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "new" / "one.txt"
    with pytest.raises(OSError), new_file(target) as part:
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == [], "nor the folder that was made for it"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), new_file(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and names(target.parent) == ["one.txt"]


def test_a_signal_before_the_block_begins_leaves_no_part(tmp_path: Path) -> None:
    """SIGTERM comes between the making of the part and its `with`; a child does not clean."""
    code = """
import os, signal, sys
from pathlib import Path
from being.files import Part
signal.signal(signal.SIGTERM, signal.default_int_handler)
part = Part(Path(sys.argv[1]) / "new" / "one.mp4")
if os.fork() == 0:
    sys.exit()
os.wait()
assert part.path.exists()
os.kill(os.getpid(), signal.SIGTERM)
"""
    program = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(program, capture_output=True, text=True)
    assert run.stderr.rstrip().endswith("KeyboardInterrupt"), run.stderr
    assert names(tmp_path) == [], "nor the folder that was made for it"


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def traced_replace(source: Path, target: Path) -> None:
        calls.append(("rename", Path(source).name))
        replace(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the names of open files are read from /proc")
    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    write_json(tmp_path / "state.json", {"step": 1})
    part = calls[0][1]
    assert calls == [("fsync", part), ("rename", part), ("fsync", tmp_path.name)]


def test_a_folder_and_all_in_it_are_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    sync = files._sync
    monkeypatch.setattr(
        files, "_sync", lambda path, flags: (synced.append(path), sync(path, flags))
    )
    with new_folder(tmp_path / "made") as part:
        (part / "below").mkdir()
        (part / "below/one").write_text("1")
    expected = {part / "below/one", part / "below", part, tmp_path}
    assert set(synced) == expected and synced[-1] == tmp_path


@pytest.mark.parametrize("swap", [True, False])
def test_a_folder_is_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    """With the system's swap of two names, and on systems without."""
    if not swap:
        monkeypatch.setattr(files, "_swap_names", lambda one, other: False)
    target = tmp_path / "made"
    for content in ("old", "new"):
        with new_folder(target) as part:
            (part / content).write_text(content)
    assert names(target) == ["new"] and names(tmp_path) == ["made"]


def test_the_old_folder_comes_back_after_a_kill_between_two_renames(tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / "old").write_text("")
    target.rename(old_folder(target))
    with pytest.raises(KeyboardInterrupt), new_folder(target):
        assert names(target) == ["old"]
        raise KeyboardInterrupt
    assert names(target) == ["old"] and names(tmp_path) == ["made"]


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    for disk in ("big", "home"):
        (tmp_path / disk).mkdir()
    (tmp_path / "big/me").mkdir()
    (tmp_path / "big/me/old").write_text("")
    (tmp_path / "home/me").symlink_to(tmp_path / "big/me")
    with new_folder(tmp_path / "home/me") as part:
        (part / "new").write_text("")
    assert (tmp_path / "home/me").is_symlink() and names(tmp_path / "home") == ["me"]
    assert names(tmp_path / "big/me") == ["new"] and names(tmp_path / "big") == ["me"]

    (tmp_path / "home/one.txt").symlink_to(tmp_path / "big/one.txt")
    write_text(tmp_path / "home/one.txt", "text")
    assert (tmp_path / "big/one.txt").read_text() == "text"
    assert names(tmp_path / "home") == ["me", "one.txt"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_free_name_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    made = []
    for content in "abc":
        with Part(tmp_path / "speech.mp4", free_name=True) as part:
            part.path.write_text(content)
            made.append(part.publish().name)
    assert (
        made == ["speech.mp4", "speech-2.mp4", "speech-3.mp4"] == sorted(names(tmp_path), key=len)
    )
    assert [(tmp_path / name).read_text() for name in made] == ["a", "b", "c"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a pipe or a device"):
        write_text(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo() and names(tmp_path) == ["pipe"]


def test_a_name_of_the_greatest_length(tmp_path: Path) -> None:
    """Also of another script, and with a suffix that is none."""
    for name in ("a" * 251 + ".mp4", "é" * 125 + ".wav", "b." + "c" * 253):
        write_text(tmp_path / name, "text")
        with new_folder(tmp_path / name[::-1]) as part:
            (part / "one").write_text("")
    assert len(names(tmp_path)) == 6


HOLDING = """
import sys, time
from pathlib import Path
from being.files import Part
part = Part(Path(sys.argv[1]), folder=sys.argv[2] == "folder")
print(part.path, flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_only_the_part_of_a_dead_process_is_removed(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "one.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, target, kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    part = Path(process.stdout.readline().strip())
    remove_abandoned_parts(tmp_path)
    assert part.exists(), "its process lives"
    process.send_signal(signal.SIGKILL)
    process.wait()
    others = [".other.mp4", ".part-0123.mp4", ".x.part-0123456789ab.part", "one.mp4"]
    for name in others:
        (tmp_path / name).write_text("not a part")
    write_text(tmp_path / "two.mp4", "another target in the same folder")
    assert names(tmp_path) == sorted([*others, "two.mp4"])
