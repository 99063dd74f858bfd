"""Where datasets and runs lie; JSON and tensor files, written whole or not at all, checked when read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from being.errors import InputRejected, UsageError


def home() -> Path:
    """Where `data/` and `runs/` are: the folder in BEING_HOME, else the current one."""
    return Path(os.environ.get("BEING_HOME", "."))


def newest(folder: Path, marker: str) -> Path | None:
    """The directory one or two levels under `folder` whose file `marker` was changed last."""
    found = [p for depth in ("*", "*/*") for p in folder.glob(depth) if (p / marker).is_file()]
    return max(found, key=lambda p: (p / marker).stat().st_mtime, default=None)


def latest_dataset() -> Path:
    """The most recent dataset under `data/`. Raises UsageError when there is none."""
    found = newest(home() / "data", "dataset.json")
    if found is None:
        raise UsageError(f"there is no dataset under {home() / 'data'}", fix="Make one with: being preprocess VIDEO")
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON under a temporary name and rename."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1))
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InputRejected when it cannot be read or is none."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputRejected(f"{path} cannot be read", str(error)) from error
    if not isinstance(value, dict):
        raise InputRejected(f"{path} is not a JSON object")
    return value


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises InputRejected when it is missing, truncated or not finite."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputRejected(f"{path} cannot be read", str(error)) from error
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputRejected(f"{path} holds values that are not finite", name)
    return tensors
