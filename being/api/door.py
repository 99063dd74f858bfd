"""A front process's end of the placement: takes connections that the supervisor has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import uvicorn

from being.api.placement import REPORT
from being.api.server import LiveWebSocketProtocol

REPORT_S = 0.05  # between two reports that differ
log = logging.getLogger("being")


class Door:
    """Gives passed sockets to a uvicorn server, and reports how many connections it has."""

    def __init__(self, door: socket.socket, server: uvicorn.Server):
        """door: the front's end of `Placement.new_door`."""
        door.setblocking(False)
        self._door, self._server = door, server
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken = self._opening = 0
        self._reported: bytes | None = None

    async def run(self) -> None:
        """Take connections and report, for ever; the server must have started."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._door.fileno(), self._take)
        try:
            while True:
                self._report()
                await asyncio.sleep(REPORT_S)
        finally:
            loop.remove_reader(self._door.fileno())
            self._door.close()

    def _take(self) -> None:
        """Take one connection."""
        try:
            content, descriptors, _, _ = socket.recv_fds(self._door, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            content, descriptors = b"", []
        if not content:  # the supervisor has ended, and this process ends too
            asyncio.get_running_loop().remove_reader(self._door.fileno())
            return
        self._taken += 1
        for descriptor in descriptors:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(
                self._serve(socket.socket(fileno=descriptor))
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        """Hand a connection to the server; with TLS this waits for its handshake."""
        connection.setblocking(False)
        config = self._server.config
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._new_protocol, connection, ssl=config.ssl
            )
        except (OSError, asyncio.TimeoutError) as error:
            log.debug("a connection was not opened: %s", error)
            connection.close()
        finally:
            self._opening -= 1

    def _new_protocol(self) -> asyncio.Protocol:
        server = self._server
        made: Any = server.config.http_protocol_class
        protocol: asyncio.Protocol = made(
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
        )
        return protocol

    def _busy(self) -> int:
        """Connections with a session, or with a request that is not answered yet."""
        count = self._opening
        for connection in self._server.server_state.connections:
            if isinstance(connection, LiveWebSocketProtocol):
                count += 1
                continue
            cycle = getattr(connection, "cycle", None)
            count += cycle is None or not cycle.response_complete
        return count

    def _report(self) -> None:
        report = REPORT.pack(self._taken, self._busy())
        if report != self._reported:
            with contextlib.suppress(OSError):  # full, or closed
                if self._door.send(report) == len(report):
                    self._reported = report
