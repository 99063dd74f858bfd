"""A run directory: its config, checkpoints and metrics; create, find and open runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import being
from being.config import Config, from_dict
from being.console import console
from being.errors import BeingError, InputRejected, UsageError
from being.files import (
    Part,
    new_folder,
    old_folder,
    remove_abandoned_parts,
    save_tensors,
    sync_file,
    write_json,
    write_text,
)
from being.locks import locked, remove_abandoned_locks
from being.names import check_subject_name
from being.paths import check_folder, home, newest_folder, real_path, user_path
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
        self._config: Config | None = None
        self._dataset: Path | None = None
        self._metric_loggers: list[MetricLogger] | None = None

    @classmethod
    def create(cls, dataset: Path, name: str, config: Config, label: str, runs: Path) -> Run:
        """Create a run of `config`, called `label`, on the dataset directory, under `runs`.

        `name` is the subject. Raises BeingError when the directory cannot be made.
        """
        with cls.building(dataset, name, config, label, runs) as run:
            pass
        return run

    @classmethod
    @contextmanager
    def building(
        cls,
        dataset: Path,
        name: str,
        config: Config,
        label: str,
        runs: Path,
        path: Path | None = None,
    ) -> Iterator[Run]:
        """A run in a hidden folder, which gets its name when the block ends without an error.

        Arguments as of `create`. path: the run's folder, instead of a new one under `runs`. Raises
        BeingError when the directory cannot be made, UsageError for a name that no folder can have.
        """
        check_subject_name(name)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = path or runs / name / f"{stamp}_{label}"
        remove_abandoned_locks(target.parent)
        try:
            part = Part(target, folder=True, free_name=path is None)
        except OSError as error:
            raise BeingError(
                f"cannot make the run directory {target}",
                str(error),
                "Choose another folder with BEING_HOME",
            ) from error
        more = (target.with_name(f"{stamp}-{k}_{label}") for k in itertools.count(2))
        with part:
            _write_facts(part.path, dataset, name, config, label)
            run = cls(part.path)
            yield run
            run.path = part.publish(itertools.chain([part.target], more))

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run at `path`. Raises InputRejected when there is none or its schema is another."""
        path = user_path(path)
        check_folder(path, "a run", "Train one with: being train DATA")
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

    def locked(self) -> AbstractContextManager[None]:
        """The lock that a process holds while it trains the run. Raises BeingError, which names
        the other process, when it is taken.
        """
        fix = "Wait for it to end, or start another run with --fresh"
        return locked(self.path, "trains this run", fix)

    @property
    def config(self) -> Config:
        """The resolved config with which the run was started.

        Where config.yaml is missing or empty, as a power cut may leave it, the config is that of a
        checkpoint, and a warning says so. Raises InputRejected when it cannot be read, UsageError
        when a key of it is unknown or has a new name.
        """
        if self._config is not None:
            return self._config
        file = self.path / "config.yaml"
        try:
            text = read_text(file, SETTINGS_MAX) if file.exists() else ""
            tree = parse_yaml(text) if text.strip("\0\n\t ") else None
        except (OSError, Unreadable) as error:
            raise InputRejected(f"{file} cannot be read", reason(error)) from error
        if not tree:
            tree = self._config_of_checkpoint(file, "it is missing or empty")
        try:
            self._config = from_dict(tree)
        except UsageError as error:
            why = "; ".join(filter(None, (error.why, f"set by {file}")))
            raise UsageError(error.what, why, error.fix) from None
        return self._config

    def _config_of_checkpoint(self, file: Path, why: str) -> dict[str, Any]:
        """The config that a checkpoint holds; writes it to `file` again.

        why: what is wrong with `file`. Raises InputRejected when no checkpoint holds one.
        """
        for name in self._checkpoint_names():
            try:
                tree = read_json(self._checkpoint_folder(name) / "state.json").get("config")
            except InputRejected:
                continue
            if isinstance(tree, dict) and tree:
                console.warn(f"{file} cannot be read: {why}; taken from the checkpoint {name}")
                with suppress(OSError):
                    write_text(file, yaml.safe_dump(tree, sort_keys=False))
                return tree
        raise InputRejected(
            f"{file} cannot be read", why, "Restore it from a copy, or train again with --fresh"
        )

    @property
    def dataset(self) -> Path:
        """The dataset directory on which the run was trained.

        It is looked for where the run says, then under `data/` of the home; a line says so when it
        has moved. Raises InputRejected when it is nowhere, or was made again of another video.
        """
        if self._dataset is None:
            self._dataset = self._find_dataset()
        return self._dataset

    def _find_dataset(self) -> Path:
        written, source = self.record["dataset"], self.record.get("source")
        name = Path(written).name
        places = [
            real_path(self.path) / written,
            # Earlier versions did not follow the links in the path of the run.
            Path(os.path.normpath(self.path.absolute() / written)),
            home() / "data" / name,
        ]
        first, other_video = real_path(places[0]), False
        for place in map(real_path, places):
            # os.path.isfile is False for names that no file system takes.
            if not os.path.isfile(place / "dataset.json"):
                continue
            if source and _source_of(place) not in (None, source):
                other_video = True
                continue
            if place != first:
                console.info(f"the dataset of {self.path} is now {place}, it was {first}")
            return place
        if other_video:
            raise InputRejected(
                f"the dataset of the run {self.path} was made again, of another video",
                f"looked in {first}",
                "Put the old dataset back there, or train another run",
            )
        raise InputRejected(
            f"the dataset of the run {self.path} is not there",
            f"it was {first}; the dataset or the run was moved",
            f"Move or link it to {first}, or to {home() / 'data' / name}",
        )

    def update(self, **facts: Any) -> None:
        """Change facts in run.json."""
        self.record.update(facts)
        write_json(self.path / "run.json", self.record)

    def note_dataset(self, dataset: Path) -> None:
        """Write down where the dataset is now, in case it has moved."""
        self.update(**_dataset_facts(dataset, self.path))

    # --- checkpoints ---

    def save(
        self,
        name: str,
        model: dict[str, Tensor],
        state: dict[str, Any],
        optimizer: dict[str, Tensor] | None = None,
    ) -> Path:
        """Write the checkpoint `name` and return its folder; it appears complete or not at all.

        The old checkpoint of that name stays until the new one is on the disk.
        """
        folder = self.path / "checkpoints" / name
        tensors = {"model": model}
        if optimizer is not None:
            tensors["optimizer"] = optimizer
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            sync_file(metrics)
        with new_folder(folder) as part:
            digests = {}
            for kind, values in tensors.items():
                save_tensors(part / f"{kind}.safetensors", values)
                digests[kind] = _digest(part / f"{kind}.safetensors")
            facts = {"schema": CHECKPOINT_SCHEMA, **state, "digests": digests}
            write_json(part / "state.json", {**facts, "config": self.config.to_dict()})
        return folder

    def complete_checkpoints(self, last: Checkpoint) -> None:
        """Write the numbered checkpoint that belongs to `last`, where a kill or a stop came between
        the two; remove what killed saves have left.
        """
        name = f"{last.state['stage']}-{last.state['step']:06d}"
        if last.state.get("numbered") is True and not self._checkpoint_folder(name).exists():
            self.save(name, last.model, last.state)
        for folder in (self.path, self.path / "checkpoints"):
            remove_abandoned_parts(folder)

    def load(self, name: str) -> Checkpoint | None:
        """The checkpoint `name`, or None when it does not exist.

        Raises InputRejected when it is damaged or its schema is another.
        """
        folder = self._checkpoint_folder(name)
        if not folder.exists():
            return None
        state = read_json(folder / "state.json")
        schema = state.get("schema")
        if schema != CHECKPOINT_SCHEMA:
            raise InputRejected(
                f"{folder} has checkpoint schema {schema}, this version reads {CHECKPOINT_SCHEMA}",
                fix="Use the version of being that wrote it, or train again",
            )
        state.pop("config", None)
        digests = state.pop("digests", {})
        check_state(folder, state)
        if not isinstance(digests, dict):
            raise InputRejected(f"{folder / 'state.json'} is damaged", "its digests are no object")
        tensors: dict[str, dict[str, Tensor]] = {"optimizer": {}}
        for kind in ("model", "optimizer"):
            file = folder / f"{kind}.safetensors"
            if kind == "optimizer" and not file.exists() and kind not in digests:
                continue
            tensors[kind] = load_tensors(file)
            if digests.get(kind) not in (None, _digest(file)):
                raise InputRejected(
                    f"{file} was altered", "its sha256 is not the checkpoint's", "Train again"
                )
        return Checkpoint(tensors["model"], tensors["optimizer"], state)

    def load_newest(self) -> Checkpoint | None:
        """The checkpoint from which training continues: `last`; None before the first.

        Where `last` is lost or damaged, it is the newest whole other one, and a warning says so.
        Raises InputRejected when none is whole.
        """
        names = self._checkpoint_names()
        if "last" not in names:
            # `best` may be older than the first `last`: then training begins again.
            names = [name for name in names if "-" in name]
        return self._first_whole(names)

    def load_best(self) -> Checkpoint | None:
        """`best`, or `last` where there is none or it is damaged; a warning says so."""
        return self._first_whole(["best", "last"])

    def _first_whole(self, names: list[str]) -> Checkpoint | None:
        """The first of the checkpoints that is whole; None when none exists."""
        errors: list[InputRejected] = []
        for name in names:
            try:
                found = self.load(name)
            except InputRejected as error:
                errors.append(error)
                continue
            if found is not None:
                for damage in errors:
                    console.warn(f"{damage.what}: {damage.why}")
                if errors:
                    console.warn(
                        f"the checkpoint {name} is used instead ({found.state.get('stage')} step "
                        f"{found.state.get('step')})"
                    )
                return found
        if errors:
            raise errors[0]
        return None

    def _checkpoint_names(self) -> list[str]:
        """`last`, then the numbered checkpoints, newest first, then the others."""
        folder = self.path / "checkpoints"
        names = [path.name for path in folder.glob("*") if not path.name.startswith(".")]
        numbered = sorted((name for name in names if "-" in name), reverse=True)
        last = ["last"] if self._checkpoint_folder("last").exists() else []
        return last + numbered + sorted(set(names) - {"last", *numbered})

    def _checkpoint_folder(self, name: str) -> Path:
        """The folder of a checkpoint, or of the one before where saving ended between two renames
        (`replace_folder`).
        """
        folder = self.path / "checkpoints" / name
        return folder if folder.exists() else old_folder(folder)

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
            # A line is torn when the process was killed, or the power failed, while it was written.
            position = metrics_position(line)
            # "coarse" sorts before "fine".
            if position is not None and position <= reached:
                kept.append(line + "\n")
        write_text(file, "".join(kept))

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


def _write_facts(folder: Path, dataset: Path, name: str, config: Config, label: str) -> None:
    """Write config.yaml, environment.json and run.json of a new run."""
    write_text(folder / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
    environment = {
        "being": being.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
    }
    write_json(folder / "environment.json", environment)
    record = {
        "schema": CHECKPOINT_SCHEMA,
        "name": name,
        "config": label,
        "finished": False,
        **_dataset_facts(dataset, folder),
    }
    write_json(folder / "run.json", record)


def _dataset_facts(dataset: Path, run: Path) -> dict[str, Any]:
    """Where the dataset lies as seen from the run, without links, and of which video it is."""
    return {
        "dataset": os.path.relpath(real_path(dataset), real_path(run)),
        "source": _source_of(dataset),
    }


def _source_of(dataset: Path) -> str | None:
    """sha256 of the video of which a dataset was made; None where it is not known."""
    try:
        source = read_json(dataset / "dataset.json").get("source")
    except InputRejected:
        return None
    digest = source.get("sha256") if isinstance(source, dict) else None
    return digest if isinstance(digest, str) else None


def _digest(file: Path) -> str:
    """sha256 of a file's content, hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()
