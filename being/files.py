"""Writing of JSON and tensor files: they appear complete or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then rename the file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1))
    os.replace(part, path)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file. Raises OSError, for instance on a full disk.

    The library's own writer raises another type then, which says nothing of the file.
    """
    from safetensors.torch import save

    path.write_bytes(
        save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    )
