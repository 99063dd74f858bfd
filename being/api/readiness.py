"""Whether this machine can serve: the packages of the server, and its port."""

from __future__ import annotations

import importlib.util
import socket

PACKAGES = ("fastapi", "uvicorn", "websockets", "prometheus_client", "cryptography", "httpx")


def missing_packages() -> list[str]:
    """The packages of the server that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def port_status(host: str, port: int) -> str:
    """ "OK", or why a server cannot listen there."""
    try:
        bound_socket(host, port).close()
    except OSError as error:
        return error.strerror or str(error)
    return "OK"


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to the address, which does not listen. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made
