"""The bytes and the text of a file that is not trusted, up to a limit."""

from __future__ import annotations

import stat
from pathlib import Path

from being.errors import InputRejected

RESTORE_HINT = "Copy it again from its source, or create it again"
# Bytes of a JSON, CSV or other text that is read at once. Python needs up to 30 times as many.
TEXT_MAX = 48 << 20
WHY_MAX = 200  # characters of another library's reason that are shown


class Unreadable(Exception):
    """The content of a file is not what it should be; the text says why."""


def reason(error: BaseException) -> str:
    """The first line of an error's text, cut to a readable length; its type where it has none."""
    lines = str(error).splitlines()
    return (lines[0] if lines and lines[0] else type(error).__name__)[:WHY_MAX]


def check_regular(path: Path, limit: int) -> int:
    """The size of the regular file at `path`, bytes.

    Raises Unreadable for a folder, pipe or device, which may never end, and above `limit` bytes;
    OSError where there is no file.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise Unreadable("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("it is a pipe or a device, not a file")
    if status.st_size > limit:
        raise Unreadable(f"it has {status.st_size} bytes, at most {limit} are read")
    return status.st_size


def read_content(path: Path, limit: int = TEXT_MAX) -> bytes:
    """All bytes of a regular file. Raises as `check_regular`."""
    check_regular(path, limit)
    with open(path, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Unreadable(f"it has more than {limit} bytes")
    return content


def read_text(path: Path, limit: int = TEXT_MAX, encoding: str = "utf-8") -> str:
    """The text of a regular file. Raises as `check_regular`, Unreadable for another encoding."""
    try:
        return read_content(path, limit).decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is no UTF-8 text: {reason(error)}") from error


def rejected(path: Path, error: BaseException, fix: str = RESTORE_HINT) -> InputRejected:
    """The error that a user sees for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return InputRejected(f"{path} is missing", "there is no such file", fix)
    return InputRejected(f"{path} cannot be read", reason(error), fix)
