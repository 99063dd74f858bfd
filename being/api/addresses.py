"""The addresses that `being serve` prints: where the page is, and how to reach it securely."""

from __future__ import annotations

import getpass
import socket
from urllib.parse import quote

from being.api.limits import is_loopback

ELSEWHERE = "192.0.2.1"  # an address for documentation (RFC 5737)
ANY_ADDRESS = ("0.0.0.0", "::", "")


def page_address(scheme: str, host: str, port: int, token: str | None) -> str:
    """The address of the page; the token is part of it."""
    shown = f"[{host}]" if ":" in host else host
    query = f"?token={quote(token)}" if token else ""
    return f"{scheme}://{shown}:{port}/{query}"


def own_name(host: str) -> str:
    """The name or address under which other machines reach a server that listens on `host`."""
    if host not in ANY_ADDRESS:
        return host
    name = socket.getfqdn()
    if not is_loopback(name):
        return name
    # The address that packets to another network would leave from; nothing is sent.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def address_lines(host: str, port: int, token: str | None, secure: bool) -> list[str]:
    """What to type to reach the page: one line each.

    Over plain HTTP from another machine a browser gives no microphone, no WebCodecs and no
    AudioWorklet. So these lines name the ways to a secure page.
    """
    scheme = "https" if secure else "http"
    local = is_loopback(host)
    lines = []
    if local or host in ANY_ADDRESS:
        lines.append(f"page      {page_address(scheme, 'localhost', port, token)}")
    if not local:
        lines.append(f"network   {page_address(scheme, own_name(host), port, token)}")
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "USER"
    machine = socket.gethostname()
    lines.append(f"ssh       ssh -L {port}:localhost:{port} {user}@{machine}")
    lines.append(f"          then open {page_address(scheme, 'localhost', port, token)}")
    if not secure:
        lines.append(
            f"proxy     https://NAME/PATH/ -> http://localhost:{port}/ (with WebSockets; "
            "NAME goes to --allow-origin if the proxy changes the header Host)"
        )
    return lines
