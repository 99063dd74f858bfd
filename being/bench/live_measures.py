"""What `bench-live` measures at one client over loopback: connection, text, interrupt, sound.

Each function gives figures (JSON types); `series` are the single values, for plots.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from being.bench.live_load import (
    BenchClient,
    audible_from,
    is_event,
    is_picture,
    push_recording,
)
from being.session.timeline import FRAME

TEXTS = (
    "Hello, it is good to see you.",
    "Yes, of course.",
    "The trains run every ten minutes, and the last one leaves at midnight.",
    "I am not sure about that, but let us look at it together.",
)
INTERRUPT_WITHIN_S = 0.5  # after the speech has begun
CONNECTS_AT_A_TIME = 8


def summary(values: list[float]) -> dict[str, Any]:
    """Figures in ms of times in s, and the times themselves."""
    found = np.array(values) * 1000
    return {
        "count": len(found),
        "p50_ms": round(float(np.percentile(found, 50)), 1),
        "p95_ms": round(float(np.percentile(found, 95)), 1),
        "p99_ms": round(float(np.percentile(found, 99)), 1),
        "min_ms": round(float(found.min()), 1),
        "max_ms": round(float(found.max()), 1),
        "series": [round(float(value), 2) for value in found],
    }


async def connection(url: str, repeats: int) -> dict[str, Any]:
    """Time from the connection to the first picture."""
    times = []
    for _ in range(repeats):
        client = BenchClient(url)
        await client.open()
        _, now = await client.until(is_picture)
        times.append(now - client.opened_s)
        await client.close()
    return {"to_first_picture": summary(times)}


async def text(url: str, repeats: int) -> dict[str, Any]:
    """Time from a text to its first audible sound, and to the picture that belongs to it.

    Once both are there, the text is interrupted.
    """
    sounds, pictures = [], []
    client = BenchClient(url)
    await client.open()
    for k in range(repeats):
        asked = time.perf_counter()
        await client.send({"type": "speak", "text": TEXTS[k % len(TEXTS)]})
        first: int | None = None
        while True:
            message, now = await client.receive()
            if is_event(message, "speaking_ended"):
                break
            if not isinstance(message, tuple):
                continue
            packet, payload = message
            if first is None and not is_picture(message):
                first = audible_from(packet, payload)
                if first is not None:
                    sounds.append(now - asked)
            elif first is not None and is_picture(message) and packet.timestamp + FRAME > first:
                pictures.append(now - asked)
                await client.send({"type": "interrupt"})
                await client.until(lambda m: is_event(m, "interrupted"))
                break
        # The next text begins in the silence after this one, at another moment of a frame.
        await _listen(client, 0.3 + 0.013 * (k % 7))
    await client.close()
    return {"to_first_sound": summary(sounds), "to_first_picture": summary(pictures)}


async def _listen(client: BenchClient, seconds: float) -> None:
    """Receive for some time: a client that does not read is sent less."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await client.receive()


async def interrupts(url: str, repeats: int) -> dict[str, Any]:
    """Time from `interrupt` until nothing of the old epoch comes any more."""
    random = np.random.default_rng(0)
    answers, after = [], 0
    client = BenchClient(url)
    await client.open()
    for _ in range(repeats):
        await client.send({"type": "speak", "text": TEXTS[2]})
        await client.until(lambda m: is_event(m, "speaking_started"))
        await _listen(client, random.uniform(0, INTERRUPT_WITHIN_S))
        asked = time.perf_counter()
        await client.send({"type": "interrupt"})
        _, now = await client.until(lambda m: is_event(m, "interrupted"))
        answers.append(now - asked)
        for _ in range(6):
            message, _ = await client.receive()
            after += isinstance(message, tuple) and message[0].epoch < client.epoch
    await client.close()
    return {"to_interrupted": summary(answers), "packets_of_the_old_epoch_after_it": after}


async def live_sound(url: str, recording: np.ndarray, seconds: float) -> dict[str, Any]:
    """Lateness of the pictures of sound that is pushed in real time, beyond the look-ahead."""
    client = BenchClient(url)
    await client.open()
    lateness, pictures, sound = await push_recording(client, recording, 0, seconds)
    await client.close()
    return {
        "look_ahead_ms": client.ready["look_ahead_ms"],
        "beyond_look_ahead": summary([value for _, value in lateness.late]),
        "pictures": pictures,
        "sound_packets": sound,
    }


async def connect_often(url: str, connects: int) -> None:
    """Connect, ask for a word, wait for a picture and go, `connects` times."""

    async def once() -> None:
        client = BenchClient(url)
        await client.open()
        await client.send({"type": "speak", "text": "Yes."})
        await client.until(is_picture)
        await client.close()

    done = 0
    while done < connects:
        count = min(CONNECTS_AT_A_TIME, connects - done)
        await asyncio.gather(*(once() for _ in range(count)))
        done += count
