"""Clients of placed sessions for tests: each asks for a place, and again when its replica dies."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from live_client import LiveClient
from websockets.exceptions import ConnectionClosed

from being.api.packets import Kind

RETRY_S = 0.5
MOST_TRIES = 120


def ask(base: str, path: str = "sessions", method: str = "POST", body: Any = None) -> Any:
    """(status, JSON answer, headers) of a request."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(urljoin(base, path), data=content, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), _lowered(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), _lowered(error.headers)


def _lowered(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def socket_address(base: str, answer: dict[str, Any]) -> str:
    """The address of the WebSocket of a place."""
    return urljoin(base, answer["url"]).replace("http", "ws", 1)


@dataclass
class PlacedClient:
    """One session that lasts, wherever it runs."""

    base: str
    number: int
    session: str = ""
    replicas: list[str] = field(default_factory=list)
    resume: dict[str, Any] | None = None
    lost_at: list[float] = field(default_factory=list)
    placed_at: list[float] = field(default_factory=list)
    # When the first media of each connection came.
    first_media_at: list[float] = field(default_factory=list)
    # Timestamps of sound, and the number of pictures, of each connection.
    sound: list[list[int]] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    stats: list[dict[str, Any]] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the session until `stop`."""
        for _ in range(MOST_TRIES):
            if stop.is_set():
                return
            body = {"session": self.session} if self.session else {}
            try:
                status, answer, _ = await asyncio.to_thread(ask, self.base, body=body)
            except OSError:
                status = 0
            if status != 201:
                await asyncio.sleep(RETRY_S)
                continue
            self.session = answer["session"]
            self.placed_at.append(time.monotonic())
            try:
                await self._talk(answer, stop)
            except (ConnectionClosed, OSError):
                pass
            if not stop.is_set():
                self.lost_at.append(time.monotonic())

    async def _talk(self, answer: dict[str, Any], stop: asyncio.Event) -> None:
        start = {"resume": self.resume} if self.resume else {}
        client = LiveClient(socket_address(self.base, answer), {"video": "jpeg", **start})
        async with client:
            if not client.ready:
                raise OSError(f"refused: {client.log[-1]}")
            self.replicas.append(answer["replica"])
            self.resume = client.ready["resume"]
            self.resumed.append(client.ready["resumed"])
            self.sound.append([])
            self.pictures.append(0)
            asked = time.monotonic()
            while not stop.is_set():
                try:
                    message = await client.receive(1.0)
                except asyncio.TimeoutError:
                    continue
                client.log.clear()
                if isinstance(message, dict):
                    self.resume = message.get("resume", self.resume)
                    if message["type"] == "stats":
                        self.stats.append(message)
                    continue
                if len(self.first_media_at) < len(self.replicas):
                    self.first_media_at.append(time.monotonic())
                if message[0].kind is Kind.PCM:
                    self.sound[-1].append(message[0].timestamp)
                else:
                    self.pictures[-1] += 1
                if time.monotonic() - asked > 2:
                    asked = time.monotonic()
                    await client.send({"type": "stats"})

    def gaps(self) -> int:
        """Packets of sound that are missing within a connection."""
        return sum(
            (after - before) // 960 - 1
            for times in self.sound
            for before, after in zip(times, times[1:], strict=False)
        )


def spread(clients: list[PlacedClient]) -> Counter[str]:
    """Sessions by the replica that they run on now."""
    return Counter(client.replicas[-1] for client in clients if client.replicas)
