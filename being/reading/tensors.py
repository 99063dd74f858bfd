"""Tensors of safetensors and torch.save files that are not trusted."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from being.console import printable
from being.errors import InputRejected
from being.reading.content import (
    RESTORE_HINT,
    TEXT_MAX,
    Unreadable,
    check_regular,
    reason,
    rejected,
)
from being.reading.structured import parse_json

if TYPE_CHECKING:
    from torch import Tensor

FILE_MAX = 8 << 30  # bytes
LENGTH_BYTES = 8  # at the start of a safetensors file, the length of its JSON header
PICKLE_MAX = 8 << 20  # bytes of the structure beside the tensors
DEPTH_MAX = 20  # of lists and dicts in each other
NOT_PLAIN_FIX = (
    "Save it again as a dict of tensors with torch.save; files that need code to run are refused"
)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises InputRejected when the file is missing, truncated, or holds values that are not finite
    or of an unusual type.
    """
    import torch
    from safetensors.torch import load, load_file

    plain = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
    plain |= {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
    try:
        check_regular(path, FILE_MAX)
        # The library opens no path that is no UTF-8.
        plain_path = printable(str(path), one_line=True) == str(path)
        tensors = load_file(path) if plain_path else load(path.read_bytes())
    except Exception as error:  # safetensors and torch raise many types for a broken file
        raise rejected(path, error) from error
    for name, value in tensors.items():
        if value.dtype not in plain:
            raise InputRejected(f"{path} holds values of {value.dtype}", name, RESTORE_HINT)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputRejected(f"{path} holds values that are not finite", name, RESTORE_HINT)
    return tensors


def load_tensor_arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as arrays by name, without torch. Raises as `load_tensors`.

    numpy has no bfloat16: such a file is refused.
    """
    from safetensors.numpy import load

    try:
        check_regular(path, FILE_MAX)
        arrays: dict[str, np.ndarray] = load(path.read_bytes())
    except Exception as error:  # safetensors raises many types for a broken file
        raise rejected(path, error) from error
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise InputRejected(f"{path} holds values of {value.dtype}", name, RESTORE_HINT)
        if value.dtype.kind == "f" and not bool(np.isfinite(value).all()):
            raise InputRejected(f"{path} holds values that are not finite", name, RESTORE_HINT)
    return arrays


def load_metadata(path: Path) -> dict[str, str]:
    """The texts that a safetensors file holds beside its tensors, by name; empty without any.

    Raises InputRejected when the file is missing or truncated.
    """
    try:
        size = check_regular(path, FILE_MAX)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if length > min(size - LENGTH_BYTES, TEXT_MAX):
                raise Unreadable("its header is cut off, or too long")
            header = parse_json(file.read(length).decode())
        texts = header.get("__metadata__") or {} if isinstance(header, dict) else None
        if not isinstance(texts, dict) or not all(isinstance(v, str) for v in texts.values()):
            raise Unreadable("its header is no table of tensors and texts")
    except (OSError, UnicodeDecodeError, Unreadable) as error:
        raise rejected(path, error) from error
    return texts


def load_pickled(path: Path) -> Any:
    """The content of a torch.save file: tensors, numbers, text, lists and dicts of them.

    Nothing else is unpickled. Raises InputRejected when the file holds more, is broken or missing,
    or holds a tensor that claims more values than the file stores.
    """
    import torch

    try:
        size = check_regular(path, FILE_MAX)
        if zipfile.is_zipfile(path):
            _check_archive(path, size)
        with warnings.catch_warnings():
            # Warnings about foreign content: it is refused below.
            warnings.simplefilter("ignore")
            content = _load(path)
        _check_content(content, size, torch.Tensor)
    except FileNotFoundError as error:
        raise rejected(path, error) from error
    except Exception as error:  # torch.load raises many types for a broken or foreign pickle
        raise InputRejected(
            f"{path} cannot be read as plain tensors", reason(error), NOT_PLAIN_FIX
        ) from error
    return content


def _load(path: Path) -> Any:
    """The content of the file, mapped into memory where its format allows that."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a file of the old format cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def _check_archive(path: Path, size: int) -> None:
    """Raise Unreadable unless the parts of the archive are stored as they are, as torch does."""
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED or part.file_size > size:
                raise Unreadable(f"its part {part.filename} is compressed")
            if part.filename.endswith("data.pkl") and part.file_size > PICKLE_MAX:
                raise Unreadable(f"its structure has {part.file_size} bytes")


def _check_content(content: Any, size: int, tensor_type: type) -> None:
    """Raise Unreadable for values of other types, and for more numbers than `size` bytes hold."""
    seen: set[int] = set()

    def check(value: Any, depth: int) -> None:
        if isinstance(value, tensor_type):
            _check_tensor(value, size)
            return
        if isinstance(value, (str, bytes, int, float, bool, type(None))):
            return
        if depth > DEPTH_MAX:
            raise Unreadable("its lists and dicts lie too deep in each other")
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, dict):
            for key, item in value.items():
                check(key, depth + 1)
                check(item, depth + 1)
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                check(item, depth + 1)
        # Other values are those that torch allows, for instance a device or a dtype.

    check(content, 0)


def _check_tensor(value: Any, size: int) -> None:
    """Raise Unreadable for a tensor that repeats its storage, is sparse, or has no storage."""
    import torch

    if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
        raise Unreadable("it holds a sparse or quantized tensor, or one without values")
    if value.is_complex():
        raise Unreadable("it holds complex numbers")
    stored = value.untyped_storage().nbytes()
    if value.numel() * value.element_size() > min(stored, size):
        raise Unreadable(f"a tensor {tuple(value.shape)} claims more values than the file stores")
