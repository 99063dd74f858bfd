"""A run's JSON files of wrong types are refused; torn metrics and host names leave no trace."""

from __future__ import annotations

import json
import platform
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from being.errors import InputRejected, UsageError
from being.runs.metric_loggers import TensorBoardLogger
from being.runs.run_directory import Run

STATES: dict[str, Any] = {
    "stage": [None, 3, "middle", ["fine"]],
    "step": ["3", -1, 1.5, True, 10**30, None],
    "audio_width": [0, "7", None, -3],
    "best": [None, "x", [], True],
    "plateau": [[], 3, {}, {"best": "x", "waited": 1, "since": None}, {"best": 1, "waited": "x"}],
}
WHOLE_PLATEAU = {"best": 1.0, "waited": 0, "since": None}
STATES["plateau"] += [
    {key: value for key, value in WHOLE_PLATEAU.items() if key != left_out}
    for left_out in WHOLE_PLATEAU
]


@pytest.mark.parametrize("key", STATES)
def test_a_checkpoint_state_of_wrong_types_is_refused(key: str, run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    file = copy / "checkpoints/last/state.json"
    state = json.loads(file.read_text())
    for wrong in STATES[key]:
        file.write_text(json.dumps({**state, key: wrong}))
        with pytest.raises(InputRejected, match=key):
            Run.open(copy).load("last")
    file.write_text("[" * 100_000)
    with pytest.raises(InputRejected, match="cannot be read"):
        Run.open(copy).load("last")


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": 3},
        {"dataset": "a\0b"},
        {"dataset": "x" * 5000},
        {"name": "../../escape"},
        {"name": "\x1b[31m"},
        {"wandb": ["x"]},
        {"best": "high"},
    ],
)
def test_a_run_record_of_wrong_types_is_refused(
    change: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(InputRejected, match="incomplete"):
        Run.open(copy)


def test_torn_and_foreign_lines_of_the_metrics_are_dropped(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    kept = '{"stage": "coarse", "step": 1, "loss": 0.5}'
    torn = ['{"stage": "coarse", "st', "[]", "3", '{"stage": 3, "step": 1}', "[" * 99_999, "\x85"]
    lines = [kept, *torn, '{"stage": "coarse"}', '{"stage": "fine", "step": "1"}', kept]
    (copy / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe")
    opened = Run.open(copy)
    opened.rewind(opened.load("last"))
    assert (copy / "metrics.jsonl").read_text() == f"{kept}\n{kept}\n"


def test_a_config_that_cannot_be_read_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    for content in (b"\xff", b"[" * 9000, b"9" * 9000, b"a: &a [*a]", b"2001-99-99", b"3", b"word"):
        (copy / "config.yaml").write_bytes(content)
        with pytest.raises((InputRejected, UsageError)):
            _ = Run.open(copy).config


def test_event_files_hold_the_metrics_and_no_host_name(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first in (1, 3):  # a run that continues writes a second file
        logger = TensorBoardLogger(tmp_path)
        for step in (first, first + 1):
            logger.write("fine", step, {"loss": 1 / step})
        logger.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    names = {socket.gethostname(), platform.node()} - {"", "localhost"}
    for file in files:
        assert not any(name.lower() in file.name.lower() for name in names if len(name) > 3)
        assert not any(name.encode() in file.read_bytes() for name in names if len(name) > 3)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [event.step for event in read.Scalars("fine/loss")] == [1, 2, 3, 4]
