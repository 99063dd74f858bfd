"""`serve_sessions`: live sessions placed by Ray Serve, from a plan to a running application."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI

from being.console import console
from being.deploy.board import Board, Report
from being.deploy.holds import full
from being.deploy.ingress import Placed, create_ingress
from being.deploy.plan import TARGET_SHARE, Plan
from being.deploy.ray_cluster import NAMESPACE, check_resources, cluster, nodes_resources
from being.deploy.session_replica import HEALTH_PERIOD_S, SessionReplica
from being.errors import BeingError

APPLICATION, REPLICA, INGRESS, BOARD = "being", "SessionReplica", "Ingress", "being-board"
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
START_ATTEMPTS = 3  # of a replica, before its error is told
FIRST_WAIT_S = 1.5  # for the answer of a replica; then another one is asked
PLACE_S = 8.0  # for a place, where replicas die or start meanwhile
RETRY_S = 0.2
INGRESS_REQUESTS = 10_000  # at a time: each proxied session is one
CPUS_OF_RAY = 1  # of our own Ray, beside those of the replicas


class RayPlacer:
    """Implements `Placer`: Serve's router chooses the replica, by its count of sessions."""

    def __init__(self) -> None:
        """In a replica of the ingress."""
        import ray
        from ray import serve

        self._ray = ray
        handle = serve.get_deployment_handle(REPLICA, APPLICATION)
        self._hold = handle.options(method_name="hold", stream=True)
        self._board = ray.get_actor(BOARD, NAMESPACE)
        self._node = ray.get_runtime_context().get_node_id()
        self._kept: set[asyncio.Task[None]] = set()

    async def place(self, session: str) -> Placed:
        """See `Placer.place`."""
        deadline = time.monotonic() + PLACE_S
        while True:
            # Serve would let the request wait for a free replica, without end.
            sessions, places, free = await self._room(session)
            if places and not free:
                raise full(sessions, places)
            request: Any = self._hold.remote(session)
            try:
                first = await asyncio.wait_for(anext(request), FIRST_WAIT_S)
            except (asyncio.TimeoutError, StopAsyncIteration, self._ray.exceptions.RayError):
                # The replica has just died, or none is ready.
                request.cancel()
                if time.monotonic() > deadline:
                    raise full(sessions, places) from None
                await asyncio.sleep(RETRY_S)
                continue
            if "refused" in first:
                raise full(sessions, places)
            # The request lasts as long as the session: Serve counts it.
            task = asyncio.create_task(self._keep(request))
            self._kept.add(task)
            task.add_done_callback(self._kept.discard)
            return Placed(first["replica"], first["address"], first["node"] == self._node)

    async def _keep(self, request: Any) -> None:
        # The replica may die: its clients ask for a place again.
        with contextlib.suppress(Exception):
            async for _ in request:
                pass

    async def _room(self, session: str) -> tuple[int, int, bool]:
        """Sessions, places, and whether one is free; 0, 0, False where nobody knows."""
        try:
            found: tuple[int, int, bool] = await self._board.room.remote(session)
            return found
        except self._ray.exceptions.RayError:  # the board is being started again
            return 0, 0, False

    async def reports(self) -> Sequence[Report]:
        """See `Placer.reports`."""
        try:
            found: list[Report] = await self._board.reports.remote()
            return found
        except self._ray.exceptions.RayError:  # it is being started again
            return []

    async def end(self, session: str) -> bool:
        """See `Placer.end`."""
        return bool(await self._board.end.remote(session))


