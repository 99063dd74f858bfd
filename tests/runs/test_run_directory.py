"""A run survives damaged files and moved folders, or says what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import settings

from being.config import Config
from being.errors import BeingError, InputRejected
from being.locks import locked
from being.runs.run_directory import Checkpoint, Run
from being.train.training import find_unfinished_run, run_to_continue

STATE = {"stage": "coarse", "step": 20, "best": 1.0, "audio_width": 146}


def make_dataset(folder: Path, video: str = "a") -> Path:
    folder.mkdir(parents=True)
    manifest = {"name": "me", "source": {"sha256": video * 64}}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def config() -> Config:
    return settings(40, 10)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the dataset `me`."""
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "home"))
    make_dataset(tmp_path / "home/data/me")
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, config: Config) -> Run:
    """An unfinished run with the checkpoints `last` of step 20, best, and those of 10 and 20."""
    made = Run.create(home / "data/me", "me", config, "tiny", home / "runs")
    for step in (10, 20):
        state = {**STATE, "step": step}
        made.save("best", weights(step), state)
        made.save("last", weights(step), state, {"means.0.step": torch.tensor(float(step))})
        made.save(f"coarse-{step:06d}", weights(step), state)
    return made


def weights(step: int) -> dict[str, torch.Tensor]:
    return {"means": torch.full((50, 3), float(step))}


def damage(file: Path, kind: str) -> None:
    """What a power cut leaves of a file that was not on the disk."""
    content = file.read_bytes()
    file.write_bytes({"empty": b"", "zeros": b"\0" * len(content), "half": content[:-40]}[kind])


# --- checkpoints


def test_a_checkpoint_holds_what_was_saved(run: Run) -> None:
    found = Run.open(run.path).load("last")
    assert isinstance(found, Checkpoint) and found.state == {**STATE, "schema": 1}
    assert torch.equal(found.model["means"], weights(20)["means"])
    assert float(found.optimizer["means.0.step"]) == 20
    hidden = [path for path in run.path.rglob(".*") if path.name != ".work"]
    assert hidden == [], "no part and no lock stays"


@pytest.mark.parametrize("kind", ["empty", "zeros", "half"])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_the_newest_whole_checkpoint_is_used_and_named(
    run: Run, capsys: pytest.CaptureFixture[str], file: str, kind: str
) -> None:
    damage(run.path / "checkpoints/last" / file, kind)
    damage(run.path / "checkpoints/coarse-000020/model.safetensors", "half")
    found = Run.open(run.path).load_newest()
    assert found is not None and found.state["step"] == 10 and not found.optimizer
    said = capsys.readouterr().err
    assert file in said and "the checkpoint coarse-000010 is used instead (coarse step 10)" in said


def test_tensors_of_which_the_end_is_zero_are_not_whole(run: Run) -> None:
    file = run.path / "checkpoints/last/model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-100] + b"\0" * 100)
    with pytest.raises(InputRejected, match="model.safetensors was altered"):
        run.load("last")


def test_a_numbered_checkpoint_that_a_kill_kept_from_its_name_is_written_again(
    home: Path, config: Config, run: Run
) -> None:
    """It is that of an uninterrupted run to the byte; parts of the killed save are removed."""
    state = {**STATE, "numbered": True}
    for name in ("last", "coarse-000020"):
        run.save(name, weights(20), state)
    folder = run.path / "checkpoints/coarse-000020"
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    folder.rename(folder.with_name(".coarse-000020.part-0123456789ab"))
    last = run.load_newest()
    assert last is not None
    run.complete_checkpoints(last)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
    assert not list((run.path / "checkpoints").glob(".*"))
    run.save("last", weights(25), {**STATE, "step": 25, "numbered": False})
    last = run.load_newest()
    assert last is not None
    run.complete_checkpoints(last)
    assert not (run.path / "checkpoints/coarse-000025").exists()


def test_a_new_run_removes_the_locks_of_dead_processes(
    home: Path, run: Run, config: Config
) -> None:
    folder = home / "runs/me"
    (folder / ".dead.lock").write_text("process 1")
    with locked(folder / "live", "works"):
        Run.create(home / "data/me", "me", config, "tiny", home / "runs")
        assert [path.name for path in folder.glob(".*.lock")] == [".live.lock"]


