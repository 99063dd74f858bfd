"""Sessions that have ended leave nothing in the memory of a front."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

from live_client import LiveClient
from live_server import LocalServer

from being.api.packets import Kind

# What holds the memory of a session: it must go with the session, not when cycles are collected.
OF_A_SESSION = tuple(
    f"being.{name}"
    for name in (
        "api.connection.Connection",
        "api.outbox.Outbox",
        "api.workshop.SpeechTask",
        "media.live_video.H264Encoder",
        "media.live_video.JpegEncoder",
        "session.live_session.LiveSession",
        "session.render_client.Place",
        "session.utterance.Utterance",
    )
)
WARM_UP, SESSIONS = 4, 16
# Objects of one type that may be left: fewer than one a session.
MOST_LEFT = SESSIONS // 2
PATIENCE_S = 3.0


async def connect_and_speak(url: str, count: int) -> None:
    """Sessions one after the other, each with a word and its pictures."""
    for number in range(count):
        start = {"video": "h264" if number % 2 else "jpeg"}
        async with LiveClient(url, start) as client:
            await client.send({"type": "speak", "text": "Yes."})
            if number % 4 == 3:
                await client.send({"type": "interrupt"})
            await client.until(lambda m: isinstance(m, tuple) and m[0].kind is not Kind.PCM)


def counted() -> Counter[str]:
    """The objects of this process that can hold others, by type."""
    kinds = Counter(type(one) for one in gc.get_objects())
    return Counter({f"{kind.__module__}.{kind.__qualname__}": kinds[kind] for kind in kinds})


def left(before: Counter[str], names: tuple[str, ...]) -> dict[str, int]:
    """Objects of these types that are there and were not before, once the last session is over."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        now = counted()
        found = {name: now[name] - before[name] for name in names or now}
        # Lists and the like are no session; of a session nothing at all is left.
        allowed = 0 if names else MOST_LEFT
        if max(found.values()) <= allowed:
            return {}
        if time.monotonic() > deadline:
            return dict(Counter(found).most_common(5))
        time.sleep(0.05)


def test_sessions_that_have_ended_are_freed_at_once() -> None:
    with LocalServer() as server:
        asyncio.run(connect_and_speak(server.url, WARM_UP))
        assert server.settled() and not left(Counter(), OF_A_SESSION[:1])
        gc.collect()
        before = counted()
        gc.disable()
        try:
            asyncio.run(connect_and_speak(server.url, SESSIONS))
            assert server.settled()
            # Sessions, without a search for cycles; then everything.
            assert not left(before, OF_A_SESSION)
        finally:
            gc.enable()
        gc.collect()
        assert not left(before, ())
