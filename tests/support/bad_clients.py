"""Clients of the live server that vanish, stop in the middle, or never read."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time

from live_client import LiveClient

UPGRADE = (
    b"GET /session HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
START = json.dumps({"type": "start"}).encode()
DEAF = 2  # clients that never read
# What a half-open client sends before it is silent, by name.
HALVES = {
    "nothing": b"",
    "half a request": UPGRADE[:30],
    "no start": UPGRADE,
    "half a frame": UPGRADE + b"\x81",
    "a part of a message": UPGRADE + bytes([0x01, 0x80 | len(START)]) + bytes(4) + START,
    "a frame without a mask": UPGRADE + bytes([0x81, len(START)]) + START,
    "half a request of WebRTC": b"POST /webrtc HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{",
}


async def killed_client(url: str, hard: bool) -> None:
    """A session whose client is killed while it speaks; hard: its kernel resets the connection."""
    client = LiveClient(url)
    await client.open()
    await client.send({"type": "speak", "text": "A sentence that nobody hears."})
    await client.listen(0.05)
    assert client.socket is not None
    raw = client.socket.transport.get_extra_info("socket")
    if hard:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.transport.abort()


def half_open_client(port: int, name: str) -> socket.socket:
    """A connection that stays open after one of HALVES."""
    raw = socket.create_connection(("127.0.0.1", port))
    raw.sendall(HALVES[name])
    return raw


def deaf_client(port: int) -> socket.socket:
    """A session whose client never reads."""
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.sendall(UPGRADE)
    time.sleep(0.2)
    raw.sendall(bytes([0x81, 0x80 | len(START)]) + bytes(4) + START)
    return raw


async def misbehave(url: str, port: int, rounds: int, pause_s: float) -> list[socket.socket]:
    """Killed and half-open clients in turn, one of each kind a round; the open connections.

    The first DEAF of them never read.
    """
    held = [await asyncio.to_thread(deaf_client, port) for _ in range(DEAF)]
    for number in range(rounds):
        await killed_client(url, bool(number % 2))
        for name in HALVES:
            held.append(await asyncio.to_thread(half_open_client, port, name))
            await asyncio.sleep(pause_s)
    return held


def still_open(connection: socket.socket) -> bool:
    """Whether the server has not ended a connection yet; what it sent is thrown away."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
