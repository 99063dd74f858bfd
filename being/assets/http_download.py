"""Downloads that go on where they broke off: HTTP ranges into a part file, checked by sha256.

The part file stays in the cache after a failure or a kill, and the next try continues it. The
connections are the caller's: an address by urllib, or pip's network session.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from being.assets.weight_converters import SourceFailed
from being.locks import acquire

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

# Time without a byte, s, after which an address counts as unreachable.
URL_TIMEOUT = 15
CHUNK = 1 << 18  # bytes that are read at once
# Connections for one file. One that brings nothing is the last.
ATTEMPTS = 8
PAUSE_S = 0.5  # between two connections


@dataclass
class Reply:
    """A server's answer to the request for a file from some byte on."""

    # Position of the first byte that follows: 0 where the server does not know ranges
    start: int
    # bytes of the whole file; None where the server does not say
    size: int | None
    chunks: Iterator[bytes]


# Asks for the file from a byte on. Raises OSError or http.client.HTTPException.
Ask = Callable[[int], Reply]


class WrongContent(SourceFailed):
    """The file came as a whole, and it is not the expected one."""


def download(
    ask: Ask, size: int, sha256: str, part: Path, target: Path, progress: Progress | None = None
) -> None:
    """Write the file of `size` bytes with this sha256 to `target`.

    part: where the download is kept while it is incomplete. A process that finds it in use
    downloads beside it. progress: called with (bytes done, `size`). Raises SourceFailed
    (WrongContent for another file), OSError where the part cannot be written.
    """
    with _own_part(part, target) as (file, path):
        for _ in range(2):
            kept = file.seek(0, os.SEEK_END)
            try:
                _complete(ask, size, file, progress)
            except WrongContent:
                path.unlink()
                raise
            file.seek(0)
            digest = _sha256(file)
            if digest == sha256:
                break
            file.truncate(0)
            if not kept:  # not because the kept bytes were damaged
                path.unlink()
                raise WrongContent(f"its sha256 is {digest}, expected {sha256}: refused")
        else:
            path.unlink()
            raise WrongContent(f"its sha256 is not {sha256}: refused")
    if path != target:
        shutil.move(path, target)
        with suppress(OSError):  # other parts are in it
            path.parent.rmdir()


@contextmanager
def _own_part(part: Path, target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """The open part file, locked, and its path: `target` where another process holds the part."""
    while True:
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(part, "a+b")
        except FileNotFoundError:  # another process has just removed its empty folder
            continue
        if not acquire(file.fileno()):
            file.close()
            with open(target, "a+b") as file:
                yield file, target
            return
        # The process that held it may have finished and moved the file away.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                break
        file.close()
    try:
        yield file, part
    finally:
        empty = not file.closed and file.seek(0, os.SEEK_END) == 0
        file.close()
        if empty:
            part.unlink(missing_ok=True)
        with suppress(OSError):  # it holds this part or others
            part.parent.rmdir()


def _complete(ask: Ask, size: int, file: IO[bytes], progress: Progress | None) -> None:
    """Download what `file` lacks of its `size` bytes. Raises SourceFailed."""
    reason, done = "the connection broke off", 0
    for attempt in range(ATTEMPTS):
        start = file.seek(0, os.SEEK_END)
        if start > size:
            file.truncate(0)
            start = 0
        if start == size:
            return
        if attempt:
            time.sleep(PAUSE_S)
        try:
            reply = ask(start)
            if reply.size not in (None, size):
                raise WrongContent(f"it has {reply.size} bytes, not the expected {size}: refused")
            if reply.start not in (0, start):
                raise SourceFailed(f"sends from byte {reply.start}, not from {start}: refused")
            if reply.start != start:
                file.truncate(0)
            done = _append(reply, size, file, progress)
        except (OSError, ValueError, http.client.HTTPException) as error:
            # URLError, timeouts and the errors of pip's session are OSErrors.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if _range_refused(error):
                file.truncate(0)
                continue
            done = file.seek(0, os.SEEK_END)
        if done == size:
            return
        if done <= start:
            break
    if done:
        reason += f" ({done} of {size} bytes are kept, the next try continues)"
    raise SourceFailed(reason)


def _append(reply: Reply, size: int, file: IO[bytes], progress: Progress | None) -> int:
    """Write what comes at the end of the file, `size` bytes in all at most; the bytes in all."""
    done = file.seek(0, os.SEEK_END)
    for chunk in reply.chunks:
        done += len(chunk)
        if done > size:
            raise WrongContent(f"sends more than the expected {size} bytes: refused")
        _write(file, chunk)
        if progress is not None:
            progress(done, size)
    return done


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write a chunk. Raises SourceFailed: an OSError would look like one of the connection."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise SourceFailed(f"what comes cannot be written: {error}") from error


def _range_refused(error: Exception) -> bool:
    """Whether a server has no bytes from the asked position on: the kept ones are of another file.

    The error is urllib's or that of pip's session.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    return 416 in (status, getattr(error, "code", None))


def keep_download(file: Path, part: Path) -> None:
    """Make a complete file the part of a later download, which then asks for nothing more."""
    with suppress(OSError):  # the later download fetches it again
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, part)


def ask_address(url: str) -> Ask:
    """Ask an address by urllib."""

    def ask(start: int) -> Reply:
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(url, headers=headers)
        reply = urllib.request.urlopen(request, timeout=URL_TIMEOUT)
        fields = {name.lower(): value for name, value in reply.headers.items()}

        def chunks() -> Iterator[bytes]:
            with reply:
                while chunk := reply.read(CHUNK):
                    yield chunk

        return Reply(*position(reply.status, fields), chunks())

    return ask


def position(status: int, fields: dict[str, str]) -> tuple[int, int | None]:
    """(first byte that follows, bytes of the whole file) by a reply's status and header fields."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", fields.get("content-range", "").strip())
    if status == 206 and found:
        return int(found[1]), None if found[2] == "*" else int(found[2])
    packed = fields.get("content-encoding", "identity") != "identity"
    length = "" if packed else fields.get("content-length", "")
    return 0, int(length) if length.isdecimal() else None


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
