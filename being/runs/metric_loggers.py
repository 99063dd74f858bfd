"""Where figures go besides metrics.jsonl: TensorBoard's events, and Weights & Biases when it is
asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from being.console import voice, warn
from being.errors import EnvironmentFault, UsageError

CHOICES = ("wandb",)


class Board(Protocol):
    """Takes the figures of a step, `stage` being "coarse" or "fine"."""

    def write(self, stage: str, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Events:
    """TensorBoard's event files in a folder."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"{stage}/{key}", value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """One run of Weights & Biases; `name` is what it is called, `key` what it is known by when it
    goes on.

    Where to and how is its own affair: `WANDB_MODE=offline`, `WANDB_PROJECT` and the like hold. Its
    files lie in `folder`.
    """

    def __init__(self, folder: Path, key: str, name: str, settings: dict[str, Any]):
        wandb = _wandb()
        try:
            self.run = wandb.init(
                id=key,
                name=name,
                dir=str(folder),
                config=settings,
                resume="allow",
                settings={"silent": voice.quiet},
            )
        except Exception as error:
            why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise EnvironmentFault(
                "wandb cannot start", why, "Log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error
        for stage in ("coarse", "fine"):
            self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        self.run.log(
            {f"{stage}/step": step, **{f"{stage}/{key}": value for key, value in values.items()}}
        )

    def close(self) -> None:
        self.run.finish()


def check(log: str | None) -> None:
    """Raise UsageError when `log` names no board, EnvironmentFault when it is not installed."""
    if log is not None and log not in CHOICES:
        raise UsageError(
            f"unknown log '{log}'", "TensorBoard's events are always written", "Known: wandb"
        )
    if log == "wandb":
        _wandb()


def events(folder: Path) -> list[Board]:
    """TensorBoard's events under `folder`; nothing, and a warning, where tensorboard is not
    installed.
    """
    try:
        return [Events(folder)]
    except ImportError:
        warn(
            "tensorboard is not installed: figures go to metrics.jsonl only (pip install 'being[train]')"
        )
        return []


def _wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise EnvironmentFault(
            "wandb is not installed", "--log wandb needs it", "pip install wandb"
        ) from error
