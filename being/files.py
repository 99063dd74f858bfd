"""Files of JSON, arrays and tensors: written whole, checked when read."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from being.errors import InputRejected

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

AGAIN = "Copy it again from where it came, or make it anew"


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
        raise InputRejected(f"{path} cannot be read", str(error), AGAIN) from error
    if not isinstance(value, dict):
        raise InputRejected(f"{path} cannot be read", "it is not a JSON object", AGAIN)
    return value


def load_arrays(path: Path, fix: str = AGAIN) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or that of a .npy file under "". Raises InputRejected
    when it is missing, cut off, or holds anything but plain arrays."""
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise InputRejected(f"{path} is missing", fix=fix) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = (
            str(error).splitlines()[0]
            if str(error) and "pickle" not in str(error)
            else "it holds no plain arrays"
        )
        raise InputRejected(f"{path} cannot be read", why, fix) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises InputRejected when it is missing, truncated or not
    finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputRejected(f"{path} cannot be read", str(error), AGAIN) from error
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputRejected(f"{path} holds values that are not finite", name, AGAIN)
    return tensors


def load_pickled(path: Path) -> Any:
    """What torch.save wrote to a file of another system: tensors, numbers, text, lists and dicts of
    them.

    Nothing else is unpickled. Raises InputRejected for a file that holds more, is broken or
    missing.
    """
    import torch

    for mapped in (True, False):  # a file of the old format cannot be mapped
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of what a foreign pickle may hold: it is refused below
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # torch.load raises many kinds for a broken or foreign pickle
            if not mapped:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise InputRejected(
                    f"{path} cannot be read as plain tensors",
                    reason[:200],
                    "Save it again as a dict of tensors with torch.save; files that need code to run "
                    "are refused",
                ) from error
    raise AssertionError
