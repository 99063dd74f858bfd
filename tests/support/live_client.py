"""A client of the live server for tests: plain WebSocket, with what a page would keep."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConcurrencyError, ConnectionClosed

from being.api.packets import HEADER, Flag, Kind, Packet, unpack


@dataclass
class LiveClient:
    """One session."""

    url: str
    start: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    origin: str | None = None
    socket: ClientConnection | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    # All that came, in order: (time, message) with a dict or (Packet, payload).
    log: list[tuple[float, Any]] = field(default_factory=list)

    async def __aenter__(self) -> LiveClient:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.socket is not None:
            await asyncio.gather(self.socket.close(), self._read_to_the_end())

    async def _read_to_the_end(self) -> None:
        """Drop what still comes. Behind a full queue, the answer to a close would not be seen, and
        the close would wait for its time limit of 10 s.
        """
        assert self.socket is not None
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):
            while True:
                await self.socket.recv()

    async def open(self) -> None:
        """Connect, send `start`, wait for `ready` or a fatal error."""
        self.socket = await connect(
            self.url,
            compression=None,
            max_size=None,
            additional_headers=self.headers,
            origin=self.origin,  # type: ignore[arg-type]
            proxy=None,
        )
        with contextlib.suppress(ConnectionClosed):  # it may be refused before
            await self.send({"type": "start", **self.start})
        message = await self.until(
            lambda m: isinstance(m, dict) and m["type"] in ("ready", "error")
        )
        if message["type"] == "ready":
            self.ready, self.epoch = message, message["epoch"]

    async def send(self, message: dict[str, Any]) -> None:
        assert self.socket is not None
        await self.socket.send(json.dumps(message))

    async def send_sound(
        self, samples: np.ndarray, rate: int = 24_000, flags: Flag = Flag.NONE
    ) -> None:
        """int16 samples."""
        assert self.socket is not None
        head = HEADER.pack(Kind.PCM, flags, rate, self.epoch, 0, samples.size)
        await self.socket.send(head + samples.astype("<i2").tobytes())

    async def receive(self, timeout: float = 10.0) -> Any:
        """The next message: a dict, or (Packet, payload)."""
        assert self.socket is not None
        content = await asyncio.wait_for(self.socket.recv(), timeout)
        message: Any = json.loads(content) if isinstance(content, str) else unpack(content)
        if isinstance(message, dict) and message["type"] == "interrupted":
            self.epoch = message["epoch"]
        self.log.append((time.perf_counter(), message))
        return message

    async def until(self, wanted: Any, timeout: float = 20.0) -> Any:
        """Receive until `wanted(message)`; the message. wanted: or the type of a JSON message."""
        if isinstance(wanted, str):
            kind = wanted
            wanted = lambda m: isinstance(m, dict) and m["type"] == kind  # noqa: E731
        deadline = time.monotonic() + timeout
        while True:
            message = await self.receive(max(0.01, deadline - time.monotonic()))
            if wanted(message):
                return message

    async def listen(self, seconds: float) -> None:
        """Receive for a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                await self.receive(left)
            except asyncio.TimeoutError:
                return

    def media(self, *kinds: Kind) -> list[tuple[float, Packet, bytes]]:
        """The media packets of these kinds that came, with their time."""
        return [
            (at, *message)
            for at, message in self.log
            if isinstance(message, tuple) and message[0].kind in kinds
        ]

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """The JSON messages of a type that came."""
        return [m for _, m in self.log if isinstance(m, dict) and m["type"] == kind]
