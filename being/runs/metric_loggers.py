"""Loggers for training metrics: TensorBoard event files and Weights & Biases."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any, Protocol

from being.console import console
from being.errors import EnvironmentFault, UsageError

CHOICES = ("wandb",)


class MetricLogger(Protocol):
    """Receives the metrics of a training step."""

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Log the metrics `values` of `step` in `stage` ("coarse" or "fine")."""

    def close(self) -> None:
        """Write what is still buffered and end the logger."""


class TensorBoardLogger:
    """Writes a TensorBoard event file into a folder.

    TensorBoard's own writers put the host's name into the name of the file. This one does not, so
    a run that is handed on does not tell on which machine it was made.
    """

    def __init__(self, folder: Path):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(_new_event_file(folder), "xb")
        self._records = RecordWriter(self._file)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        scalars = [
            self._summary.Value(tag=f"{stage}/{key}", simple_value=float(value))
            for key, value in values.items()
        ]
        summary = self._summary(value=scalars)
        self._add(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self._file.close()

    def _add(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()


def _new_event_file(folder: Path) -> Path:
    """The path of a new event file; TensorBoard reads the files in the order of their names."""
    seconds, number = int(time.time()), 0
    while (path := folder / f"events.out.tfevents.{seconds}.{number}").exists():
        number += 1
    return path


class WandbLogger:
    """Logs to one run of Weights & Biases.

    wandb reads its own settings from the environment (`WANDB_MODE=offline`, `WANDB_PROJECT`, ...).
    """

    def __init__(self, folder: Path, key: str, name: str, settings: dict[str, Any]):
        """folder: where wandb puts its files; key: the run's id, with which a later call resumes
        it; name: the run's title; settings: its config. Raises EnvironmentFault when wandb cannot
        start."""
        wandb = _import_wandb()
        try:
            self.run = wandb.init(
                id=key,
                name=name,
                dir=str(folder),
                config=settings,
                resume="allow",
                settings={"silent": console.quiet},
            )
        except Exception as error:
            why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise EnvironmentFault(
                "wandb cannot start", why, "Log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error

        # Each stage counts its own steps.
        for stage in ("coarse", "fine"):
            self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        named = {f"{stage}/{key}": value for key, value in values.items()}
        self.run.log({f"{stage}/step": step, **named})

    def close(self) -> None:
        self.run.finish()


def check_metric_logger(log: str | None) -> None:
    """Raise UsageError for an unknown logger name, EnvironmentFault when it is not installed."""
    if log is not None and log not in CHOICES:
        raise UsageError(
            f"unknown log '{log}'",
            "TensorBoard event files are always written",
            f"Known: {', '.join(CHOICES)}",
        )
    if log == "wandb":
        _import_wandb()


def tensorboard_loggers(folder: Path) -> list[MetricLogger]:
    """A TensorBoard logger that writes into `folder`; an empty list, with a warning, when
    tensorboard is not installed.
    """
    try:
        return [TensorBoardLogger(folder)]
    except ImportError:
        console.warn(
            "tensorboard is not installed: metrics go to metrics.jsonl only "
            "(pip install 'being[train]')"
        )
        return []


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise EnvironmentFault(
            "wandb is not installed", "--log wandb needs it", "pip install wandb"
        ) from error
