"""The application that gives places, with a placer that is none: requests, refusals, the proxy."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.server import ServerConnection, serve

from being.api.supervisor import ServeOptions
from being.api.tickets import Ticket, read_ticket
from being.deploy.board import Report
from being.deploy.holds import full
from being.deploy.ingress import Placed, create_ingress
from being.deploy.plan import Plan

KEY = "ab" * 32
NOW = 1_000_000.0


class FakePlacer:
    """Places at one address, as often as there is room."""

    def __init__(self, room: int = 2, address: str = "10.0.0.7:4567", near: bool = False):
        self.room, self.address, self.near = room, address, near
        self.placed: list[str] = []

    async def place(self, session: str) -> Placed:
        if len(self.placed) >= self.room:
            raise full(len(self.placed), self.room)
        self.placed.append(session)
        return Placed("one", self.address, self.near)

    async def reports(self) -> Sequence[Report]:
        return [
            Report("one", self.address, "node", self.room, tuple(self.placed)),
            Report("two", "10.0.0.8:1", "node", 5, ("x",), draining=True),
        ]

    async def end(self, session: str) -> bool:
        return session in self.placed


def client(placer: FakePlacer, page: Path, **settings: Any) -> TestClient:
    """A client of the application. settings: of the plan, token and origins of the server."""
    own = {name: settings.pop(name) for name in ("token", "origins") if name in settings}
    options = ServeOptions({"tiny": page}, limit=2, **own)
    plan = Plan(options, KEY, **settings)
    app = create_ingress(plan, lambda: placer, page, lambda: NOW)
    return TestClient(app, base_url="http://localhost:8000")


def test_a_place_is_an_address_with_a_ticket_for_one_session(tmp_path: Path) -> None:
    placer = FakePlacer()
    answer = client(placer, tmp_path).post("/sessions")
    assert answer.status_code == 201
    body = answer.json()
    assert placer.placed == [body["session"]] and body["replica"] == "one"
    address, _, ticket = body["url"].partition("?token=")
    assert address == "ws://10.0.0.7:4567/session"
    found = read_ticket(ticket, bytes.fromhex(KEY), NOW)
    assert (found.session, found.address) == (body["session"], "10.0.0.7:4567")


def test_a_session_that_goes_on_keeps_its_id(tmp_path: Path) -> None:
    placer = FakePlacer()
    answer = client(placer, tmp_path).post("/sessions", json={"session": "abc-1_2"})
    assert answer.json()["session"] == "abc-1_2" and placer.placed == ["abc-1_2"]


def test_a_replica_of_this_machine_has_the_name_that_the_client_used(tmp_path: Path) -> None:
    answer = client(FakePlacer(near=True, address="127.0.0.1:9"), tmp_path).post("/sessions")
    assert answer.json()["url"].startswith("ws://localhost:9/session?")


def test_where_all_is_full_the_client_is_told_when_to_come_again(tmp_path: Path) -> None:
    answer = client(FakePlacer(room=0), tmp_path).post("/sessions")
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0
    assert answer.json()["type"] == "error" and answer.json()["code"] == "full"


def test_the_token_is_needed_where_the_server_has_one(tmp_path: Path) -> None:
    user = client(FakePlacer(), tmp_path, token="secret")
    for method, path in (("POST", "/sessions"), ("GET", "/sessions"), ("DELETE", "/sessions/a")):
        assert user.request(method, path).status_code == 401
        assert user.request(method, f"{path}?token=wrong").status_code == 401
    assert user.post("/sessions?token=secret").status_code == 201
    bearer = {"Authorization": "Bearer secret"}
    assert user.post("/sessions", headers=bearer).status_code == 201
    assert user.get("/info").json()["token_needed"] is True


def test_pages_of_other_hosts_get_no_place(tmp_path: Path) -> None:
    placer = FakePlacer()
    evil = {"Origin": "https://evil.example"}
    answer = client(placer, tmp_path).post("/sessions", headers=evil)
    assert answer.status_code == 403 and placer.placed == []
    allowed = client(placer, tmp_path, origins=["https://evil.example"])
    assert allowed.post("/sessions", headers=evil).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"session": 3}',
        b'{"session": "a/b"}',
        b'{"sesion": "a"}',
        b"x" * 5000,
        b"\xff",
    ],
)
def test_a_request_that_cannot_be_read_is_refused(tmp_path: Path, body: bytes) -> None:
    placer = FakePlacer()
    answer = client(placer, tmp_path).post("/sessions", content=body)
    assert answer.status_code == 400 and answer.json()["code"] == "bad_message"
    assert placer.placed == []


def test_free_slots_are_told_by_replica_without_ids(tmp_path: Path) -> None:
    user = client(FakePlacer(), tmp_path)
    session = user.post("/sessions").json()["session"]
    answer = user.get("/sessions")
    assert answer.json()["free"] == 1 and session not in answer.text
    one, two = answer.json()["replicas"]
    assert (one["sessions"], one["free"], one["limit"]) == (1, 1, 2)
    assert two["draining"] and two["free"] == 0
    assert user.get("/health").json() == {"ok": True, "sessions": 2, "limit": 2}


def test_a_session_is_ended_by_its_id(tmp_path: Path) -> None:
    user = client(FakePlacer(), tmp_path)
    session = user.post("/sessions").json()["session"]
    assert user.delete(f"/sessions/{session}").status_code == 202
    assert user.delete("/sessions/none").status_code == 404


# The proxy


@pytest.fixture
def replica() -> Iterator[str]:
    """The address of a WebSocket server that echoes, and closes with 4429 on "full"."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def echo(socket: ServerConnection) -> None:
        async for content in socket:
            if content == "full":
                await socket.close(4429, "full")
            await socket.send(content)

    async def run() -> None:
        async with serve(echo, "127.0.0.1", 0) as server:
            found.append(server.sockets[0].getsockname()[1])
            ready.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(10)
    yield f"127.0.0.1:{found[0]}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def test_in_proxy_mode_media_pass_both_ways_and_so_does_the_close_code(
    tmp_path: Path, replica: str
) -> None:
    user = client(FakePlacer(address=replica), tmp_path, proxied=True)
    address = user.post("/sessions").json()["url"]
    assert address.startswith("session?token=")
    with user.websocket_connect(f"/{address}") as socket:
        socket.send_text('{"type": "start"}')
        assert json.loads(socket.receive_text()) == {"type": "start"}
        socket.send_bytes(b"\x03sound")
        assert socket.receive_bytes() == b"\x03sound"
        socket.send_text("full")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 4429


def test_the_proxy_connects_nowhere_without_a_ticket_of_ours(tmp_path: Path, replica: str) -> None:
    user = client(FakePlacer(address=replica), tmp_path, proxied=True)
    forged = Ticket("a", replica, NOW + 10).sign(b"another key")
    old = Ticket("a", replica, NOW - 1).sign(bytes.fromhex(KEY))
    for token in ("", forged, old, "a.b.c.d"):
        with user.websocket_connect(f"/session?token={token}") as socket:
            assert socket.receive_json()["code"] == "wrong_token"
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
            assert closed.value.code == 4401


def test_a_replica_that_has_gone_is_told_so_that_the_client_asks_again(tmp_path: Path) -> None:
    user = client(FakePlacer(address="127.0.0.1:1"), tmp_path, proxied=True)
    with user.websocket_connect(f"/{user.post('/sessions').json()['url']}") as socket:
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1012