def deploy(ray: Any, plan: Plan) -> None:
    """Deploy the plan, or change what runs to it; returns when sessions can be placed.

    Raises BeingError where no replica can start.
    """
    from ray import serve
    from ray.serve.config import HTTPOptions

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    options: dict[str, Any] = {"host": plan.serve.host, "port": plan.serve.port}
    if plan.serve.certificate is not None:
        options |= {
            "ssl_certfile": str(plan.serve.certificate),
            "ssl_keyfile": str(plan.serve.key),
        }
    # Addresses hold tokens.
    serve.start("HeadOnly", http_options=HTTPOptions(**options), logging_config=LOGGING)
    board = ray.remote(Board).options(
        name=BOARD, namespace=NAMESPACE, get_if_exists=True, num_cpus=0, max_restarts=-1
    )
    application = _ingress(serve, plan).bind(
        _replica(serve, plan).bind(_lasting(plan), board.remote())
    )
    try:
        serve.run(application, name=APPLICATION, route_prefix="/", blocking=False)
    except RuntimeError as error:
        raise BeingError(
            "no replica can start", _why_not(serve) or str(error).splitlines()[0], "See above"
        ) from error


def _lasting(plan: Plan) -> Plan:
    """The plan without what may change while replicas run: their number."""
    return dataclasses.replace(plan, replicas=(1, 1))


def _replica(serve: Any, plan: Plan) -> Any:
    """The deployment of the replicas."""
    fewest, most = plan.replicas
    scaling: dict[str, Any] = {"num_replicas": fewest}
    if most > fewest:
        scaling = {
            "autoscaling_config": {
                "min_replicas": fewest,
                "max_replicas": most,
                "target_ongoing_requests": max(1.0, TARGET_SHARE * plan.limit),
                "upscale_delay_s": plan.upscale_delay_s,
                "downscale_delay_s": plan.downscale_delay_s,
            }
        }
    return serve.deployment(SessionReplica).options(
        name=REPLICA,
        logging_config=LOGGING,
        max_ongoing_requests=plan.limit,
        graceful_shutdown_timeout_s=plan.drain_s,
        graceful_shutdown_wait_loop_s=1.0,
        max_constructor_retry_count=START_ATTEMPTS,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=60.0,
        ray_actor_options={"num_cpus": plan.cpus, "num_gpus": plan.gpus},
        **scaling,
    )


class Ingress:
    """The class that Serve wraps round the application of `create_ingress`."""

    def __init__(self, replica: Any):
        """replica: the handle; it makes Serve deploy both together."""


def _ingress(serve: Any, plan: Plan) -> Any:
    """The deployment of the application that clients talk to."""

    def make_app() -> FastAPI:  # Serve takes a plain function without arguments
        return create_ingress(_lasting(plan), RayPlacer)

    return serve.deployment(serve.ingress(make_app)(Ingress)).options(
        name=INGRESS,
        logging_config=LOGGING,
        num_replicas=1,
        max_ongoing_requests=INGRESS_REQUESTS,
        graceful_shutdown_timeout_s=plan.drain_s if plan.proxied else 10.0,
        ray_actor_options={"num_cpus": 0},
    )


def _why_not(serve: Any) -> str:
    """Why a deployment failed, in one line."""
    with contextlib.suppress(Exception):
        for deployment in serve.status().applications[APPLICATION].deployments.values():
            lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
            errors = [line for line in lines if "Error" in line or "Refus" in line]
            if errors:
                return errors[-1][:300]
    return ""


@contextlib.contextmanager
def running(plan: Plan, address: str | None) -> Iterator[Any]:
    """The module `ray`, connected, with the plan deployed while the block runs.

    address: of a cluster; None: a Ray of our own, which ends with the block, and all sessions with
    it. On a cluster the application is deleted: its sessions may end first, for `drain_s`. Raises
    EnvironmentFault where the cluster lacks what a replica needs.
    """
    cores = round(plan.replicas[1] * plan.cpus) + CPUS_OF_RAY
    with cluster(address, cores if address is None else None) as ray:
        check_resources(nodes_resources(ray), "a replica", plan.cpus, plan.gpus)
        from ray import serve

        try:
            deploy(ray, plan)
            yield ray
        finally:
            if address is not None:
                with contextlib.suppress(Exception):
                    serve.delete(APPLICATION, _blocking=False)


def serve_sessions(plan: Plan, address: str | None, ready: Any) -> None:
    """Serve until Ctrl-C or SIGTERM. ready: called when sessions can be placed."""
    stop = threading.Event()
    with running(plan, address):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        ready()
        while not stop.wait(0.5):
            pass
        console.info("ending ...")
