"""The door to Ray, without starting it: what is set before it is imported."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from being.deploy import ray_cluster
from being.errors import EnvironmentFault


class FakeRay(SimpleNamespace):
    """Takes calls of `init` and `shutdown`."""

    def __init__(self, error: Exception | None = None):
        super().__init__()
        self.calls: list[Any] = []
        self.error = error

    def init(self, address: str, **settings: Any) -> None:
        self.calls.append((address, settings))
        if self.error is not None:
            raise self.error

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment variables of this process, in a copy."""
    found: dict[str, str] = {}
    monkeypatch.setattr(ray_cluster.os, "environ", found)
    monkeypatch.setattr(ray_cluster, "check_ray", lambda: None)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    return found


def importing(monkeypatch: pytest.MonkeyPatch, ray: FakeRay) -> None:
    """Make `import ray` give this object, as if it came from the disk."""

    class Finder:
        def find_spec(self, name: str, path: object, target: object = None) -> Any:
            if name != "ray":
                return None
            from importlib.machinery import ModuleSpec

            loader = SimpleNamespace(
                create_module=lambda spec: ray, exec_module=lambda module: None
            )
            return ModuleSpec("ray", loader)  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def test_a_ray_of_our_own_is_closed_to_others_and_tells_nobody(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay()
    importing(monkeypatch, ray)
    with ray_cluster.cluster(None, 3) as found:
        assert found is ray
    address, settings = ray.calls[0]
    assert address == "local" and settings["include_dashboard"] is False
    assert settings["num_cpus"] == 3 and ray.calls[-1] == "shutdown"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"  # loopback alone
    assert environment["RAY_AUTH_MODE"] == "token" and len(environment["RAY_AUTH_TOKEN"]) == 64


def test_a_cluster_is_joined_as_it_is(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay()
    importing(monkeypatch, ray)
    with ray_cluster.cluster("10.0.0.5:6379"):
        pass
    assert ray.calls[0][0] == "10.0.0.5:6379"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "RAY_AUTH_MODE" not in environment and "RAY_AUTH_TOKEN" not in environment


def test_a_cluster_that_does_not_answer_is_one_error(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    importing(monkeypatch, FakeRay(ConnectionError("no route")))
    with pytest.raises(EnvironmentFault, match="no Ray cluster is at 10.0.0.5:1: no route"):
        with ray_cluster.cluster("10.0.0.5:1"):
            pass


def test_a_ray_that_somebody_else_imported_is_not_started_open(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay())  # type: ignore[arg-type]
    with pytest.raises(EnvironmentFault, match="imported before its ports were closed"):
        with ray_cluster.cluster(None):
            pass


def test_a_ray_that_is_slow_to_start_is_tried_again(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay(Exception("The current node timed out during startup."))
    importing(monkeypatch, ray)
    with pytest.raises(EnvironmentFault, match="Ray cannot start here: The current node timed out"):
        with ray_cluster.cluster(None, 1):
            pass
    assert [call for call in ray.calls if call != "shutdown"] == [ray.calls[0]] * 3
