"""Which sessions run in the front processes, by id: told to the supervisor, which may end one.

Each front process holds one connection to the supervisor's Unix socket. Lines of JSON go both
ways: `{"opened": ID}` and `{"closed": ID}` from a front, `{"end": ID}` to all fronts. A connection
that ends takes the sessions of its front along.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from being.reading.content import Unreadable
from being.reading.structured import parse_json

RETRY_S = 0.2


class SessionLedger:
    """The supervisor's side."""

    def __init__(self, path: Path):
        """path: of the socket, which is made."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._lock = threading.Lock()
        self._sessions: dict[socket.socket, Counter[str]] = {}  # by the connection of their front
        threading.Thread(target=self._accept, daemon=True).start()

    def sessions(self) -> set[str]:
        """The ids of the sessions that run."""
        with self._lock:
            return {name for sessions in self._sessions.values() for name in sessions}

    def end(self, session: str) -> None:
        """Have a session ended, wherever it runs."""
        line = json.dumps({"end": session}).encode() + b"\n"
        with self._lock:
            for connection in self._sessions:
                with contextlib.suppress(OSError):
                    connection.sendall(line)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._sessions:
                connection.close()
            self._sessions.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sessions[connection] = Counter()
            threading.Thread(target=self._read, args=[connection], daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as lines:
            for line in lines:
                try:
                    message = parse_json(line.decode())
                except (Unreadable, UnicodeDecodeError):
                    break
                with self._lock:
                    self._note(self._sessions.get(connection, Counter()), message)
        with self._lock:
            self._sessions.pop(connection, None)
        connection.close()

    def _note(self, sessions: Counter[str], message: dict[str, str]) -> None:
        """One client may have opened a session twice: it runs until both have gone."""
        if (opened := message.get("opened")) is not None:
            sessions[opened] += 1
        elif (closed := message.get("closed")) is not None:
            sessions[closed] -= 1
            if sessions[closed] <= 0:
                del sessions[closed]


class LedgerClient:
    """The side of a front process."""

    def __init__(self, path: str, end: Callable[[str], None]):
        """end: called with the id of a session that must end."""
        self._path, self._end = path, end
        self._sessions: Counter[str] = Counter()
        self._writer: asyncio.StreamWriter | None = None

    def opened(self, session: str) -> None:
        """A session has begun."""
        self._sessions[session] += 1
        self._tell("opened", session)

    def closed(self, session: str) -> None:
        """A session has ended."""
        self._sessions[session] -= 1
        if self._sessions[session] <= 0:
            del self._sessions[session]
        self._tell("closed", session)

    async def run(self) -> None:
        """Keep the connection, for ever."""
        while True:
            with contextlib.suppress(OSError, Unreadable, ValueError):
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                for session in self._sessions.elements():
                    self._tell("opened", session)
                while line := await reader.readline():
                    self._end(str(parse_json(line.decode())["end"]))
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            await asyncio.sleep(RETRY_S)

    def _tell(self, what: str, session: str) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps({what: session}).encode() + b"\n")
