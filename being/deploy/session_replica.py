"""A replica of Ray Serve: one live server with its own port, whose sessions Serve counts.

Each session is one request that lasts as long as the session (`hold`). So Serve's own counts of
requests are counts of sessions: it places new ones where fewest run, starts and ends replicas by
them, and lets a replica that must go wait for its requests, which are its sessions.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from being.api.supervisor import Supervisor
from being.deploy.board import REPORT_S, Report
from being.deploy.holds import Holds
from being.deploy.plan import Plan
from being.session.refusals import Refusal

HEALTH_PERIOD_S = 5.0
# Serve asks a replica that must go for its health no longer: after this time it knows.
DRAINING_S = 4 * HEALTH_PERIOD_S
UNHEALTHY_S = 120.0  # without a render process, after which Serve starts another replica


class SessionReplica:
    """One live server."""

    def __init__(self, plan: Plan, board: Any):
        """board: the actor of `Board`. Returns when sessions can be served; raises BeingError."""
        import ray
        from ray import serve

        context = ray.get_runtime_context()
        self._name = serve.get_replica_context().replica_id.unique_id
        self._node = context.get_node_id()
        own = ray.util.get_node_ip_address()
        # Where all media pass the proxy, only our own machines need to reach this port.
        host = own if plan.proxied else plan.serve.host
        options = dataclasses.replace(
            plan.serve, host=host, port=0, ticket_key=plan.key, token=None
        )
        os.environ.update(plan.environment)
        self._board, self._holds = board, Holds(plan.limit)
        self._closing = False
        self._supervisor = Supervisor(options)
        try:
            self._supervisor.start()
        except BaseException:
            self._supervisor.close()
            raise
        self._address = f"{own}:{self._supervisor.port}"
        self._watching = threading.Thread(target=self._supervisor.watch, daemon=True)
        self._watching.start()
        self._reporting: asyncio.Task[None] | None = None
        self._unhealthy_since: float | None = None
        self._asked = time.monotonic()  # for its health, last

    async def hold(self, session: str) -> AsyncIterator[dict[str, Any]]:
        """Hold a place for a session until it has ended.

        Yields once: replica, address and node of the place, or `refused`.
        """
        self._report_from_now_on()
        try:
            hold = self._holds.take(session, time.monotonic())
        except Refusal as refusal:
            yield {"refused": refusal.why}
            return
        try:
            yield {"replica": self._name, "address": self._address, "node": self._node}
            await hold.ended.wait()
        finally:  # also where the one who asked has gone
            self._holds.give_up(hold)

    async def check_health(self) -> None:
        """Serve asks from time to time. Raises RuntimeError where this replica serves nobody."""
        self._report_from_now_on()
        self._asked = time.monotonic()
        if not self._watching.is_alive():
            raise RuntimeError("the live server is no longer watched")
        ok = await asyncio.to_thread(self._supervisor.healthy)
        now = time.monotonic()
        self._unhealthy_since = None if ok else (self._unhealthy_since or now)
        if self._unhealthy_since is not None and now - self._unhealthy_since > UNHEALTHY_S:
            raise RuntimeError("the live server does not answer")

    def _report_from_now_on(self) -> None:
        """Start the reports, in the loop that serves requests."""
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._report())

    async def _report(self) -> None:
        ledger = self._supervisor.ledger
        assert ledger is not None
        while not self._closing:
            self._holds.look(ledger.sessions(), time.monotonic())
            try:
                for session in await self._board.report.remote(self._own_report()):
                    ledger.end(session)
                    self._holds.end(session)
            except Exception:  # the board is being started again
                pass
            await asyncio.sleep(REPORT_S)

    def _own_report(self) -> Report:
        return Report(
            self._name,
            self._address,
            self._node,
            self._holds.limit,
            tuple(self._holds.sessions),
            time.monotonic() - self._asked > DRAINING_S,
        )

    async def __del__(self) -> None:
        """Serve calls it when all requests have ended: sessions that it did not count are waited
        for, then the live server ends.
        """
        supervisor = getattr(self, "_supervisor", None)
        if supervisor is None or self._closing:
            return
        ledger = supervisor.ledger
        while ledger is not None and ledger.sessions():
            await asyncio.sleep(REPORT_S)
        self._closing = True
        self._board.leave.remote(self._name)
        supervisor.stop()
        await asyncio.to_thread(supervisor.close)
