"""The processes of the live server: each of them is killed, and the others go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_client import LiveClient
from tiny_avatar import write_tiny_avatar
from tiny_home import AUDIO_WIDTH
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from being.api.certificates import self_signed_pair
from being.api.packets import Kind
from being.api.supervisor import ServeOptions, Supervisor
from being.bench.avatars import random_voice
from being.errors import BeingError, EnvironmentFault, ExitCode

pytestmark = pytest.mark.usefixtures("speech_encoder")


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    place = tmp_path_factory.mktemp("avatar")
    avatars = {
        "tiny": write_tiny_avatar(place / "tiny", "hama@low", AUDIO_WIDTH),
        # It reads the mouth code, and has a mapping for the encoder of live sessions.
        "coded": write_tiny_avatar(
            place / "coded",
            "hama",
            AUDIO_WIDTH,
            random_voice(AUDIO_WIDTH),
            ("hama-causal", random_voice(AUDIO_WIDTH, seed=1)),
        ),
    }
    options = ServeOptions(avatars, port=0, fronts=2, limit=8, batched_features=True)
    with Supervisor(options) as started:
        started.start()
        thread = threading.Thread(target=started.watch, daemon=True)
        thread.start()
        yield started
        started.stop()
        thread.join(5)


def url(supervisor: Supervisor) -> str:
    return f"ws://127.0.0.1:{supervisor.port}/session"


async def clients_of_both_fronts(supervisor: Supervisor) -> dict[int, LiveClient]:
    """One client for each front process, by its id: the second goes to the emptier one."""
    wait_for_fronts(supervisor)
    found: dict[int, LiveClient] = {}
    for _ in range(2):
        client = LiveClient(url(supervisor))
        await client.open()
        assert client.socket is not None and client.ready, client.log
        found[front_of(client.socket.local_address[1], supervisor)] = client
    assert len(found) == 2
    return found


def front_of(port: int, supervisor: Supervisor) -> int:
    """The front process that serves the client at `port`: the one that holds the other end."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(part.split(":")[1], 16) for part in fields[1:3])
        if (local, remote) == (supervisor.port, port):
            inodes.add(f"socket:[{fields[9]}]")
    for pid in supervisor.front_pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(entry) in inodes:
                    return pid
            except OSError:
                continue
    raise AssertionError("no front process holds the connection")


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_connections_spread_evenly_over_the_fronts_also_after_some_have_left(
    supervisor: Supervisor,
) -> None:
    wait_for_fronts(supervisor)

    def connect(count: int) -> dict[socket.socket, int]:
        """Connections that say nothing yet, with the front of each."""
        clients = [
            socket.create_connection(("127.0.0.1", supervisor.port), 10) for _ in "k" * count
        ]
        time.sleep(0.2)  # until they are there
        return {client: front_of(client.getsockname()[1], supervisor) for client in clients}

    wait_for_load(supervisor, 0)  # connections of other tests have gone
    fronts = connect(20)
    try:
        counts = [list(fronts.values()).count(pid) for pid in supervisor.front_pids]
        assert sum(counts) == 20 and max(counts) - min(counts) <= 1, counts

        # Most clients of one front leave; the next ones take their places.
        left = [client for client, pid in fronts.items() if pid == supervisor.front_pids[0]][:8]
        for client in left:
            client.close()
            del fronts[client]
        wait_for_load(supervisor, 12)
        fronts |= connect(8)
        counts = [list(fronts.values()).count(pid) for pid in supervisor.front_pids]
        assert sum(counts) == 20 and max(counts) - min(counts) <= 1, counts
    finally:
        for client in fronts:
            client.close()


def test_nobody_is_sent_to_a_front_that_has_ended(supervisor: Supervisor) -> None:
    wait_for_fronts(supervisor)
    os.kill(supervisor.front_pids[0], signal.SIGKILL)
    while supervisor.serving == 2:
        time.sleep(0.005)
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", supervisor.port), 10) as client:
            client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert b" 200 " in client.recv(64)
    wait_for_fronts(supervisor)


def wait_for_load(supervisor: Supervisor, connections: int) -> None:
    """Wait until the fronts have reported that they hold so many connections in all."""
    deadline = time.monotonic() + 60
    while sum(loads := supervisor._placement.loads) != connections:
        assert time.monotonic() < deadline, loads
        time.sleep(0.05)


