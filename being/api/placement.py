"""Places new connections on the front process that has the fewest.

The supervisor accepts them on its one port and passes their sockets on (SCM_RIGHTS), so that the
sessions of all fronts are even in number. Accepting takes a thread some 0.1 ms a connection; what a
connection sends never passes through it. A front says how many connections it has taken so far, and
how many of them are busy: sessions, and requests that are not answered. Browsers keep connections
of answered requests open for some seconds; these do not count.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from dataclasses import dataclass

# From a front: connections taken so far, and busy ones.
REPORT = struct.Struct("<II")
PASS_ON = b"c"  # goes with each socket


@dataclass
class _Door:
    """The supervisor's end of a front."""

    door: socket.socket
    passed: int = 0  # connections
    taken: int = 0
    busy: int = 0
    serves: bool = False  # it has reported
    received: bytes = b""

    @property
    def load(self) -> int:
        """Busy connections, with those that the front has not taken yet."""
        return self.busy + self.passed - self.taken


class Placement:
    """Accepts connections, in a thread of its own. While no front serves, they wait."""

    def __init__(self, listener: socket.socket):
        """listener: listens already; it stays the caller's."""
        listener.setblocking(False)
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._doors: list[_Door] = []
        self._lock = threading.Lock()
        self._accepting = False
        self._open = True
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="placement", daemon=True)
        self._thread.start()

    def new_door(self) -> socket.socket:
        """The end for a new front process, which gets the descriptor; close it here then."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with self._lock:
            self._doors.append(_Door(ours))
        self._wake()
        return theirs

    @property
    def serving(self) -> int:
        """Fronts that serve."""
        with self._lock:
            return sum(door.serves for door in self._doors)

    @property
    def loads(self) -> list[int]:
        """Connections that count of each front that serves, as it reported last."""
        with self._lock:
            return [door.load for door in self._doors if door.serves]

    def close(self) -> None:
        """Accept no more."""
        self._open = False
        self._wake()
        self._thread.join(5)
        for door in self._doors:
            door.door.close()
        self._selector.close()
        for end in (self._wake_read, self._wake_write):
            end.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_write.send(b"w")

    def _run(self) -> None:
        while self._open:
            self._register()
            for key, _ in self._selector.select():
                if key.fileobj is self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_read.recv(1024)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.data)

    def _register(self) -> None:
        """Watch new doors; watch the port while a front serves."""
        with self._lock:
            doors = list(self._doors)
        known = self._selector.get_map()
        for door in doors:
            if door.door.fileno() not in known:
                self._selector.register(door.door, selectors.EVENT_READ, door)
        wanted = any(door.serves for door in doors)
        if wanted and not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._accepting and not wanted:
            self._selector.unregister(self._listener)
        self._accepting = wanted

    def _accept(self) -> None:
        """Pass one connection on, to the front with the fewest that takes it."""
        # Reports that have come decide first.
        for door in list(self._doors):
            self._read(door)
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # the client has gone, or there are no descriptors left
        with connection:
            for door in sorted(self._doors, key=lambda door: door.load):
                if not door.serves:
                    continue
                try:
                    socket.send_fds(door.door, [PASS_ON], [connection.fileno()])
                except BlockingIOError:
                    continue  # it takes nothing at the moment
                except OSError:
                    self._forget(door)
                    continue
                door.passed += 1
                return

    def _read(self, door: _Door) -> None:
        """Take what a front reports; forget one that has ended."""
        if door.door.fileno() < 0:
            return
        try:
            content = door.door.recv(1 << 14)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        if not content:
            self._forget(door)
            return
        content = door.received + content
        end = len(content) // REPORT.size * REPORT.size
        door.received = content[end:]
        if end:
            door.taken, door.busy = REPORT.unpack(content[end - REPORT.size : end])
            door.serves = True

    def _forget(self, door: _Door) -> None:
        with self._lock:
            if door in self._doors:
                self._doors.remove(door)
        with contextlib.suppress(KeyError):
            self._selector.unregister(door.door)
        door.door.close()
