"""A run directory: its config, checkpoints and metrics; create, find and open runs."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import being
from being.config import Config, from_dict
from being.errors import BeingError, InputRejected, UsageError
from being.files import save_tensors, write_json
from being.names import check_subject_name
from being.paths import home, newest_folder, replace_folder
from being.reading.content import Unreadable, read_text, reason
from being.reading.structured import SETTINGS_MAX, parse_yaml, read_json
from being.reading.tensors import load_tensors
from being.runs.metric_loggers import MetricLogger, WandbLogger, tensorboard_loggers
from being.runs.record_checks import check_run_record, check_state, metrics_position

CHECKPOINT_SCHEMA = 1


@dataclass
class Checkpoint:
    """A saved training state."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # empty except in the checkpoint `last`
    state: dict[str, Any]  # stage, step and other facts of JSON types


class Run:
    """One training run on disk: `runs/<subject>/<time>_<config>/`."""

    def __init__(self, path: Path):
        self.path = path
        self.record: dict[str, Any] = read_json(path / "run.json")
        self._metric_loggers: list[MetricLogger] | None = None

    @classmethod
    def create(cls, dataset: Path, name: str, config: Config, label: str, runs: Path) -> Run:
        """Create a run of `config`, called `label`, on the dataset directory, under `runs`.

        `name` is the subject. Raises BeingError when the directory cannot be made.
        """
        check_subject_name(name)
        path = _new_folder(runs / name, label)
        (path / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
        environment = {
            "being": being.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "system": platform.system(),
            "threads": torch.get_num_threads(),
        }
        write_json(path / "environment.json", environment)
        record = {
            "schema": CHECKPOINT_SCHEMA,
            "name": name,
            "config": label,
            "finished": False,
            "dataset": os.path.relpath(dataset, path),
        }
        write_json(path / "run.json", record)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run at `path`. Raises InputRejected when there is none or its schema is another."""
        path = Path(path)
        if not (path / "run.json").is_file():
            raise InputRejected(
                f"{path} is not a run", "it has no run.json", "Train one with: being train DATA"
            )
        run = cls(path)
        schema = run.record.get("schema")
        if schema != CHECKPOINT_SCHEMA:
            raise InputRejected(
                f"{path} has run schema {schema}, this version reads {CHECKPOINT_SCHEMA}",
                fix="Use the version of being that wrote it, or train again",
            )
        check_run_record(path / "run.json", run.record)
        return run

    @classmethod
    def find(cls, path: Path | None, finished: bool = False) -> Run:
        """The run at `path`, or the most recent run under BEING_HOME when `path` is None.

        finished: only runs with an avatar count. Raises UsageError when there is none.
        """
        if path is not None:
            return cls.open(path)
        latest = newest_folder(home() / "runs", "avatar/manifest.json" if finished else "run.json")
        if latest is None:
            raise UsageError(
                f"there is no {'finished ' * finished}run under {home() / 'runs'}",
                fix="Train one with: being train DATA",
            )
        return cls.open(latest)

    @property
    def config(self) -> Config:
        """The resolved config with which the run was started.

        Raises InputRejected when config.yaml cannot be read, UsageError when a key of it is unknown
        or has a new name.
        """
        file = self.path / "config.yaml"
        try:
            tree = parse_yaml(read_text(file, SETTINGS_MAX)) or {}
        except (OSError, Unreadable) as error:
            raise InputRejected(f"{file} cannot be read", reason(error)) from error
        try:
            return from_dict(tree)
        except UsageError as error:
            why = "; ".join(filter(None, (error.why, f"set by {file}")))
            raise UsageError(error.what, why, error.fix) from None

    @property
    def dataset(self) -> Path:
        """The dataset directory on which the run was trained."""
        return (self.path / self.record["dataset"]).resolve()

    def update(self, **facts: Any) -> None:
        """Change facts in run.json."""
        self.record.update(facts)
        write_json(self.path / "run.json", self.record)

    # --- checkpoints ---

    def save(
        self,
        name: str,
        model: dict[str, Tensor],
        state: dict[str, Any],
        optimizer: dict[str, Tensor] | None = None,
    ) -> Path:
        """Write the checkpoint `name` and return its folder; it appears complete or not at all."""
        folder = self.path / "checkpoints" / name
        part = folder.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_tensors(part / "model.safetensors", model)
        if optimizer is not None:
            save_tensors(part / "optimizer.safetensors", optimizer)
        write_json(part / "state.json", {"schema": CHECKPOINT_SCHEMA, **state})
        replace_folder(part, folder)
        return folder

    def load(self, name: str) -> Checkpoint | None:
        """The checkpoint `name`, or None when it does not exist.

        Raises InputRejected when it is damaged or its schema is another.
        """
        folder = self.path / "checkpoints" / name
        # A run that was killed between the two renames of `save` left the old folder only.
        if not folder.exists():
            folder = folder.with_name(f".{name}.old")
        if not folder.exists():
            return None
        state = read_json(folder / "state.json")
        schema = state.get("schema")
        if schema != CHECKPOINT_SCHEMA:
            raise InputRejected(
                f"{folder} has checkpoint schema {schema}, this version reads {CHECKPOINT_SCHEMA}",
                fix="Use the version of being that wrote it, or train again",
            )
        check_state(folder, state)
        optimizer = folder / "optimizer.safetensors"
        return Checkpoint(
            load_tensors(folder / "model.safetensors"),
            load_tensors(optimizer) if optimizer.exists() else {},
            state,
        )

    def avatar_checkpoint(self) -> tuple[str, Checkpoint] | None:
        """Name and content of the checkpoint from which the avatar is built; None before the first.

        That is `closed` (after the lip closure distillation) when a finished run has it, else
        `best`, else `last`. Raises InputRejected when it is damaged.
        """
        names = ["best", "last"]
        if self.record.get("closed") is True:
            names.insert(0, "closed")
        for name in names:
            found = self.load(name)
            if found is not None:
                return name, found
        return None

    # --- metrics ---

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Append metrics to metrics.jsonl and send them to the metric loggers.

        Opens the TensorBoard logger when no logger is open.
        """
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"stage": stage, "step": step, **values}) + "\n")
        if self._metric_loggers is None:
            self.open_metric_loggers(None)
        for logger in self._metric_loggers or []:
            logger.write(stage, step, values)

    def rewind(self, last: Checkpoint | None) -> None:
        """Remove from metrics.jsonl the steps after the checkpoint `last` (None: all of them),
        because they are trained again.
        """
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return
        reached = ("", 0) if last is None else (last.state["stage"], last.state["step"])
        kept = []
        for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
            # A line is torn when the process was killed while it wrote the line.
            position = metrics_position(line)
            # "coarse" sorts before "fine".
            if position is not None and position <= reached:
                kept.append(line + "\n")
        part = file.with_name(file.name + ".part")
        part.write_text("".join(kept))
        os.replace(part, file)

    def open_metric_loggers(self, log: str | None) -> None:
        """Open the TensorBoard logger and, when `log` is "wandb", Weights & Biases.

        A run of Weights & Biases that this run has already used is resumed.
        """
        self._metric_loggers = tensorboard_loggers(self.path / "events")
        if log == "wandb":
            key = self.record.get("wandb") or f"{self.record['name']}-{secrets.token_hex(4)}"
            name = f"{self.record['name']} {self.path.name}"
            logger = WandbLogger(self.path, key, name, self.config.to_dict())
            self._metric_loggers.append(logger)
            self.update(wandb=key)

    def close_metric_loggers(self) -> None:
        """Close all metric loggers, which write what they have buffered."""
        for logger in self._metric_loggers or []:
            logger.close()
        self._metric_loggers = None


def _new_folder(parent: Path, label: str) -> Path:
    """Make and return `<time>_<label>` under `parent`; a number is added when it exists."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = parent / f"{stamp}_{label}"
    for attempt in range(2, 100):
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            path = parent / f"{stamp}-{attempt}_{label}"
        except OSError as error:
            raise BeingError(
                f"cannot make the run directory {path}",
                str(error),
                "Choose another folder with BEING_HOME",
            ) from error
    return path
