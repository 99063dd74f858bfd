"""Clients that draw by themselves, for benchmarks: many in a process, which spends little on each.

    python -m being.bench.drawn_load CONFIG

CONFIG is JSON, see `DrawnLoad`; the last line of stdout is the result as JSON. Each client pushes a
recording in real time from a place of its own on, and notes when coefficients arrive. A client is a
bare WebSocket on a transport: frames are not masked with random numbers, and of what arrives only
the headers are read.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import random
import resource
import secrets
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np

from being.api.packets import HEADER, Kind, unpack
from being.bench.live_load import Lateness
from being.session.timeline import FRAME, RATE

REPORT_S = 0.5  # between reports of what is heard
BIN_MS = 0.1  # of the histogram of lateness
PLAYER_S = 0.07  # that a player has in store when it begins
FINAL, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 1, 2, 8, 9, 10  # of WebSocket frames
MASKED, TWO_BYTES, EIGHT_BYTES = 0x80, 126, 127


@dataclass(frozen=True)
class DrawnLoad:
    """What a load process is told. Times are those of `time.time`, s."""

    url: str
    recording: str  # .npy, int16 at 24 kHz
    clients: int
    seed: int
    chunk_s: float  # of sound in a message
    start: float  # the clients begin from here on
    begun: float  # until here
    counted: tuple[float, float]  # what arrives between these times counts

    def to_json(self) -> str:
        """The configuration for the command line."""
        return json.dumps(asdict(self))


class WebSocketFrames:
    """Cuts the bytes of a server into WebSocket frames."""

    def __init__(self) -> None:
        self._waiting = b""

    def push(self, content: bytes) -> list[tuple[int, bytes]]:
        """Kinds and payloads of the frames that are complete."""
        content = self._waiting + content if self._waiting else content
        found, at, end = [], 0, len(content)
        while at + 2 <= end:
            length, head = content[at + 1], 2
            if length == TWO_BYTES:
                if at + 4 > end:
                    break
                (length,), head = struct.unpack_from(">H", content, at + 2), 4
            elif length == EIGHT_BYTES:
                if at + 10 > end:
                    break
                (length,), head = struct.unpack_from(">Q", content, at + 2), 10
            if at + head + length > end:
                break
            found.append((content[at] & 0x0F, content[at + head : at + head + length]))
            at += head + length
        self._waiting = content[at:]
        return found


def frame(kind: int, payload: bytes) -> bytes:
    """A WebSocket frame of a client, masked with zeros."""
    size = len(payload)
    if size < TWO_BYTES:
        head = struct.pack(">BB", FINAL | kind, MASKED | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", FINAL | kind, MASKED | TWO_BYTES, size)
    else:
        head = struct.pack(">BBQ", FINAL | kind, MASKED | EIGHT_BYTES, size)
    return head + bytes(4) + payload


class DrawnClient(asyncio.Protocol):
    """One session."""

    def __init__(self, config: DrawnLoad, recording: bytes, first: int):
        """recording: PCM, twice in a row; first: sample to begin with."""
        self._config, self._recording = config, recording
        self._samples = round(config.chunk_s * RATE)
        self._at = first
        self._period = len(recording) // 4
        self._frames = WebSocketFrames()
        self._head: bytes | None = b""  # of the answer; None: it is complete
        self._transport: asyncio.Transport | None = None
        self._start = self._reported = self._begun = 0.0
        self._number = 0  # chunks pushed
        self._epoch = self._base = 0
        self._lateness: Lateness | None = None
        self.frames = self.messages = self.sound = 0  # that count
        self.failure: str | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        # uvloop's transports are no subclass of asyncio's.
        transport = self._transport = cast(asyncio.Transport, transport)
        address = urlsplit(self._config.url)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        transport.write(
            f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take what the server sends."""
        now = time.time()
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = None
            if b" 101 " not in head.split(b"\r\n")[0]:
                self._fail(head.decode("latin-1").splitlines()[0])
                return
            start = json.dumps({"type": "start", "render": "client"}).encode()
            self._write(frame(TEXT, start))
        for kind, payload in self._frames.push(data):
            if kind == BINARY:
                self._take(payload, now)
            elif kind == TEXT:
                self._take_text(json.loads(payload), now)
            elif kind == PING:
                self._write(frame(PONG, payload))
            elif kind == CLOSE:
                self._fail("the server closed the session")

    def connection_lost(self, exc: Exception | None) -> None:
        """The session has ended."""
        self._fail("the connection was lost")

    def _write(self, content: bytes) -> None:
        assert self._transport is not None
        self._transport.write(content)

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.failure = why
            self.done.set_result(None)

    def _take_text(self, message: dict[str, Any], now: float) -> None:
        if message["type"] == "error":
            self._fail(message["what"])
        elif message["type"] == "ready":
            assert message["render"] == "client", message["render"]
            self._lateness = Lateness(message["look_ahead_ms"] / 1000)
            self._epoch, self._base = message["epoch"], message["at"]
            self._start = self._reported = now
            self._push()

    def _push(self) -> None:
        """Push the next chunk of sound, and come again for the one after it."""
        now = time.time()
        if self.done.done():
            return
        if now > self._config.counted[1]:
            self.done.set_result(None)
            return
        assert self._lateness is not None
        begin = 2 * self._at
        pcm = self._recording[begin : begin + 2 * self._samples]
        head = HEADER.pack(Kind.PCM, 0, RATE, self._epoch, 0, self._samples)
        content = frame(BINARY, head + pcm)
        if now - self._reported > REPORT_S and self._begun:
            self._reported = now
            heard = max(0, self._base + round((now - self._begun) * RATE))
            report = {"type": "heard", "epoch": self._epoch, "samples": heard}
            content += frame(TEXT, json.dumps(report).encode())
        self._write(content)
        self._at = (self._at + self._samples) % self._period
        self._number += 1
        self._lateness.pushed(self._number * self._samples, now)
        due = self._start + self._number * self._config.chunk_s
        asyncio.get_running_loop().call_later(max(0.0, due - time.time()), self._push)

    def _take(self, content: bytes, now: float) -> None:
        packet, _ = unpack(content)
        assert self._lateness is not None
        counts = self._config.counted[0] <= now <= self._config.counted[1]
        if packet.kind is Kind.PCM:
            if not self._begun:
                self._begun = now + PLAYER_S
            self._lateness.sound(packet)
            self.sound += counts * packet.length // FRAME
            return
        self._lateness.picture(packet, now)
        self.messages += counts
        self.frames += counts * packet.length // FRAME

    def late_ms(self) -> list[float]:
        """Lateness of the oldest frame of each message of speech that counts."""
        first, last = self._config.counted
        late = [] if self._lateness is None else self._lateness.late
        return [1000 * seconds for now, seconds in late if first <= now <= last]

    def close(self) -> None:
        """End the session."""
        if self._transport is not None:
            self._transport.abort()


