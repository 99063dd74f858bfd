"""A run directory: config, environment, checkpoints, metrics and events; found, made, resumed."""

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
from safetensors.torch import save_file
from torch import Tensor

import being
from being.config import Config, from_dict
from being.errors import BeingError, InputRejected, UsageError
from being.files import load_tensors, read_json, write_json
from being.paths import home, newest, replace_folder
from being.runs.metric_loggers import Board, WeightsAndBiases, events

CHECKPOINT_SCHEMA = 1


@dataclass
class Checkpoint:
    """A saved state: model tensors, optimizer tensors (empty but in `last`) and facts."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


class Run:
    """One training run on disk: `runs/<subject>/<time>_<config>/`."""

    def __init__(self, path: Path):
        self.path = path
        self.record: dict[str, Any] = read_json(path / "run.json")
        self._boards: list[Board] | None = None

    @classmethod
    def create(cls, dataset: Path, name: str, config: Config, label: str, runs: Path) -> Run:
        """A new run of `config` (called `label`) on the dataset directory, under `runs`."""
        folder = runs / name
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = folder / f"{stamp}_{label}"
        for attempt in range(2, 100):
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                path = folder / f"{stamp}-{attempt}_{label}"
            except OSError as error:
                raise BeingError(
                    f"cannot make the run directory {path}",
                    str(error),
                    "Choose another place with BEING_HOME",
                ) from error
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
        write_json(
            path / "run.json",
            {
                "schema": CHECKPOINT_SCHEMA,
                "name": name,
                "config": label,
                "finished": False,
                "dataset": os.path.relpath(dataset, path),
            },
        )
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run at `path`. Raises InputRejected when it is none or of another schema."""
        path = Path(path)
        if not (path / "run.json").is_file():
            raise InputRejected(
                f"{path} is not a run", "it has no run.json", "Train one with: being train DATA"
            )
        run = cls(path)
        if run.record.get("schema") != CHECKPOINT_SCHEMA:
            raise InputRejected(
                f"{path} has run schema {run.record.get('schema')}, this version reads "
                f"{CHECKPOINT_SCHEMA}",
                fix="Use the version of being that made it, or train again",
            )
        if not isinstance(run.record.get("dataset"), str):
            raise InputRejected(
                f"{path / 'run.json'} is incomplete", "it names no dataset", "Train again"
            )
        return run

    @classmethod
    def find(cls, path: Path | None, finished: bool = False) -> Run:
        """The run at `path`, or the most recent one (that has an avatar). Raises UsageError when
        there is none.
        """
        if path is not None:
            return cls.open(path)
        latest = newest(home() / "runs", "avatar/manifest.json" if finished else "run.json")
        if latest is None:
            raise UsageError(
                f"there is no {'finished ' * finished}run under {home() / 'runs'}",
                fix="Train one with: being train DATA",
            )
        return cls.open(latest)

    @property
    def config(self) -> Config:
        """The resolved config the run was started with."""
        try:
            return from_dict(yaml.safe_load((self.path / "config.yaml").read_text()) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputRejected(
                f"{self.path / 'config.yaml'} cannot be read", str(error)
            ) from error

    @property
    def dataset(self) -> Path:
        """The dataset directory the run was trained on."""
        return (self.path / self.record["dataset"]).resolve()

    def update(self, **facts: Any) -> None:
        """Change facts in run.json."""
        self.record.update(facts)
        write_json(self.path / "run.json", self.record)

    def save(
        self,
        name: str,
        model: dict[str, Tensor],
        state: dict[str, Any],
        optimizer: dict[str, Tensor] | None = None,
    ) -> Path:
        """Write checkpoint `name`; it appears whole or not at all."""
        folder = self.path / "checkpoints" / name
        part = folder.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in model.items()}, part / "model.safetensors"
        )
        if optimizer is not None:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in optimizer.items()},
                part / "optimizer.safetensors",
            )
        write_json(part / "state.json", {"schema": CHECKPOINT_SCHEMA, **state})
        replace_folder(part, folder)
        return folder

    def load(self, name: str) -> Checkpoint | None:
        """Checkpoint `name`, or None when there is none. Raises InputRejected when it is broken."""
        folder = self.path / "checkpoints" / name
        if not folder.exists():  # killed between the two renames of `save`
            folder = folder.with_name(f".{name}.old")
        if not folder.exists():
            return None
        state = read_json(folder / "state.json")
        if state.get("schema") != CHECKPOINT_SCHEMA:
            raise InputRejected(
                f"{folder} has checkpoint schema {state.get('schema')}, this version reads "
                f"{CHECKPOINT_SCHEMA}",
                fix="Use the version of being that made it, or train again",
            )
        optimizer = folder / "optimizer.safetensors"
        return Checkpoint(
            load_tensors(folder / "model.safetensors"),
            load_tensors(optimizer) if optimizer.exists() else {},
            state,
        )

    def chosen(self) -> tuple[str, Checkpoint] | None:
        """Name and content of the checkpoint that the avatar is made of: `closed` where a finished
        run has one, else `best`, else `last`; None before the first. Raises InputRejected when it
        is broken."""
        for name in (*(["closed"] if self.record.get("closed") is True else []), "best", "last"):
            found = self.load(name)
            if found is not None:
                return name, found
        return None

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Append figures to metrics.jsonl and to the boards that are open (by themselves: the
        events).
        """
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"stage": stage, "step": step, **values}) + "\n")
        if self._boards is None:
            self.open_boards(None)
        for board in self._boards or []:
            board.write(stage, step, values)

    def rewind(self, last: Checkpoint | None) -> None:
        """Drop what metrics.jsonl holds of steps after the checkpoint, or all: they are done again."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return
        reached = ("", 0) if last is None else (last.state["stage"], last.state["step"])
        kept = []
        for line in file.read_text().splitlines():
            try:
                figures = json.loads(line)
            except ValueError:  # cut off by the kill
                continue
            if (figures["stage"], figures["step"]) <= reached:  # "coarse" sorts before "fine"
                kept.append(line + "\n")
        part = file.with_name(file.name + ".part")
        part.write_text("".join(kept))
        os.replace(part, file)

    def open_boards(self, log: str | None) -> None:
        """Open TensorBoard's events and the board `log` ("wandb") for figures; an earlier one of
        the run goes on.
        """
        self._boards = events(self.path / "events")
        if log == "wandb":
            key = self.record.get("wandb") or f"{self.record['name']}-{secrets.token_hex(4)}"
            name = f"{self.record['name']} {self.path.name}"
            self._boards.append(WeightsAndBiases(self.path, key, name, self.config.to_dict()))
            self.update(wandb=key)

    def close_boards(self) -> None:
        """Let the boards write what they still hold."""
        for board in self._boards or []:
            board.close()
        self._boards = None
