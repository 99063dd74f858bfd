"""A front process's end of the placement: takes connections that the supervisor has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Hashable
from typing import Any

import uvicorn

from being.api.placement import REPORT
from being.api.server import LiveWebSocketProtocol

REPORT_S = 0.05  # between two reports that differ
# Between two looks for requests that stand still, as a share of the time that they may.
LOOK_SHARE = 0.1
log = logging.getLogger("being")


class Door:
    """Gives passed sockets to a uvicorn server, and reports how many connections it has.

    It ends connections whose request stands still: uvicorn waits for ever for one that does not
    come, or comes in part, and for a client that does not read the answer.
    """

    def __init__(self, door: socket.socket, server: uvicorn.Server, request_s: float):
        """door: the front's end of `Placement.new_door`. request_s: how long a request may stand
        still, s.
        """
        door.setblocking(False)
        self._door, self._server, self._request_s = door, server, request_s
        # Of each connection with a request: how far it is, and since when.
        self._stages: dict[Any, tuple[Hashable, float]] = {}
        self._look_at = 0.0
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
                self._end_stalled(loop.time())
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

    def _end_stalled(self, now: float) -> None:
        """End the connections whose request has stood still for too long."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SHARE * self._request_s
        stages = {}
        for connection in list(self._server.server_state.connections):
            stage = _stage(connection)
            if stage is None:
                continue
            before, since = self._stages.get(connection, (None, now))
            since = since if stage == before else now
            if now - since < self._request_s:
                stages[connection] = stage, since
            else:
                connection.transport.abort()
        self._stages = stages

    def _report(self) -> None:
        report = REPORT.pack(self._taken, self._busy())
        if report != self._reported:
            with contextlib.suppress(OSError):  # full, or closed
                if self._door.send(report) == len(report):
                    self._reported = report


def _stage(connection: Any) -> Hashable | None:
    """How far a connection is with its request; None where it has none.

    Sessions have their own limits. Between two requests uvicorn counts the time, and then closes
    the connection, which waits until the client has read all.
    """
    if isinstance(connection, LiveWebSocketProtocol):
        return None
    cycle = getattr(connection, "cycle", None)
    answered = cycle is not None and cycle.response_complete
    unread = connection.transport.get_write_buffer_size()
    if answered and not unread and connection.timeout_keep_alive_task is not None:
        return None
    return id(cycle), answered, unread