def wait_for_fronts(supervisor: Supervisor) -> None:
    """Wait until both fronts serve; one that is started again takes long on a busy machine."""
    deadline = time.monotonic() + 150
    while supervisor.serving < 2 or killed_fronts(supervisor):
        assert time.monotonic() < deadline, "a front does not serve"
        time.sleep(0.05)


def test_an_avatar_that_reads_the_mouth_code_speaks_by_its_live_encoder(
    supervisor: Supervisor,
) -> None:
    async def talk() -> None:
        async with LiveClient(url(supervisor), {"avatar": "coded"}) as client:
            assert client.ready["look_ahead_ms"] == 240
            await client.send({"type": "speak", "text": "Hello there."})
            await client.until("speaking_ended", 60)
            assert not [m for _, m in client.log if isinstance(m, dict) and m["type"] == "error"]
            assert len(client.media(Kind.H264)) > 5

    asyncio.run(talk())


def test_a_killed_front_takes_its_own_sessions_along_and_no_others(
    supervisor: Supervisor,
) -> None:
    async def talk() -> None:
        clients = await clients_of_both_fronts(supervisor)
        (killed, lost), (_, kept) = clients.items()
        await kept.send({"type": "speak", "text": "I go on, whatever happens to my neighbour."})
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            for _ in range(1000):
                await lost.receive(5)
        await kept.until("speaking_ended", 60)
        assert kept.socket is not None
        times = [packet.timestamp for _, packet, _ in kept.media(Kind.PCM)]
        assert times == list(range(times[0], times[-1] + 1, 960))

        # The client of the lost session goes on with another front.
        resume = lost.ready["resume"]
        async with LiveClient(url(supervisor), {"resume": resume}) as again:
            assert again.ready["resumed"] and again.ready["session"] == lost.ready["session"]
            await again.until(lambda m: isinstance(m, tuple) and m[0].kind is Kind.H264)
        await kept.socket.close()

    asyncio.run(talk())
    deadline = time.monotonic() + 60
    while killed_fronts(supervisor) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(supervisor.front_pids) == 2 and not killed_fronts(supervisor)


def killed_fronts(supervisor: Supervisor) -> list[int]:
    """Front processes that do not live."""
    return [pid for pid in supervisor.front_pids if not Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_killed_render_process_comes_back_and_its_sessions_go_on(
    supervisor: Supervisor,
) -> None:
    async def talk() -> None:
        async with LiveClient(url(supervisor)) as client:
            await client.until(lambda m: isinstance(m, tuple) and m[0].kind is Kind.H264)
            os.kill(supervisor.render_pid, signal.SIGKILL)
            assert (await client.until("error"))["code"] == "render_lost"
            pictures = len(client.media(Kind.H264))
            # Sound goes on meanwhile; pictures come again by themselves.
            await client.until(lambda m: isinstance(m, tuple) and m[0].kind is Kind.PCM)
            await client.until(lambda m: len(client.media(Kind.H264)) > pictures + 5, 120)
            times = [packet.timestamp for _, packet, _ in client.media(Kind.PCM)]
            assert times == list(range(times[0], times[-1] + 1, 960))

    asyncio.run(talk())


def test_https_serves_as_soon_as_start_returns(tmp_path: Path) -> None:
    folder = write_tiny_avatar(tmp_path / "tiny", "hama@low", AUDIO_WIDTH)
    certificate, key = self_signed_pair(tmp_path / "pair", "127.0.0.1")
    options = ServeOptions(
        {"tiny": folder}, port=0, fronts=1, limit=1, certificate=certificate, key=key
    )

    async def talk(address: str) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        async with connect(address, ssl=context, proxy=None, open_timeout=2) as socket:
            await socket.send('{"type": "start"}')
            assert json.loads(await socket.recv())["type"] == "ready"

    with Supervisor(options) as secure:
        secure.start()
        asyncio.run(talk(f"wss://localhost:{secure.port}/session"))


def test_what_cannot_be_served_is_told(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="Choose another port"):
        Supervisor(ServeOptions({}, port=supervisor.port))
    (tmp_path / "empty").mkdir()
    with (
        Supervisor(ServeOptions({"a": tmp_path / "empty"}, port=0, fronts=1)) as broken,
        pytest.raises(BeingError, match="no manifest.json") as refused,
    ):
        broken.start()
    assert refused.value.code is ExitCode.REJECTED
