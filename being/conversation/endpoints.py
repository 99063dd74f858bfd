"""Endpoints of others with OpenAI's interface: addresses, keys, and what can go wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from being.console import printable
from being.errors import BeingError, UsageError
from being.reading.content import Unreadable
from being.reading.structured import parse_json

CONNECT_S = 5.0
ANSWER_MAX = 1 << 20  # bytes of an answer, or of one line of a stream
QUOTED = 200  # characters of an answer in a message


class EndpointFault(BeingError):
    """An endpoint does not do what was asked of it. `name`: its code in docs/protocol.md."""

    def __init__(self, name: str, what: str, why: str = "", fix: str = ""):
        super().__init__(what, why, fix)
        self.name = name


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. The key is never printed: it is no part of the text of this object."""

    title: str  # in messages: "the chat endpoint"
    url: str  # with its path
    model: str
    key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def place(self) -> str:
        """Host and path, for messages: without user, password and query."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def endpoint(title: str, url: str, path: str, model: str, key_variable: str) -> Endpoint:
    """The endpoint at `url`, a base such as http://localhost:11434/v1, or the whole address.

    path: what the address ends with, such as "chat/completions". key_variable: the environment
    variable that holds the key, if there is one. Raises UsageError.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(not 32 < ord(letter) < 127 for letter in url):
        raise UsageError(
            f"{url[:QUOTED]!r} is no address of {title}",
            "it begins with http:// or https:// and has a host",
            "For instance http://localhost:11434/v1",
        )
    url = url.rstrip("/")
    if not url.endswith(f"/{path}"):
        url = f"{url}/{path}"
    key = os.environ.get(key_variable, "").strip() or None
    if key is not None and not key.isascii():
        raise UsageError(f"the key in {key_variable} has characters that no key has")
    return Endpoint(title, url, model, key)


def new_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for endpoints. It follows no redirects, which would carry the key elsewhere.

    Its user limits the time of whole answers; the client limits that of connecting only.
    """
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    return httpx.AsyncClient(timeout=timeout, follow_redirects=False, transport=transport)


async def greet(endpoint: Endpoint, http: httpx.AsyncClient) -> EndpointFault | None:
    """Open a connection to the endpoint; the fault where that cannot be done.

    Any answer will do: not every endpoint lists its models.
    """
    base = endpoint.url.rsplit("/v1/", 1)[0]
    try:
        await http.get(f"{base}/v1/models", headers=endpoint.headers, timeout=CONNECT_S)
    except httpx.TimeoutException:
        return None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return unreachable(endpoint, error)
    return None


def unreachable(endpoint: Endpoint, error: Exception) -> EndpointFault:
    """The fault of a request that failed on its way."""
    return EndpointFault(
        "endpoint_unreachable",
        f"{endpoint.title} cannot be reached",
        f"{endpoint.place}: {str(error) or type(error).__name__}",
        "Start it, or check its address",
    )


def refused(endpoint: Endpoint, status: int, body: bytes) -> EndpointFault:
    """The fault of an answer with another status than 200."""
    fixes = {
        401: "Check the key (its environment variable is named in being serve --help)",
        403: "Check the key (its environment variable is named in being serve --help)",
        404: "Check the address and the name of the model",
        429: "Wait, or choose another endpoint",
    }
    return EndpointFault(
        "endpoint_refused",
        f"{endpoint.title} refuses",
        f"{endpoint.place} answered {status}{_reason(endpoint, body)}",
        fixes.get(status, "Look into its log"),
    )


def nonsense(endpoint: Endpoint, why: str) -> EndpointFault:
    """The fault of an answer that is not what the interface says."""
    return EndpointFault(
        "endpoint_nonsense",
        f"{endpoint.title} sends what cannot be used",
        f"{endpoint.place}: {why}",
        "Check that its interface is OpenAI's",
    )


def parse_object(endpoint: Endpoint, text: str) -> Mapping[str, Any]:
    """The JSON object of an answer. Raises EndpointFault."""
    try:
        value = parse_json(text)
    except Unreadable as error:
        raise nonsense(endpoint, f"no JSON: {error}"[:QUOTED]) from error
    if not isinstance(value, dict):
        raise nonsense(endpoint, f"no JSON object but {type(value).__name__}")
    return value


def _reason(endpoint: Endpoint, body: bytes) -> str:
    """What an error answer says, short, without the key that some servers repeat."""
    text = body[: 1 << 14].decode("utf-8", "replace")
    try:
        value = parse_json(text)
    except Unreadable:
        value = None
    if isinstance(value, dict):
        error = value.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        text = message if isinstance(message, str) else text
    if endpoint.key:
        text = text.replace(endpoint.key, "(the key)")
    text = printable(" ".join(text.split()), one_line=True)[:QUOTED]
    return f": {text}" if text else ""
