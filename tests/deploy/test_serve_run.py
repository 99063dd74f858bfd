"""The placer and the deployments, with a Serve that is none."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from program import refused

from being.api.supervisor import ServeOptions
from being.deploy import serve_run
from being.deploy.board import Board, Report
from being.deploy.plan import Plan
from being.deploy.serve_run import RayPlacer
from being.session.refusals import Refusal


class FakeRayError(Exception):
    """In place of Ray's errors."""


class FakeBoard:
    """A board whose methods are called as those of an actor."""

    def __init__(self, *reports: Report):
        self.board = Board(lambda: 0.0)
        for report in reports:
            self.board.report(report)

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            return getattr(self.board, name)(*arguments)

        return SimpleNamespace(remote=call)


class FakeRequest:
    """One call of `hold`. script: answers and errors, in order; then it lasts."""

    def __init__(self, script: list[Any]):
        self.script, self.cancelled = script, False
        self.lasts = asyncio.Event()

    def __aiter__(self) -> FakeRequest:
        return self

    async def __anext__(self) -> Any:
        if not self.script:
            await self.lasts.wait()
            raise StopAsyncIteration
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def cancel(self) -> None:
        self.cancelled = True


def placer(board: FakeBoard, requests: list[FakeRequest]) -> RayPlacer:
    """A placer whose calls of `hold` are `requests`, in order."""
    made = RayPlacer.__new__(RayPlacer)
    made._ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=FakeRayError))
    calls = iter(requests)
    made._hold = SimpleNamespace(remote=lambda session: next(calls))
    made._board, made._node, made._kept = board, "here", set()
    return made


PLACE = {"replica": "one", "address": "10.0.0.1:9", "node": "here"}


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_run, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(serve_run, "PLACE_S", 0.3)
    monkeypatch.setattr(serve_run, "RETRY_S", 0.01)


def test_a_request_lasts_as_long_as_its_session() -> None:
    async def work() -> None:
        request = FakeRequest([PLACE])
        made = placer(FakeBoard(), [request])
        placed = await made.place("a")
        assert (placed.replica, placed.address, placed.near) == ("one", "10.0.0.1:9", True)
        await asyncio.sleep(0.01)
        assert len(made._kept) == 1 and not request.cancelled
        request.lasts.set()
        await asyncio.sleep(0.01)
        assert not made._kept

    run(work)


def test_a_replica_that_dies_or_is_silent_is_asked_no_further() -> None:
    async def work() -> None:
        silent = FakeRequest([])
        requests = [FakeRequest([FakeRayError("died")]), silent, FakeRequest([PLACE])]
        placed = await placer(FakeBoard(), requests).place("a")
        assert placed.replica == "one" and silent.cancelled

    run(work)


def test_full_replicas_are_not_asked_at_all() -> None:
    async def work() -> None:
        board = FakeBoard(Report("one", "10.0.0.1:9", "here", 2, ("x", "y")))
        with pytest.raises(Refusal, match="2 of 2 sessions") as refusal:
            await placer(board, []).place("a")
        assert refusal.value.name == "full"
        # A session that has a place there may have it again.
        assert (await placer(board, [FakeRequest([PLACE])]).place("x")).replica == "one"

    run(work)


def test_where_nobody_answers_the_client_is_told_in_time() -> None:
    async def work() -> None:
        with pytest.raises(Refusal) as refusal:
            await placer(FakeBoard(), [FakeRequest([]) for _ in range(99)]).place("a")
        assert refusal.value.name == "full"

    run(work)


def test_a_replica_that_is_full_says_so() -> None:
    async def work() -> None:
        with pytest.raises(Refusal) as refusal:
            await placer(FakeBoard(), [FakeRequest([{"refused": "3 of 3"}])]).place("a")
        assert refusal.value.name == "full"

    run(work)


def test_replicas_come_and_go_by_their_sessions() -> None:
    made: dict[str, Any] = {}
    deployment = SimpleNamespace(options=lambda **settings: made.update(settings))
    serve = SimpleNamespace(deployment=lambda cls: deployment)
    plan = Plan(ServeOptions({}, limit=50), "ab", (1, 4), cpus=2, gpus=1, drain_s=90)
    serve_run._replica(serve, plan)
    scaling = made["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert scaling["target_ongoing_requests"] == 40
    assert made["max_ongoing_requests"] == 50 and made["graceful_shutdown_timeout_s"] == 90
    assert made["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 1}
    made.clear()
    serve_run._replica(serve, Plan(ServeOptions({}, limit=50), "ab", (2, 2)))
    assert made["num_replicas"] == 2 and "autoscaling_config" not in made


def test_the_command_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(2, "--replicas, --address and --proxy need --ray", "serve", "--replicas", "2")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "ray" else find(n))
    refused(3, r"Ray is not installed.*being\[ray\]", "serve", "--ray", "--max-sessions", "4")
    monkeypatch.setattr("being.deploy.ray_cluster.check_ray", lambda: None)
    refused(2, "--ray needs --max-sessions", "serve", "--ray")
    cluster = ["--max-sessions", "4", "--address", "10.0.0.5:6379"]
    refused(2, "cannot be reached from other machines", "serve", "--ray", *cluster)
