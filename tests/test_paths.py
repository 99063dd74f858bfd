"""Paths: `~`, URLs, folders that do not exist, names, and outputs that are inputs."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from program import being, refused

from being.errors import InputRejected, UsageError
from being.paths import (
    check_folder,
    check_not_input,
    expand_path,
    free_names,
    hidden_name,
    newest_folder,
    user_path,
)

URL = "https://example.com/clips/me.mp4"
# Commands with one argument that is a file or a folder.
COMMANDS = (
    ["preprocess"],
    ["preprocess", "--check"],
    ["train"],
    ["train", "--run"],
    ["train", "--config"],
    ["config"],
    ["render"],
    ["render", "--audio"],
    ["tts-video", "--text", "Hello"],
    ["bench-fps"],
    ["export", "--ply"],
    ["eval"],
    ["eval", "--cross"],
    ["eval", "--truth", "x.mp4", "--pred"],
    ["data", "pack"],
    ["data", "unpack"],
    ["data", "features"],
    ["data", "features", "--encoder"],
    ["data", "import"],
    ["data", "export"],
    ["import-checkpoint"],
)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/me.mp4") == user_path(Path("~/me.mp4")) == tmp_path / "me.mp4"
    assert user_path("a/~/me.mp4") == Path("a/~/me.mp4")
    assert user_path("~nobody-of-this-name/me.mp4") == Path("~nobody-of-this-name/me.mp4")
    assert expand_path("./owner/model") == "./owner/model"


@pytest.mark.parametrize("url", [URL, "file:///home/me.mp4", "rtsp://camera/1", "S3://bucket/me"])
def test_a_url_is_named_as_it_was_given(url: str) -> None:
    scheme, _, rest = url.partition("://")
    for value in (url, Path(url)):
        with pytest.raises(InputRejected, match="is a URL") as caught:
            user_path(value)
        assert caught.value.what == f"{scheme}://{rest.lstrip('/')} is a URL"


def test_paths_with_a_colon_are_no_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take:").mkdir()
    (tmp_path / "take:/1.mp4").write_bytes(b"")
    for text in ("C:/clips/me.mp4", "12:30.mp4", "take:/1.mp4", "espeak:fr", "owner/model:7"):
        assert expand_path(text) == text


def test_a_missing_folder_is_no_foreign_one(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="does not exist: a run is needed"):
        check_folder(tmp_path / "nothing", "a run", "Train one")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputRejected, match="file is not a run: it is a file"):
        check_folder(tmp_path / "file", "a run", "Train one")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_that_a_url_is_no_file(home: Path, command: list[str]) -> None:
    refused(4, f"{URL} is a URL.*Download it first", *command, URL, watch=(home,))


MISSING = [command for command in COMMANDS if command[-1] not in ("--encoder", "--cross")]


@pytest.mark.parametrize("command", MISSING, ids=" ".join)
def test_every_command_says_that_a_path_does_not_exist(home: Path, command: list[str]) -> None:
    code = 2 if command[-1] in ("config", "--config") else 4
    refused(code, "nowhere.* does not exist|no config file nowhere", *command, "nowhere")


def test_commands_and_being_home_expand_a_home_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home.parent))
    result = being("data", "pack", f"~/{home.name}/data/scene", "--out", "scene.being")
    assert result.exit_code == 0, result.stderr
    Path("scene.being").unlink()
    monkeypatch.setenv("BEING_HOME", f"~/{home.name}")
    result = being("data", "pack", "--out", "scene.being")
    assert result.exit_code == 0 and Path("scene.being").is_file(), result.stderr


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
