"""Tickets: where sessions are placed, one lets a client open one session at one server.

A ticket is `SESSION.ADDRESS.EXPIRY.SIGNATURE`, each in URL-safe base64 where it is text. Whoever
places sessions signs it; the server that it leads to checks it without asking anybody.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from being.api.limits import Access
from being.session.refusals import Refusal

SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")  # id of a session that is placed
VALID_S = 30.0  # after a ticket was made, in which the session can be opened
TICKET_MAX = 512  # characters


@dataclass(frozen=True)
class Ticket:
    """What a ticket says."""

    session: str
    address: str  # HOST:PORT of the server that holds the place
    expires: float  # s, of the time of day

    def sign(self, key: bytes) -> str:
        """The ticket as text, for the address of a WebSocket."""
        body = ".".join([_pack(self.session), _pack(self.address), str(round(self.expires))])
        return f"{body}.{_signature(body, key)}"


def read_ticket(text: str | None, key: bytes, now: float) -> Ticket:
    """The ticket in a text. Raises Refusal where it is none, was altered, or is too old.

    now: s, of the time of day.
    """
    body, _, signature = (text or "")[:TICKET_MAX].rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(body, key).encode()):
        raise _refused("the ticket is wrong" if text else "a ticket is needed")
    try:
        session, address, expires = body.split(".")
        ticket = Ticket(_unpack(session), _unpack(address), float(expires))
    except (ValueError, binascii.Error) as error:
        raise _refused("the ticket is malformed") from error
    if now > ticket.expires:
        raise _refused("the ticket is too old")
    return ticket


@dataclass(frozen=True)
class TicketAccess(Access):
    """Who may connect to a server whose sessions are placed: who has a ticket for it."""

    key: bytes = b""
    clock: Callable[[], float] = time.time

    def check_token(self, given: str | None) -> None:
        """Raise Refusal unless `given` is a ticket that is valid now."""
        read_ticket(given, self.key, self.clock())

    def session_of(self, given: str | None) -> str | None:
        """The id of the session that the ticket is for."""
        return read_ticket(given, self.key, self.clock()).session

    def check_origin(self, origin: str | None, hosts: list[str]) -> None:
        """Any page: the origin was checked before the ticket was given."""


def _refused(what: str) -> Refusal:
    return Refusal(
        "wrong_token",
        what,
        "sessions of this server are placed",
        "Ask for a place with POST sessions, and connect to the address that it answers",
        close=4401,
    )


def _signature(body: str, key: bytes) -> str:
    return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()


def _pack(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpack(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