def test_training_begins_again_only_where_no_checkpoint_was_saved(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (run.path / "checkpoints").iterdir():
        if path.name != "best":  # it may be older than the first `last`
            shutil.rmtree(path)
    assert run.load_newest() is None and capsys.readouterr().err == ""


def test_a_run_without_a_whole_checkpoint_is_not_begun_again(run: Run) -> None:
    for file in run.path.glob("checkpoints/*/model.safetensors"):
        damage(file, "zeros")
    with pytest.raises(InputRejected, match="model.safetensors cannot be read"):
        run.load_newest()


def test_the_best_checkpoint_falls_back_to_the_last(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run.path / "checkpoints/best/state.json", "empty")
    found = run.load_best()
    assert found is not None and found.state["step"] == 20
    assert "the checkpoint last is used instead" in capsys.readouterr().err


def test_metrics_are_on_the_disk_before_the_checkpoint_of_their_step(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr("being.runs.run_directory.sync_file", lambda path: order.append(path.name))
    monkeypatch.setattr("being.files.replace_folder", lambda part, folder: order.append("rename"))
    run.log("coarse", 20, {"psnr": 1.0})
    run.close_metric_loggers()
    run.save("last", weights(20), STATE)
    assert order == ["metrics.jsonl", "rename"]


@pytest.mark.parametrize("line", ['{"stage": "coarse", "st', "\0\0\0", "12", "[]", '{"step": 1}'])
def test_torn_lines_of_the_metrics_are_left_out(run: Run, line: str) -> None:
    whole = json.dumps({"stage": "coarse", "step": 5})
    (run.path / "metrics.jsonl").write_text(f"{whole}\n{line}\n")
    run.rewind(run.load("last"))
    assert (run.path / "metrics.jsonl").read_text() == f"{whole}\n"


# --- config.yaml and run.json


@pytest.mark.parametrize("kind", ["empty", "zeros"])
def test_a_lost_config_comes_back_from_a_checkpoint(
    run: Run, config: Config, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, an empty file was taken for the default config."""
    before = (run.path / "config.yaml").read_bytes()
    damage(run.path / "config.yaml", kind)
    assert Run.open(run.path).config.to_dict() == config.to_dict()
    assert "config.yaml cannot be read" in capsys.readouterr().err
    assert (run.path / "config.yaml").read_bytes() == before
    assert run_to_continue("all") == run.path


def test_a_config_that_a_person_has_edited_is_never_replaced(run: Run) -> None:
    (run.path / "config.yaml").write_text("data: [")
    with pytest.raises(InputRejected, match="config.yaml cannot be read"):
        Run.open(run.path).config  # noqa: B018
    assert (run.path / "config.yaml").read_text() == "data: ["


def test_a_config_that_is_nowhere_is_refused(run: Run) -> None:
    shutil.rmtree(run.path / "checkpoints")
    damage(run.path / "config.yaml", "empty")
    with pytest.raises(InputRejected, match="config.yaml cannot be read: it is missing or empty"):
        Run.open(run.path).config  # noqa: B018


@pytest.mark.parametrize("kind", ["empty", "zeros"])
def test_a_damaged_run_is_skipped_aloud(
    run: Run, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damage(run.path / "run.json", kind)
    assert run_to_continue("all") is None
    said = capsys.readouterr().err
    assert f"run {run.path} is not continued" in said and "run.json cannot be read" in said


def test_a_new_run_appears_whole(home: Path, config: Config) -> None:
    """A kill while it is made leaves a hidden folder, which is no run."""
    with (
        pytest.raises(KeyboardInterrupt),
        Run.building(home / "data/me", "me", config, "tiny", home / "runs") as run,
    ):
        assert run.path.name.startswith(".") and list((home / "runs/me").glob("[!.]*")) == []
        raise KeyboardInterrupt
    assert not (home / "runs").exists()


def test_two_runs_of_one_second_have_two_folders(home: Path, config: Config) -> None:
    made = [Run.create(home / "data/me", "me", config, "x", home / "runs") for _ in range(3)]
    assert len({run.path for run in made}) == 3


# --- moved and linked folders


def find(run: Path, dataset: Path, home: Path, config: Config) -> bool:
    """Whether the run is found as the unfinished run of the dataset."""
    from types import SimpleNamespace

    described = SimpleNamespace(name="me", path=dataset)
    found = find_unfinished_run(home / "runs", described, config, "tiny")  # type: ignore[arg-type]
    return found is not None and os.path.samefile(found.path, run)


@pytest.mark.parametrize("linked", ["runs", "runs/me", "data", "data/me", "."])
def test_linked_folders_of_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, linked: str
) -> None:
    make_dataset(tmp_path / "disk/a/b/data/me")
    home = tmp_path / "home"
    if linked == ".":
        home.symlink_to(tmp_path / "disk/a/b")
    elif linked.startswith("data"):
        (home / linked).parent.mkdir(parents=True, exist_ok=True)
        (home / linked).symlink_to(tmp_path / "disk/a/b" / linked)
    else:
        make_dataset(home / "data/me")
        (tmp_path / "disk" / linked).mkdir(parents=True)
        (home / linked).parent.mkdir(parents=True, exist_ok=True)
        (home / linked).symlink_to(tmp_path / "disk" / linked)
    monkeypatch.setenv("BEING_HOME", str(home))
    run = Run.create(home / "data/me", "me", config, "tiny", home / "runs")
    assert run.dataset == (home / "data/me").resolve()
    assert find(run.path, home / "data/me", home, config)


def test_a_run_that_wrote_its_dataset_without_following_links(
    home: Path, tmp_path: Path, run: Run
) -> None:
    """As earlier versions did, where `runs` is a link."""
    record = json.loads((run.path / "run.json").read_text())
    assert record["dataset"] == "../../../data/me"
    (home / "runs").rename(tmp_path / "elsewhere")
    (home / "runs").symlink_to(tmp_path / "elsewhere")
    assert Run.open(home / "runs/me" / run.path.name).dataset == (home / "data/me").resolve()


def test_moved_folders_are_found_or_named(
    home: Path, tmp_path: Path, run: Run, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """A home that moved as a whole; a run that moved alone; a dataset that went away."""
    moved = (home / "runs").rename(tmp_path / "other") / "me" / run.path.name
    assert Run.open(moved).dataset == (home / "data/me").resolve()
    assert "is now" in capsys.readouterr().out
    (tmp_path / "other").rename(home / "runs")
    away = home.rename(tmp_path / "away")
    assert Run.open(away / "runs/me" / run.path.name).dataset == (away / "data/me").resolve()
    (away / "data/me").rename(away / "data/renamed")
    said = "the dataset of the run .* is not there: it was .*data/me.*moved.*Move or link"
    with pytest.raises(InputRejected, match=said):
        Run.open(away / "runs/me" / run.path.name).dataset  # noqa: B018


def test_a_dataset_path_that_no_file_system_takes_is_gone(home: Path, run: Run) -> None:
    run.update(dataset="x" * 3000)
    with pytest.raises(InputRejected, match="is not there"):
        Run.open(run.path).dataset  # noqa: B018


def test_a_run_is_not_continued_on_a_dataset_of_another_video(
    home: Path, run: Run, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find(run.path, home / "data/me", home, config)
    shutil.rmtree(home / "data/me")
    make_dataset(home / "data/me", video="b")
    assert not find(run.path, home / "data/me", home, config)
    assert "made again, of another video" in capsys.readouterr().err
    with pytest.raises(InputRejected, match="made again, of another video"):
        Run.open(run.path).dataset  # noqa: B018


# --- two processes


def test_the_second_training_of_a_run_is_told_who_has_it(run: Run) -> None:
    with (
        run.locked(),
        pytest.raises(BeingError, match=rf"process {os.getpid()} .*trains this run.*--fresh"),
        Run.open(run.path).locked(),
    ):
        pass
