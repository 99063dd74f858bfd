"""Messages that make no sense, and clients that misbehave: no session but their own may notice.

    PYTHONPATH=tests/support:. python tests/api/test_fuzz.py 10000

sends as many to the server of `being serve`, with its own processes and limits, beside clients in a
process of their own; the tests send some hundreds to a server in their process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bad_clients import DEAF, HALVES, misbehave, still_open
from live_client import LiveClient
from live_server import LocalServer
from websockets.exceptions import ConnectionClosed

from being.api.limits import Limits
from being.api.messages import MODELS, parse
from being.api.packets import HEADER, Kind, unpack_client_sound
from being.bench.live import RECORDING, LiveBenchOptions, live_server
from being.bench.live_load import LoadConfig
from being.media.resampling import resample
from being.session.refusals import Refusal
from being.session.timeline import RATE
from being.tts import speak

MESSAGES = 200
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


async def fuzz(url: str, count: int, seed: int, rate: float = 1e6) -> tuple[int, int]:
    """Send `count` messages, opening a new session where one ends; (errors told, sessions).

    rate: the most messages a second.
    """
    dice, sent, errors, sessions = random.Random(seed), 0, 0, 0
    while sent < count:
        async with LiveClient(url) as client:
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
                        await asyncio.sleep(21 / rate)
            except ConnectionClosed:
                pass
            errors += len(client.messages("error"))
    return errors, sessions


def check_fuzzing(count: int, seed: int = 0, drawn: bool = False) -> dict[str, Any]:
    """Fuzz and misbehave beside a session that must stay on time; the figures. drawn: clients may
    draw."""

    async def all_at_once() -> tuple[LiveClient, tuple[int, int]]:
        async with LiveClient(server.url) as witness:
            held = asyncio.create_task(misbehave(server.url, server.port, 1, 0.05))
            work = asyncio.create_task(fuzz(server.url, count, seed))
            while not (work.done() and held.done()):
                await witness.listen(0.2)
            await witness.send({"type": "stats"})
            await witness.until("stats")
            for connection in held.result():
                connection.close()
            return witness, work.result()

    with LocalServer(limits=LIMITS, drawn=drawn) as server:
        descriptors = open_descriptors(os.getpid())
        witness, (errors, sessions) = asyncio.run(all_at_once())
        stats = witness.messages("stats")[-1]
        assert not witness.messages("error")
        sound = witness.media(Kind.PCM)
        times = [packet.timestamp for _, packet, _ in sound]
        assert times == list(range(times[0], times[-1] + 1, 960))
        pause = max(b[0] - a[0] for a, b in zip(sound, sound[1:], strict=False))
        assert server.settled()
        deadline = time.monotonic() + 15
        while open_descriptors(os.getpid()) > descriptors and time.monotonic() < deadline:
            time.sleep(0.02)
        assert open_descriptors(os.getpid()) <= descriptors
        return {
            "errors_told": errors,
            "sessions": sessions,
            "witness_lateness_ms": stats["lateness_ms"],
            "witness_longest_pause_ms": round(1000 * pause),
        }


def open_descriptors(pid: int) -> int:
    """Files, sockets and pipes that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("drawn", [False, True], ids=["rendered", "drawn"])
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_fuzzed_messages_and_bad_clients_disturb_nobody(
    drawn: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    figures = check_fuzzing(MESSAGES, drawn=drawn)
    assert "Traceback" not in capfd.readouterr().err
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


# The full size, by hand.
FUZZERS, RATE_A_FUZZER = 2, 100.0  # messages a second, under the limit of a session
WITNESSES, ALONE_S = 1, 20.0
ROUNDS_A_MESSAGE = 1 / 250  # of clients that misbehave
SETTLE_S = 45.0  # for the slowest limit of those that are left: a request, then pings


def fuzz_the_processes(count: int) -> dict[str, Any]:
    """Fuzz the server of `being serve`: lateness of other sessions without and with it, and what is
    left in its processes.
    """
    options = LiveBenchOptions(None, gaussians=2000, sessions=64, fronts=1)
    with tempfile.TemporaryDirectory() as name, live_server(options, Path(name)) as supervisor:
        url, port = f"ws://127.0.0.1:{supervisor.port}/session", supervisor.port
        speech = speak(RECORDING)
        samples = resample(speech.samples, speech.rate, RATE)
        np.save(f"{name}/sound.npy", (samples.clip(-1, 1) * 32767).astype(np.int16))
        seconds = count / (FUZZERS * RATE_A_FUZZER) + 5

        def witnesses(seconds: float) -> subprocess.Popen[str]:
            config = LoadConfig(url, f"{name}/sound.npy", WITNESSES, seconds, 0)
            command = [sys.executable, "-m", "being.bench.live_load", config.to_json()]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        found: dict[str, Any] = {"messages": count, "load": os.getloadavg()[0]}
        found["alone"] = lateness(witnesses(ALONE_S))
        pids = {"render": supervisor.render_pid, "front": supervisor.front_pids[0]}
        before = {part: left_in(pid) for part, pid in pids.items()}
        watched = witnesses(seconds)

        async def work() -> list[Any]:
            fuzzers = [fuzz(url, count // FUZZERS, seed, RATE_A_FUZZER) for seed in range(FUZZERS)]
            rounds = max(1, round(count * ROUNDS_A_MESSAGE))
            pause_s = seconds / rounds / (len(HALVES) + 1)
            return await asyncio.gather(misbehave(url, port, rounds, pause_s), *fuzzers)

        start = time.perf_counter()
        held, *told = asyncio.run(work())
        found["seconds"] = round(time.perf_counter() - start, 1)
        found["errors_told"] = sum(errors for errors, _ in told)
        found["fuzzed_sessions"] = sum(sessions for _, sessions in told)
        found["bad_clients"] = len(held) + max(1, round(count * ROUNDS_A_MESSAGE))
        found["beside_it"] = lateness(watched)
        time.sleep(SETTLE_S)
        # The kernel keeps what the deaf ones did not read; their sessions are counted below.
        found["still_open"] = sum(still_open(connection) for connection in held[DEAF:])
        counters = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
        found["open_sessions"] = [line for line in counters if line.startswith("being_sessions ")]
        time.sleep(6)  # the connection of this question is kept for some seconds
        found["before"] = before
        found["after"] = {part: left_in(pid) for part, pid in pids.items()}
        found["same_processes"] = pids == {
            "render": supervisor.render_pid,
            "front": supervisor.front_pids[0],
        }
        for connection in held:
            connection.close()
        return found


def lateness(load: subprocess.Popen[str]) -> dict[str, Any]:
    """Lateness of the pictures of clients, and how many came."""
    answer = json.loads(load.communicate()[0].splitlines()[-1])
    late = np.array([value for _, value in answer["late"]])
    figures = {f"p{share}_ms": round(float(np.percentile(late, share)), 1) for share in (50, 99)}
    sound = max(1, sum(answer["sound"]))
    return {**figures, "pictures_of_sound": round(sum(answer["pictures"]) / sound, 3)}


def left_in(pid: int) -> dict[str, float]:
    """Open files, threads and resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "open_files": open_descriptors(pid),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "mib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
    }


if __name__ == "__main__":
    print(json.dumps(fuzz_the_processes(int(sys.argv[1]))))
