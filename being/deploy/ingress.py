"""The application that clients ask for a place: `POST sessions`, the page, and the proxy.

    POST sessions          {"session": ID} or nothing -> 201 {"session", "url", "replica"}
    GET sessions           free slots by replica
    DELETE sessions/ID     ends a session
    GET info, health       as of a live server
    WebSocket session      in proxy mode: passed on to the replica that the ticket names

It knows HTTP; `Placer` knows Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import being
from being.api.http_headers import add_headers
from being.api.limits import Access, Limits
from being.api.messages import PROTOCOL, error_message
from being.api.server import HEADERS, PAGE
from being.api.tickets import SESSION, VALID_S, Ticket, read_ticket
from being.deploy.board import Report
from being.deploy.plan import Plan
from being.reading.content import Unreadable
from being.reading.structured import parse_json
from being.session.refusals import Refusal

BODY_MAX = 4096  # bytes of a request for a place
RETRY_AFTER_S = 5
ID_BYTES = 12
STATUS = {"wrong_token": 401, "wrong_origin": 403, "bad_message": 400, "full": 429}
OPEN_S = 10.0  # for the connection to a replica
# Close codes that may not be sent: what they mean is said by 1011.
UNSENDABLE = {1005, 1006, 1015}


@dataclass(frozen=True)
class Placed:
    """A place that a replica holds for a session."""

    replica: str
    address: str  # HOST:PORT of the replica's live server
    near: bool = False  # it is on this machine: clients reach it by the name that they used


class Placer(Protocol):
    """Finds places for sessions."""

    async def place(self, session: str) -> Placed:
        """A place for a session. Raises Refusal where there is none."""

    async def reports(self) -> Sequence[Report]:
        """What the replicas report."""

    async def end(self, session: str) -> bool:
        """End a session; whether it runs."""


def create_ingress(
    plan: Plan, make_placer: Callable[[], Placer], page: Path = PAGE, clock: Any = time.time
) -> FastAPI:
    """The application. make_placer: called at the first request. clock: the time of day, s."""
    app = FastAPI(title="being", version=being.__version__, docs_url=None, redoc_url=None)
    access = Access(plan.serve.token, frozenset(plan.serve.origins))
    key = bytes.fromhex(plan.key)
    found: list[Placer] = []

    def placer() -> Placer:
        if not found:
            found.append(make_placer())
        return found[0]

    add_headers(app, HEADERS)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        status = STATUS.get(refusal.name, 503)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
        return JSONResponse(error_message(refusal, None), status_code=status, headers=headers)

    @app.post("/sessions", status_code=201)
    async def place(request: Request) -> JSONResponse:
        """A place for a new session, or again for the one whose id is given."""
        _check(access, request)
        session = await _wanted_session(request) or secrets.token_urlsafe(ID_BYTES)
        placed = await placer().place(session)
        ticket = Ticket(session, placed.address, clock() + VALID_S).sign(key)
        answer = {
            "session": session,
            "replica": placed.replica,
            "url": _media_address(plan, placed, request, ticket),
            "valid_s": VALID_S,
        }
        return JSONResponse(answer, status_code=201)

    @app.get("/sessions")
    async def sessions(request: Request) -> dict[str, Any]:
        """Free slots by replica."""
        _check(access, request)
        reports = [report.facts() for report in await placer().reports()]
        return {"replicas": reports, "free": sum(report["free"] for report in reports)}

    @app.delete("/sessions/{session}")
    async def end(session: str, request: Request) -> JSONResponse:
        """End a session."""
        _check(access, request)
        if not SESSION.fullmatch(session) or not await placer().end(session):
            return JSONResponse({"ended": False}, status_code=404)
        return JSONResponse({"ended": True}, status_code=202)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """What a client must know before it asks for a place."""
        limits = Limits()
        return {
            "protocol": PROTOCOL,
            "version": being.__version__,
            "avatars": list(plan.serve.avatars),
            "token_needed": access.token is not None,
            "placement": True,
            "limits": {
                "text_characters": limits.text_characters,
                "message_bytes": limits.message_bytes,
                "audio_seconds": limits.audio_seconds,
            },
            "ai_generated": True,
        }

    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether a replica serves."""
        reports = await placer().reports()
        body = {
            "ok": bool(reports),
            "sessions": sum(len(report.sessions) for report in reports),
            "limit": sum(report.limit for report in reports if not report.draining),
        }
        return JSONResponse(body, status_code=200 if reports else 503)

    if plan.proxied:

        @app.websocket("/session")
        async def session(socket: WebSocket) -> None:
            await pass_on(socket, key, plan.secure, clock)

    if (page / "index.html").is_file():
        app.mount("/", StaticFiles(directory=page, html=True), name="page")
    return app


