"""What all replicas report of themselves, and which sessions shall end; kept by one actor.

The board decides nothing: Ray Serve places sessions. It shows free slots by replica, and carries
the wish to end a session to the replica that holds it. What it knows comes again with the next
reports, so it may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

REPORT_S = 0.5  # between two reports of a replica
STALE_S = 5.0  # after which a replica that does not report counts as gone


@dataclass(frozen=True)
class Report:
    """What a replica says of itself."""

    replica: str
    address: str  # HOST:PORT of its live server
    node: str  # id of its machine
    limit: int
    sessions: tuple[str, ...]
    draining: bool = False  # it takes no new sessions, and ends with its last one

    @property
    def free(self) -> int:
        """The sessions that it would take."""
        return 0 if self.draining else max(0, self.limit - len(self.sessions))

    def facts(self) -> dict[str, Any]:
        """The report for the outside: counts, no ids."""
        found = {**asdict(self), "sessions": len(self.sessions), "free": self.free}
        del found["node"]
        return found


class Board:
    """The reports of all replicas."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._reports: dict[str, tuple[float, Report]] = {}
        self._ending: set[str] = set()

    def report(self, report: Report) -> list[str]:
        """Take a report; returns which of the replica's sessions shall end."""
        self._reports[report.replica] = (self._clock(), report)
        ending = self._ending & set(report.sessions)
        self._ending -= ending
        return sorted(ending)

    def leave(self, replica: str) -> None:
        """A replica ends."""
        self._reports.pop(replica, None)

    def reports(self) -> list[Report]:
        """The newest report of each replica that still reports."""
        now = self._clock()
        self._reports = {
            name: (at, report) for name, (at, report) in self._reports.items() if now - at < STALE_S
        }
        return [report for _, report in self._reports.values()]

    def room(self, session: str) -> tuple[int, int, bool]:
        """Sessions that run, places in all, and whether one is free for `session`."""
        reports = self.reports()
        free = any(
            len(report.sessions) - (session in report.sessions) < report.limit for report in reports
        )
        return sum(len(r.sessions) for r in reports), sum(r.limit for r in reports), free

    def end(self, session: str) -> bool:
        """Have a session ended; whether a replica holds it."""
        held = any(session in report.sessions for report in self.reports())
        if held:
            self._ending.add(session)
        return held
