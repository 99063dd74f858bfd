"""Tickets for placed sessions, and the ledger of sessions that run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from live_client import LiveClient
from live_server import LocalServer

from being.api.session_ledger import SessionLedger
from being.api.tickets import Ticket, TicketAccess, read_ticket
from being.session.refusals import Refusal

KEY, OTHER = b"k" * 32, b"o" * 32


def test_a_ticket_says_what_was_signed() -> None:
    ticket = Ticket("session-1", "10.0.0.7:4567", 100.0)
    assert read_ticket(ticket.sign(KEY), KEY, 99.0) == ticket


def test_a_ticket_that_was_altered_is_of_another_or_old_is_refused() -> None:
    text = Ticket("session-1", "10.0.0.7:4567", 100.0).sign(KEY)
    other = Ticket("session-2", "10.0.0.7:4567", 100.0).sign(KEY)
    swapped = ".".join([other.split(".")[0], *text.split(".")[1:]])
    for wrong in (None, "", "x", swapped, text[:-1], text + "0", Ticket("a", "b", 100).sign(OTHER)):
        with pytest.raises(Refusal) as refusal:
            read_ticket(wrong, KEY, 99.0)
        assert (refusal.value.name, refusal.value.close) == ("wrong_token", 4401)
    with pytest.raises(Refusal, match="too old"):
        read_ticket(text, KEY, 100.5)


def wait_for(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()


def test_a_server_of_placed_sessions_knows_them_by_id_and_ends_them(tmp_path: Path) -> None:
    ledger = SessionLedger(tmp_path / "ledger")
    access = TicketAccess(key=KEY)
    with LocalServer(access=access, ledger=str(tmp_path / "ledger")) as server:

        def address(session: str) -> str:
            ticket = Ticket(session, f"127.0.0.1:{server.port}", time.time() + 10)
            return f"{server.url}?token={ticket.sign(KEY)}"

        async def talk() -> None:
            async with LiveClient(f"{server.url}?token=none") as nobody:
                assert nobody.log[-1][1]["code"] == "wrong_token"
            async with LiveClient(address("one")) as one, LiveClient(address("two")) as two:
                assert one.ready["session"] == "one"
                assert await asyncio.to_thread(
                    wait_for, lambda: ledger.sessions() == {"one", "two"}
                )
                ledger.end("two")
                assert two.socket is not None
                await asyncio.wait_for(two.socket.wait_closed(), 5)
                assert two.socket.close_code == 1000
                assert await asyncio.to_thread(wait_for, lambda: ledger.sessions() == {"one"})
                await one.listen(0.2)
            assert await asyncio.to_thread(wait_for, lambda: not ledger.sessions())

        asyncio.run(talk())
        assert server.settled()
    ledger.close()
