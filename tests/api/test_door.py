"""Requests that stand still do not keep their connection."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn

from being.api.door import Door
from being.api.front_process import uvicorn_config
from being.api.limits import Limits

REQUEST_S = 0.4
LARGE = 8 << 20  # bytes, more than the kernel holds
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with a large file, once the body of the request has come."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    size = LARGE if scope["path"] == "/large" else 2
    length = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": bytes(size)})


def served(talk: Callable[[socket.socket], Any]) -> Any:
    """What `talk` gives, in a thread, with a connection that went through a door."""

    async def serve() -> Any:
        server = uvicorn.Server(uvicorn_config(app, Limits(), lifespan="off"))
        server.capture_signals = _no_signals  # type: ignore[method-assign]
        ours, theirs = socket.socketpair()
        serving = asyncio.create_task(server.serve(sockets=[]))
        while not server.started:
            await asyncio.sleep(0.01)
        door = asyncio.create_task(Door(theirs, server, REQUEST_S).run())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        with ours, client, accepted:
            client.settimeout(10)
            socket.send_fds(ours, [b"c"], [accepted.fileno()])
            accepted.close()
            try:
                return await asyncio.to_thread(talk, client)
            finally:
                server.should_exit = True
                await serving
                door.cancel()

    return asyncio.run(serve())


class _no_signals:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def ended_after(client: socket.socket) -> float:
    """Seconds until the connection ends."""
    start = time.monotonic()
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - start


# Where nothing comes after an answer, uvicorn ends the connection after 5 s.
@pytest.mark.parametrize(
    ("first", "sent"),
    [(True, b""), (True, GET[:20]), (True, POST), (True, POST + bytes(50)), (False, GET[:20])],
)
def test_a_request_that_does_not_come_whole_is_not_waited_for(first: bool, sent: bytes) -> None:
    def talk(client: socket.socket) -> float:
        if not first:
            client.sendall(GET)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        client.sendall(sent)
        return ended_after(client)

    assert REQUEST_S * 0.9 < served(talk) < 3


def test_an_answer_that_nobody_reads_is_thrown_away() -> None:
    def talk(client: socket.socket) -> int:
        client.sendall(GET.replace(b"/ ", b"/large ", 1))
        time.sleep(3 * REQUEST_S)
        read = 0
        try:
            while part := client.recv(1 << 16):
                read += len(part)
        except ConnectionResetError:
            pass
        return read

    assert served(talk) < LARGE


def test_an_answer_that_is_read_slowly_comes_whole() -> None:
    def talk(client: socket.socket) -> int:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(GET.replace(b"/ ", b"/large ", 1))
        start, read = time.monotonic(), 0
        while read < LARGE:
            part = client.recv(1 << 18)
            assert part, f"ended after {read} bytes"
            read += len(part)
            # Three times as long as a request may stand still.
            time.sleep(max(0.0, start + 3 * REQUEST_S * read / LARGE - time.monotonic()))
        return read

    assert served(talk) >= LARGE
