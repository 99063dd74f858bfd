"""Limits of what a client may ask for, and who may connect."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from being.session.refusals import Refusal


@dataclass(frozen=True)
class Limits:
    """Limits of one session."""

    text_characters: int = 5_000  # of one message, and of the text that waits
    message_bytes: int = 1 << 18
    audio_seconds: float = 60.0  # of sound that waits to be spoken
    messages_per_s: float = 200.0
    message_burst: float = 400.0
    # For a request to come whole and be answered; again whenever the client has read some of it.
    request_s: float = 20.0
    start_s: float = 10.0  # for the first message
    slow_s: float = 5.0  # that a client may leave unread
    queued_bytes: int = 4 << 20  # that wait to be sent
    # Pictures that wait to be sent; more are not encoded.
    queued_pictures: int = 4


@dataclass(frozen=True)
class Access:
    """Who may connect."""

    token: str | None = None
    # Origins (scheme://host[:port]) of pages of other hosts, or "*"
    origins: frozenset[str] = field(default_factory=frozenset)

    def check_token(self, given: str | None) -> None:
        """Raise Refusal unless `given` is the token."""
        if self.token is None:
            return
        if given is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refusal(
                "wrong_token",
                "the token is wrong" if given else "a token is needed",
                "this server is open to other machines",
                "Use the address that `being serve` printed, with its ?token=",
                close=4401,
            )

    def session_of(self, given: str | None) -> str | None:
        """The id of the session that a token is for; None where it is for any."""
        return None

    def check_origin(self, origin: str | None, hosts: list[str]) -> None:
        """Raise Refusal for a page of another host.

        origin: the header `Origin`; programs send none. hosts: of the headers `Host` and
        `X-Forwarded-Host`. Without a token, only pages of this machine are let in: the name of
        any other host could be pointed here.
        """
        if origin is None or "*" in self.origins or origin.rstrip("/") in self.origins:
            return
        host = origin.partition("://")[2]
        same = host != "" and any(_same_host(host, own) for own in hosts)
        if same and (self.token is not None or is_loopback(_bare(host))):
            return
        raise Refusal(
            "wrong_origin",
            f"pages of {origin[:100]} may not use this server",
            "they come from another host",
            f"Start it with --allow-origin {origin[:100]}",
            close=4403,
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bare(netloc: str) -> str:
    """The host of host:port, without brackets."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _same_host(first: str, second: str) -> bool:
    """Whether two host:port name the same host; a proxy may have another port."""
    return _bare(first) == _bare(second) != ""


class TokenBucket:
    """Allows `rate` events a second, and a burst."""

    def __init__(self, rate: float, burst: float, now: float):
        self._rate, self._burst = rate, burst
        self._left, self._time = burst, now

    def take(self, now: float) -> bool:
        """Whether one more event is allowed now."""
        self._left = min(self._burst, self._left + self._rate * (now - self._time))
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