async def _run(config: DrawnLoad) -> dict[str, Any]:
    recording = np.load(Path(config.recording))
    twice = np.concatenate([recording, recording]).astype("<i2").tobytes()
    address, dice = urlsplit(config.url), random.Random(config.seed)
    loop = asyncio.get_running_loop()

    async def one() -> DrawnClient:
        at = config.start + dice.random() * (config.begun - config.start)
        await asyncio.sleep(max(0.0, at - time.time()))
        _, client = await loop.create_connection(
            lambda: DrawnClient(config, twice, dice.randrange(recording.size)),
            address.hostname or "127.0.0.1",
            address.port or 80,
        )
        await client.done
        client.close()
        return client

    clients = await asyncio.gather(*[one() for _ in range(config.clients)])
    late = Counter(round(value / BIN_MS) for client in clients for value in client.late_ms())
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "late": sorted(late.items()),
        "frames": sum(client.frames for client in clients),
        "messages": sum(client.messages for client in clients),
        "sound": sum(client.sound for client in clients),
        "least_frames": min(client.frames for client in clients),
        "failures": [client.failure for client in clients if client.failure],
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
    }


def main() -> None:
    """Run the clients; see the module."""
    data = json.loads(sys.argv[1])
    config = DrawnLoad(**{**data, "counted": tuple(data["counted"])})
    if importlib.util.find_spec("uvloop"):
        import uvloop

        found = uvloop.run(_run(config))
    else:
        found = asyncio.run(_run(config))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