def _check(access: Access, request: Request) -> None:
    """Raise Refusal for a page of another host, or a wrong token."""
    hosts = [request.headers[n] for n in ("host", "x-forwarded-host") if n in request.headers]
    access.check_origin(request.headers.get("origin"), hosts)
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = request.query_params.get("token")
    access.check_token(bearer.strip() if scheme.lower() == "bearer" else given)


async def _wanted_session(request: Request) -> str | None:
    """The id of the session that goes on, if one is named. Raises Refusal."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_MAX:
            raise _bad_body(f"it has more than {BODY_MAX} bytes")
    if not content.strip():
        return None
    try:
        body = parse_json(content.decode("utf-8"))
    except (Unreadable, UnicodeDecodeError) as error:
        raise _bad_body(str(error)) from error
    if not isinstance(body, dict) or set(body) - {"session"}:
        raise _bad_body("it is no object with the one field `session`")
    session = body.get("session")
    if session is None:
        return None
    if not isinstance(session, str) or not SESSION.fullmatch(session):
        raise _bad_body("`session` is no id of a session")
    return session


def _bad_body(why: str) -> Refusal:
    return Refusal(
        "bad_message", "the request for a place cannot be used", why, 'Send {"session": ID} or {}'
    )


def _media_address(plan: Plan, placed: Placed, request: Request, ticket: str) -> str:
    """The address of the WebSocket; in proxy mode relative to the one of `sessions`."""
    query = f"session?token={quote(ticket)}"
    if plan.proxied:
        return query
    scheme = "wss" if plan.secure else "ws"
    host, _, port = placed.address.rpartition(":")
    if placed.near:
        used = urlsplit(f"//{request.headers.get('host', '')}").hostname or host
        host = f"[{used}]" if ":" in used else used
    return f"{scheme}://{host}:{port}/{query}"


async def pass_on(socket: WebSocket, key: bytes, secure: bool, clock: Callable[[], float]) -> None:
    """Pass a WebSocket on to the replica that its ticket names, both ways, until either ends."""
    await socket.accept()
    text = socket.query_params.get("token")
    try:
        ticket = read_ticket(text, key, clock())
    except Refusal as refusal:
        with contextlib.suppress(Exception):
            await socket.send_json(error_message(refusal, None))
            await socket.close(refusal.close, refusal.name)
        return
    # The certificate is that of the outer name; this hop stays between our own machines.
    trust = {"ssl": _unchecked_tls()} if secure else {}
    address = f"{'wss' if secure else 'ws'}://{ticket.address}/session?token={quote(text or '')}"
    try:
        replica = await connect(
            address, compression=None, max_size=None, open_timeout=OPEN_S, proxy=None, **trust
        )
    except (OSError, TimeoutError, InvalidHandshake):
        with contextlib.suppress(Exception):
            await socket.close(1012, "the replica has gone")
        return
    async with replica:
        up = asyncio.create_task(_upward(socket, replica))
        down = asyncio.create_task(_downward(replica, socket))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
    code = replica.close_code or 1011
    with contextlib.suppress(Exception):
        await socket.close(1011 if code in UNSENDABLE else code, replica.close_reason or "")


async def _upward(socket: WebSocket, replica: ClientConnection) -> None:
    """From the client to the replica."""
    with contextlib.suppress(ConnectionClosed):
        while (message := await socket.receive())["type"] == "websocket.receive":
            content = message.get("bytes")
            await replica.send(content if content is not None else message["text"])


async def _downward(replica: ClientConnection, socket: WebSocket) -> None:
    """From the replica to the client."""
    async for content in replica:
        if isinstance(content, bytes):
            await socket.send_bytes(content)
        else:
            await socket.send_text(content)


def _unchecked_tls() -> Any:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
