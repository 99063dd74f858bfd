"""Clients of the live server for benchmarks, in processes of their own.

    python -m being.bench.live_load CONFIG

CONFIG is JSON, see `LoadConfig`; the last line of stdout is the result as JSON. Each client pushes
a recording in real time from a random place on, and notes when each picture arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from being.api.packets import HEADER, Flag, Kind, Packet, unpack
from being.session.timeline import FRAME, RATE

CHUNK_S = 0.02
AUDIBLE = round(32768 * 10 ** (-40 / 20))
PICTURES = (Kind.H264, Kind.JPEG)
START_SPREAD_S = 2.0  # over which the clients begin
REPORT_S = 0.2
PATIENCE_S = 20.0  # for the end of the speech, after the sound was pushed


@dataclass(frozen=True)
class LoadConfig:
    """What a load process is told."""

    url: str
    recording: str  # .npy, int16 at 24 kHz
    clients: int
    seconds: float
    seed: int
    video: str = "h264"

    def to_json(self) -> str:
        """The configuration for the command line."""
        return json.dumps(asdict(self))


@dataclass
class BenchClient:
    """One session of a benchmark."""

    url: str
    video: str = "h264"
    socket: ClientConnection | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    opened_s: float = 0.0  # when the connection was asked for

    async def open(self) -> None:
        """Connect, start, wait for `ready`. Raises RuntimeError where it is refused."""
        self.opened_s = time.perf_counter()
        self.socket = await connect(self.url, compression=None, max_size=None, proxy=None)
        await self.send({"type": "start", "video": self.video})
        message, _ = await self.until(lambda m: isinstance(m, dict))
        if message["type"] != "ready":
            raise RuntimeError(message["what"])
        self.ready, self.epoch = message, message["epoch"]

    async def close(self) -> None:
        """End the session."""
        if self.socket is not None:
            await self.socket.close()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a JSON message."""
        assert self.socket is not None
        await self.socket.send(json.dumps(message))

    async def receive(self) -> tuple[Any, float]:
        """The next message, a dict or (Packet, payload), and the time of its arrival."""
        assert self.socket is not None
        content = await self.socket.recv()
        now = time.perf_counter()
        if isinstance(content, str):
            message = json.loads(content)
            if message["type"] == "interrupted":
                self.epoch = message["epoch"]
            return message, now
        return unpack(content), now

    async def until(
        self, wanted: Callable[[Any], bool], seconds: float = 60.0
    ) -> tuple[Any, float]:
        """Receive until `wanted`; the message and its time."""

        async def wait() -> tuple[Any, float]:
            while True:
                message, now = await self.receive()
                if wanted(message):
                    return message, now

        return await asyncio.wait_for(wait(), seconds)


def is_picture(message: Any) -> bool:
    """Whether a message is a picture."""
    return isinstance(message, tuple) and message[0].kind in PICTURES


def is_event(message: Any, kind: str) -> bool:
    """Whether a message is JSON of this type."""
    return isinstance(message, dict) and message["type"] == kind


def audible_from(packet: Packet, payload: bytes) -> int | None:
    """The time of the first audible sample in a packet of sound, or None."""
    loud = np.flatnonzero(np.abs(np.frombuffer(payload, "<i2").astype(np.int32)) > AUDIBLE)
    return packet.timestamp + int(loud[0]) if loud.size else None


