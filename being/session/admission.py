"""Admission of sessions: a limit for all, and one for each address."""

from __future__ import annotations

from collections import Counter

from being.session.refusals import Refusal

TRY_LATER = 4429  # close code


class Admission:
    """Counts sessions, and refuses those over a limit. They are refused, never queued."""

    def __init__(self, limit: int, limit_by_address: int):
        self.limit, self.limit_by_address = limit, limit_by_address
        self._addresses = Counter[str]()
        self.sessions = 0

    def enter(self, address: str, again: bool = False) -> None:
        """Count a session in. Raises Refusal where a limit is reached.

        address: of the client; "" for those that share no limit. again: the session was admitted
        before, by a process that has ended.
        """
        if not again:
            self._check(address)
        self.sessions += 1
        self._addresses[address] += 1

    def _check(self, address: str) -> None:
        if self.sessions >= self.limit:
            raise Refusal(
                "full",
                "all places are taken",
                f"{self.sessions} of {self.limit} sessions are running",
                "Try again in a minute",
                close=TRY_LATER,
            )
        if address and self._addresses[address] >= self.limit_by_address:
            raise Refusal(
                "too_many_sessions",
                "your address has too many sessions",
                f"{self._addresses[address]} of {self.limit_by_address} are running",
                "Close one of them",
                close=TRY_LATER,
            )

    def leave(self, address: str) -> None:
        """Count a session out that was counted in."""
        assert self._addresses[address] > 0, address
        self.sessions -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]
