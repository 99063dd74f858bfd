"""Loggers for training metrics: TensorBoard event files and Weights & Biases."""

from __future__ import annotations

import importlib
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
    """Writes TensorBoard event files into a folder."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"{stage}/{key}", value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


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
