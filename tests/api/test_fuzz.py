"""Messages that make no sense, structured and random: no session but their own may notice.

    python tests/api/test_fuzz.py 10000

sends as many; the tests send some hundreds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import httpx
import pytest
from live_client import LiveClient
from live_server import LocalServer
from websockets.exceptions import ConnectionClosed

from being.api.limits import Limits
from being.api.messages import MODELS, parse
from being.api.packets import HEADER, Kind, unpack_client_sound
from being.session.refusals import Refusal

MESSAGES = 400
# Limits that a fuzzer reaches only by its content.
LIMITS = Limits(messages_per_s=1e6, message_burst=1e6, audio_seconds=20.0)
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 1 << 31, 1 << 53, 1 << 70, -1e308, 0.5, 1e-9, "", "a", "loop",
    "hold", "neutral", "happy", "hibari", "\x00", "\ud800", "é" * 300, "Hello, world. ",
    "unspeakable", "client", "server", [], [1], {}, {"smile": 0.5}, {"epoch": 0, "samples": 5},
    [[[]]],
    float("nan"), float("inf"),
]  # fmt: skip


def fuzzed_message(dice: random.Random) -> str | bytes:
    """A message: valid, nearly valid, or noise."""
    kind = dice.choice(["text", "text", "text", "bytes", "noise", "cut"])
    if kind == "noise":
        noise = dice.randbytes(dice.choice([0, 1, 19, 20, 21, 300, 5000]))
        return noise if dice.random() < 0.5 else noise.decode("latin-1")
    if kind == "bytes":
        count = dice.choice([0, 1, 2, 320, 960])
        head = HEADER.pack(
            dice.choice([1, 2, 3, 3, 3, 3, 4, 200]),
            dice.choice([0, 0, 4, 255]),
            dice.choice([0, 16_000, 24_000, 48_000, 44_100]),
            dice.choice([0, 0, 1, 7, (1 << 32) - 1]),
            dice.getrandbits(64),
            dice.choice([count, count, 0, (1 << 32) - 1]),
        )
        return head + dice.randbytes(2 * count + dice.choice([0, 0, 0, 1]))
    name = dice.choice(list(MODELS))
    fields = {"type": dice.choice([name, name, name, "sing", 3])}
    for field in MODELS[name].model_fields:
        if field != "type" and dice.random() < 0.7:
            fields[field] = dice.choice(VALUES)
    if dice.random() < 0.1:
        fields["extra"] = dice.choice(VALUES)
    text = json.dumps(fields)
    return text[: dice.randrange(len(text))] if kind == "cut" else text


@pytest.mark.parametrize("seed", range(3))
def test_parsers_refuse_or_accept_and_never_break(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(1000):
        message = fuzzed_message(dice)
        try:
            if isinstance(message, bytes):
                unpack_client_sound(message)
            else:
                parse(message)
        except Refusal as refusal:
            assert refusal.name in ("bad_json", "bad_message", "unknown_type", "bad_packet")
            assert refusal.what and (refusal.why or refusal.fix)
            json.dumps([refusal.what, refusal.why, refusal.fix]).encode()


async def fuzz(server: LocalServer, count: int, seed: int) -> tuple[int, int]:
    """Send `count` messages, opening a new session where one ends; (errors told, sessions)."""
    dice, sent, errors, sessions = random.Random(seed), 0, 0, 0
    while sent < count:
        async with LiveClient(server.url) as client:
            assert client.ready and client.socket is not None
            sessions += 1
            try:
                while sent < count:
                    message = fuzzed_message(dice)
                    if isinstance(message, str):
                        message = message.encode("utf-8", "replace").decode()
                    await client.socket.send(message)
                    sent += 1
                    if sent % 20 == 0:
                        await client.send({"type": "stats"})
                        await client.until("stats")
            except ConnectionClosed:
                pass
            errors += len(client.messages("error"))
    return errors, sessions


def check_fuzzing(count: int, seed: int = 0, drawn: bool = False) -> dict[str, Any]:
    """Fuzz beside a session that must stay on time; the figures. drawn: clients may draw."""

    async def both() -> tuple[LiveClient, tuple[int, int], float]:
        async with LiveClient(server.url) as witness:
            start = time.perf_counter()
            work = asyncio.create_task(fuzz(server, count, seed))
            while not work.done():
                await witness.listen(0.2)
            spent = time.perf_counter() - start
            await witness.send({"type": "stats"})
            await witness.until("stats")
            return witness, work.result(), spent

    with LocalServer(limits=LIMITS, drawn=drawn) as server:
        witness, (errors, sessions), spent = asyncio.run(both())
        stats = witness.messages("stats")[-1]
        assert not witness.messages("error")
        sound = witness.media(Kind.PCM)
        times = [packet.timestamp for _, packet, _ in sound]
        assert times == list(range(times[0], times[-1] + 1, 960))
        pause = max(b[0] - a[0] for a, b in zip(sound, sound[1:], strict=False))
        assert server.settled()
        return {
            "messages": count,
            "seconds": round(spent, 1),
            "errors_told": errors,
            "sessions": sessions,
            "witness_lateness_ms": stats["lateness_ms"],
            "witness_longest_pause_ms": round(1000 * pause),
        }


@pytest.mark.parametrize("drawn", [False, True], ids=["rendered", "drawn"])
def test_a_fuzzer_disturbs_nobody(drawn: bool) -> None:
    figures = check_fuzzing(MESSAGES, drawn=drawn)
    assert figures["errors_told"] > MESSAGES / 4 and figures["sessions"] == 1
    # The witness plays 120 ms after what is sent; the machine of the tests may be busy.
    assert figures["witness_longest_pause_ms"] < 1000


def test_http_requests_that_make_no_sense_are_refused() -> None:
    dice = random.Random(0)
    with LocalServer() as server, httpx.Client(base_url=server.http) as client:
        for _ in range(150):
            path = "/" + dice.choice(
                ["info", "health", "metrics", "session", "openapi.json", "", "%00", "..%2f", "é"]
                + ["web-avatars/tiny/manifest.json", "web-avatars/%2e%2e/x", "web-avatars/a/%00"]
            )
            if dice.random() < 0.5:
                path += "?" + dice.choice(["token=%ff", "a=1&a=2", "=", "%", "x" * 4000])
            method = dice.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
            answer = client.request(method, path, content=dice.randbytes(dice.choice([0, 100])))
            assert answer.status_code < 500, (method, path, answer.status_code)
        assert client.get("/health").json()["ok"]


if __name__ == "__main__":
    print(json.dumps(check_fuzzing(int(sys.argv[1]))))
