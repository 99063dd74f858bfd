"""The text that a command speaks: from --text, a file or stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from being.errors import InputRejected, UsageError
from being.paths import user_path
from being.reading.content import Unreadable, read_content, reason

FILE_MAX = 1 << 20  # bytes
STDIN = "-"
FIX = "Give a UTF-8 text file of at most 1 MB, or - for stdin"


def read_spoken_text(text: str | None, file: str | None) -> tuple[str, Path | None]:
    """The text of --text or of --text-file, and the path of the file.

    file: a path, or - for stdin. Raises UsageError unless one of both is given, InputRejected for
    a file that is missing, too large or no UTF-8 text.
    """
    if (text is None) == (file is None):
        raise UsageError(
            "there is no text" if text is None else "--text and --text-file are both given",
            "one of them says what the avatar speaks",
            "Give --text 'Hello', or --text-file FILE (- for stdin). See being tts-video --help",
        )
    if text is not None:
        return text, None
    if file == STDIN:
        return _decoded(_read_stdin(), "the text on stdin"), None
    path = user_path(Path(file or ""))
    try:
        content = read_content(path, FILE_MAX)
    except (OSError, ValueError, Unreadable) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else reason(error)
        raise InputRejected(f"the text file {path} cannot be read", why, FIX) from error
    return _decoded(content, f"the text file {path}"), path


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read(FILE_MAX + 1)
    if len(content) > FILE_MAX:
        raise InputRejected(
            "the text on stdin cannot be read", f"it has over {FILE_MAX} bytes", FIX
        )
    return content


def _decoded(content: bytes, what: str) -> str:
    """UTF-8 content as text, without a byte order mark."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputRejected(f"{what} is no UTF-8 text", f"byte {error.start + 1}", FIX) from error
    if "\0" in text:
        raise InputRejected(f"{what} is no text", "it holds zero bytes", FIX)
    return text
