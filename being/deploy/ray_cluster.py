"""The door to Ray: starts it on this machine, or joins a cluster; says what a cluster lacks.

A Ray that is started here listens on the loopback address only, wants a random token from whoever
connects, has no dashboard, and reports no usage.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from being.console import console
from being.errors import EnvironmentFault
from being.reading.content import reason
from being.threads import allowed_cores

# Set before Ray is imported: no reports of usage, and nothing of its own on stdout, which may carry
# our JSON (a worker that was killed, for instance).
ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}
# For a Ray of our own: all its ports on the loopback address, as Ray has them on other systems; a
# token; time to start on a busy machine.
LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
START_ATTEMPTS = 3  # Ray gives a process 30 s to start
SETTINGS: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_BYTES = 32
NAMESPACE = "being"
OF_THIS_MACHINE = ("BEING_HOME", "BEING_CACHE")
LOGS = "Look at its logs in /tmp/ray/session_latest/logs"


def check_ray() -> None:
    """Raise EnvironmentFault where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise EnvironmentFault(
            "Ray is not installed", "this command needs it", "pip install 'being[ray]'"
        )


@contextlib.contextmanager
def cluster(address: str | None, cores: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected while the block runs.

    address: HOST:PORT of a cluster, or "auto" for the one of this machine; None: a Ray of our own,
    which ends with the block. cores: of our own Ray (default: all that this process may use).
    Raises EnvironmentFault where Ray is not installed or no cluster answers.
    """
    check_ray()
    os.environ.update(ALWAYS)
    if address is None:
        _close_own_ray()
    import ray

    if address is None:
        console.info("starting Ray ...")
        _start(ray, cores or allowed_cores())
    else:
        console.info(f"joining the cluster at {address} ...")
        try:
            ray.init(address, **SETTINGS)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            raise EnvironmentFault(
                f"no Ray cluster is at {address}",
                reason(error),
                "Leave --address out, or start one there: ray start --head",
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, cores: int) -> None:
    """Start a Ray of our own. Raises EnvironmentFault."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init("local", num_cpus=cores, include_dashboard=False, **SETTINGS)
            return
        except Exception as error:  # Ray raises a plain one where a process is too slow
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                raise EnvironmentFault("Ray cannot start here", reason(error), LOGS) from error
            console.info("Ray did not start in time: trying again ...")


def _close_own_ray() -> None:
    """Have a Ray that this process starts listen on the loopback address, and want a token.

    Raises EnvironmentFault where Ray has been imported without: it reads this once.
    """
    if all(os.environ.get(name) == value for name, value in LOCAL.items()):
        return
    if "ray" in sys.modules:
        raise EnvironmentFault(
            "Ray was imported before its ports were closed",
            "it would listen on all addresses, for everybody",
            "Let being import it, or name a cluster that runs",
        )
    os.environ.update(LOCAL)
    os.environ[TOKEN] = secrets.token_hex(TOKEN_BYTES)


def own_environment() -> dict[str, str]:
    """What this program's environment variables say, for its processes on other machines."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("BEING_") and name not in OF_THIS_MACHINE
    }


def nodes_resources(ray: Any) -> list[dict[str, float]]:
    """The resources of each machine of the cluster, used or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_resources(nodes: list[dict[str, float]], name: str, cpus: float, gpus: float) -> None:
    """Raise EnvironmentFault where no machine has what `name` asks for."""
    most_gpus = max((node.get("GPU", 0) for node in nodes), default=0)
    if gpus > most_gpus:
        lack = (
            "no machine of the cluster has one" if not most_gpus else f"a machine has {most_gpus:g}"
        )
        raise EnvironmentFault(
            f"{name} asks for {gpus:g} GPU{'s' * (gpus != 1)}",
            lack,
            "Nothing was begun; ask for fewer, or name a cluster with GPUs: --address HOST:PORT",
        )
    fitting = [node for node in nodes if node.get("GPU", 0) >= gpus]
    most_cpus = max((node.get("CPU", 0) for node in fitting), default=0)
    if cpus > most_cpus:
        raise EnvironmentFault(
            f"{name} asks for {cpus:g} CPUs",
            f"a machine has {most_cpus:g}",
            "Nothing was begun; ask for fewer",
        )
