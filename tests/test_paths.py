"""Names of files, and outputs that are inputs."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from being.errors import UsageError
from being.paths import check_not_input, free_names, hidden_name, newest_folder


def test_hidden_names_fit_into_a_file_system_and_differ() -> None:
    long = ["a" * 255, "a" * 254 + "b", "é" * 127]
    hidden = {hidden_name(name, ".lock") for name in long}
    assert len(hidden) == 3 and max(len(os.fsencode(name)) for name in hidden) <= 255
    assert hidden_name("me", ".part") == ".me.part"


def test_free_names_count_before_the_suffix() -> None:
    found = itertools.islice(free_names(Path("v/speech.mp4")), 3)
    assert [path.name for path in found] == ["speech.mp4", "speech-2.mp4", "speech-3.mp4"]


def test_a_folder_that_is_not_complete_is_not_the_newest(tmp_path: Path) -> None:
    for name in ("me", ".me.part", ".me.old", "subject/run", "subject/.run.part-0123"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("")
    for number, name in enumerate(("me", "subject/run", ".me.part", "subject/.run.part-0123")):
        os.utime(tmp_path / name / "run.json", (number, number))
    os.utime(tmp_path / ".me.old/run.json", (9, 9))
    assert newest_folder(tmp_path, "run.json") == tmp_path / "subject/run"


@pytest.mark.parametrize("kind", ["same", "link", "hard link", "below", "above"])
def test_an_output_that_is_an_input_is_refused(tmp_path: Path, kind: str) -> None:
    video = tmp_path / "data/mine.mp4"
    video.parent.mkdir()
    video.write_text("footage")
    out = {"below": video.parent, "above": video / "one"}.get(kind, tmp_path / "out.mp4")
    if kind == "same":
        out = tmp_path / "data/../data/mine.mp4"
    elif kind == "link":
        out.symlink_to(video)
    elif kind == "hard link":
        out.hardlink_to(video)
    with pytest.raises(UsageError, match="cannot be written while"):
        check_not_input(out, [None, video])
    check_not_input(tmp_path / "data/other.mp4", [video, tmp_path / "missing"])