class Lateness:
    """When each picture of pushed sound arrives, against when it could be made first.

    A picture at sample p of the sound can be made once the sound up to p and the look-ahead has
    been pushed.
    """

    def __init__(self, look_ahead_s: float):
        self._look_ahead = round(look_ahead_s * RATE)
        self._pushed: list[tuple[int, float]] = []  # samples in all, time
        self._runs: list[tuple[int, int]] = []  # (time on the timeline, samples of the utterance)
        self._spoken = 0
        self._last = -FRAME
        self.late: list[tuple[float, float]] = []  # arrival, lateness; s
        self._next = 0

    def pushed(self, samples: int, now: float) -> None:
        """More sound was pushed; samples: in all."""
        self._pushed.append((samples, now))

    def sound(self, packet: Packet) -> None:
        """A packet of sound came: where the utterance lies on the timeline."""
        if not packet.flags & Flag.SPEECH:
            return
        if packet.timestamp != self._last + FRAME:
            self._runs.append((packet.timestamp, self._spoken))
        self._last = packet.timestamp
        self._spoken += packet.length

    def picture(self, packet: Packet, now: float) -> None:
        """A picture came."""
        if not packet.flags & Flag.SPEECH:
            return
        runs = [run for run in self._runs if run[0] <= packet.timestamp]
        if not runs:
            return
        needed = runs[-1][1] + packet.timestamp - runs[-1][0] + self._look_ahead
        while self._next < len(self._pushed) and self._pushed[self._next][0] < needed:
            self._next += 1
        if self._next < len(self._pushed):
            self.late.append((now, now - self._pushed[self._next][1]))


async def push_recording(
    client: BenchClient, recording: np.ndarray, first: int, seconds: float
) -> tuple[Lateness, int, int]:
    """Push a recording in real time; lateness of pictures, pictures, packets of sound.

    recording: int16 at 24 kHz; first: sample to begin with. It is repeated where it ends.
    """
    lateness = Lateness(client.ready["look_ahead_ms"] / 1000)
    counts = {"pictures": 0, "sound": 0}
    chunk, played = round(CHUNK_S * RATE), [0]
    looped = np.concatenate([np.roll(recording, -first)] * 2)

    async def push() -> None:
        assert client.socket is not None
        start, reported = time.perf_counter(), 0.0
        for k in range(round(seconds / CHUNK_S)):
            await asyncio.sleep(max(0.0, start + (k + 1) * CHUNK_S - time.perf_counter()))
            at = k * chunk % recording.size
            head = HEADER.pack(Kind.PCM, 0, RATE, client.epoch, 0, chunk)
            now = time.perf_counter()
            await client.socket.send(head + looped[at : at + chunk].tobytes())
            lateness.pushed((k + 1) * chunk, now)
            if now - reported > REPORT_S:
                reported = now
                report = {"type": "heard", "epoch": client.epoch, "samples": max(0, played[0])}
                await client.send(report)
        await client.send({"type": "speak_end"})

    async def receive() -> None:
        first_sound: float | None = None
        while True:
            message, now = await client.receive()
            if is_event(message, "speaking_ended"):
                return
            if not isinstance(message, tuple):
                continue
            packet = message[0]
            if packet.kind is Kind.PCM:
                counts["sound"] += 1
                lateness.sound(packet)
                # A player that begins with 70 ms in store.
                if first_sound is None:
                    first_sound = now + 0.07
                played[0] = round((now - first_sound) * RATE) + client.ready["at"]
            else:
                counts["pictures"] += 1
                lateness.picture(packet, now)

    # A server that is far behind is not waited for; what came until then counts.
    pushing = asyncio.create_task(push())
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(receive(), seconds + PATIENCE_S)
    await pushing
    return lateness, counts["pictures"], counts["sound"]


async def _run(config: LoadConfig) -> dict[str, Any]:
    recording = np.load(Path(config.recording))
    dice = random.Random(config.seed)

    async def one() -> tuple[Lateness, int, int]:
        await asyncio.sleep(dice.uniform(0, START_SPREAD_S))
        client = BenchClient(config.url, config.video)
        await client.open()
        try:
            return await push_recording(
                client, recording, dice.randrange(recording.size), config.seconds
            )
        finally:
            await client.close()

    start = time.perf_counter()
    results = await asyncio.gather(*[one() for _ in range(config.clients)])
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "late": [
            [round(at - start, 3), round(value * 1000, 2)]
            for found, _, _ in results
            for at, value in found.late
        ],
        "pictures": [pictures for _, pictures, _ in results],
        "sound": [sound for _, _, sound in results],
        "processor_s": round(used.ru_utime + used.ru_stime, 2),
    }


def main() -> None:
    """Run the clients; see the module."""
    print(json.dumps(asyncio.run(_run(LoadConfig(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()
