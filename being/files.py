"""Reading and writing JSON, array and tensor files, with checks."""

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

RESTORE_HINT = "Copy it again from its source, or create it again"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then rename the file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1))
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InputRejected when there is none that can be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputRejected(f"{path} cannot be read", str(error), RESTORE_HINT) from error
    if not isinstance(value, dict):
        raise InputRejected(f"{path} cannot be read", "it is not a JSON object", RESTORE_HINT)
    return value


def load_arrays(path: Path, fix: str = RESTORE_HINT) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or the array of a .npy file under "".

    Raises InputRejected when the file is missing, cut off, or holds anything but plain arrays.
    """
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
        why = "it holds no plain arrays"
        if str(error) and "pickle" not in str(error):
            why = str(error).splitlines()[0]
        raise InputRejected(f"{path} cannot be read", why, fix) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises InputRejected when the file is missing, truncated or holds values that are not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputRejected(f"{path} cannot be read", str(error), RESTORE_HINT) from error
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputRejected(f"{path} holds values that are not finite", name, RESTORE_HINT)
    return tensors


def load_pickled(path: Path) -> Any:
    """The content of a torch.save file: tensors, numbers, text, lists and dicts of them.

    Nothing else is unpickled. Raises InputRejected when the file holds more, is broken or missing.
    """
    import torch

    # A file of the old format cannot be mapped into memory.
    for mapped in (True, False):
        try:
            with warnings.catch_warnings():
                # Warnings about foreign content: it is refused below.
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # torch.load raises many types for a broken or foreign pickle
            if not mapped:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise InputRejected(
                    f"{path} cannot be read as plain tensors",
                    reason[:200],
                    "Save it again as a dict of tensors with torch.save; files that need code to "
                    "run are refused",
                ) from error
    raise AssertionError
