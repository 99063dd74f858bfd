"""The places of one replica: each is held for a session until it ends, or does not come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from being.session.refusals import Refusal

CLAIM_S = 15.0  # in which a client must open the session that it got a place for


@dataclass
class Hold:
    """The place of a session."""

    until: float  # s: when it ends unless the session has come
    came: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Holds:
    """Counts places, and sees sessions come and go."""

    def __init__(self, limit: int):
        self.limit = limit
        self._holds: dict[str, Hold] = {}
        self._running: set[str] = set()

    @property
    def sessions(self) -> list[str]:
        """The ids of the sessions that have a place: those that run, and those that shall come."""
        return sorted({*self._holds, *self._running})

    def take(self, session: str, now: float) -> Hold:
        """A place for a session. A client that asks again gets its own again.

        Raises Refusal where all are taken.
        """
        if (old := self._holds.pop(session, None)) is not None:
            old.ended.set()
        others = set(self.sessions) - {session}
        if len(others) >= self.limit:
            raise full(len(others), self.limit)
        self._holds[session] = hold = Hold(now + CLAIM_S)
        return hold

    def look(self, running: set[str], now: float) -> None:
        """Free the places of sessions that have ended, or have not come in time.

        running: the sessions that are open now.
        """
        self._running = running
        for session, hold in list(self._holds.items()):
            if session in running:
                hold.came = True
            elif hold.came or now > hold.until:
                self.end(session)

    def give_up(self, hold: Hold) -> None:
        """Nobody waits for this hold any more: free its place, unless the session runs."""
        if not hold.came:
            for session in [name for name, held in self._holds.items() if held is hold]:
                self.end(session)

    def end(self, session: str) -> None:
        """Free a place; done twice, it does nothing."""
        if (hold := self._holds.pop(session, None)) is not None:
            hold.ended.set()


def full(sessions: int, limit: int) -> Refusal:
    """The refusal where all places are taken."""
    return Refusal(
        "full",
        "all places are taken",
        f"{sessions} of {limit} sessions are running",
        "Try again in some seconds",
        close=4429,
    )
