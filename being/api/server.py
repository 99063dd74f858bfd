"""The application: page, WebSocket, health and metrics. It knows HTTP; the session does not."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketState
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

import being
from being.api.connection import Connection
from being.api.front import Front
from being.api.http_headers import add_headers
from being.api.messages import PROTOCOL, error_message
from being.api.metrics import Metrics
from being.api.web_avatars import WebAvatars
from being.api.webrtc import OFFER_MAX, Offer, open_peer
from being.session.refusals import Refusal

PAGE = Path(__file__).parent / "page"
PROTOCOL_OBJECT = "being.protocol"  # in the state of a WebSocket's scope
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cache-Control": "no-cache",
}
# The body of a request for WebRTC, for the description of the HTTP side.
OFFER = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": Offer.model_json_schema()}},
    }
}
NO_PAGE = "The page is not installed. The session is at ./session, see docs/protocol.md.\n"


class LiveWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket with a short way for the messages of a session.

    Messages go to the session at once, without a queue and without pauses of reading: a session
    takes each of them in well under a millisecond, or throws it away. What the session sends at
    one moment is written at once. And the session can abort: a client that does not read would
    otherwise keep its connection until TCP gives up.
    """

    take: Callable[[bytes | str], None] | None = None  # gets the messages
    refill: Callable[[], None] | None = None  # called when more can be written

    async def run_asgi(self) -> None:
        """Run the application with this protocol in its scope."""
        self.scope["state"][PROTOCOL_OBJECT] = self
        await super().run_asgi()

    def listen(self, take: Callable[[bytes | str], None], refill: Callable[[], None]) -> None:
        """Give all messages from here on, and those that wait, to `take`."""
        waiting = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        self.take, self.refill = take, refill
        for event in waiting:
            if event["type"] == "websocket.receive":
                content = event.get("bytes")
                take(content if content is not None else str(event.get("text")))
            else:
                self.queue.put_nowait(event)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        """Hand a message on."""
        if self.take is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        content = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        if self.curr_msg_data_type == "bytes":
            self.frames = []
            self.take(bytes(content))
            return
        try:
            text = bytes(content).decode()
        except UnicodeDecodeError:
            super().send_receive_event_to_app()  # it closes the connection
            return
        self.frames = []
        self.take(text)

    def write(self, contents: Sequence[bytes | str]) -> None:
        """Send messages; nothing where the connection is closed or being closed."""
        if self.disconnected or self.close_sent or self.transport.is_closing():
            return
        with contextlib.suppress(InvalidState):
            for content in contents:
                if isinstance(content, bytes):
                    self.conn.send_binary(content)
                else:
                    self.conn.send_text(content.encode())
        self.transport.write(b"".join(self.conn.data_to_send()))

    def resume_writing(self) -> None:
        """The client has read: more can be written."""
        super().resume_writing()
        if self.refill is not None:
            self.refill()

    def keepalive_timeout(self) -> None:
        """End the connection of a client that does not answer."""
        super().keepalive_timeout()
        self.transport.abort()


class LiveSocket:
    """A WebSocket of FastAPI on a `LiveWebSocketProtocol`. Implements `connection.Socket`."""

    def __init__(self, socket: WebSocket):
        self._socket = socket
        self._protocol: LiveWebSocketProtocol = socket.scope["state"][PROTOCOL_OBJECT]

    async def receive(self) -> bytes | str | None:
        """See `Socket.receive`."""
        message = await self._socket.receive()
        if message["type"] != "websocket.receive":
            return None
        content = message.get("bytes")
        return content if content is not None else str(message.get("text"))

    def listen(self, take: Callable[[bytes | str], None], refill: Callable[[], None]) -> None:
        """See `Socket.listen`."""
        self._protocol.listen(take, refill)

    @property
    def writable(self) -> bool:
        """See `Socket.writable`."""
        return self._protocol.writable.is_set()

    def write(self, contents: Sequence[bytes | str]) -> None:
        """See `Socket.write`."""
        self._protocol.write(contents)

    async def close(self, code: int, reason: str) -> None:
        """See `Socket.close`."""
        try:
            # To a client that has gone nothing can be said.
            if self._socket.client_state is WebSocketState.CONNECTED:
                await self._socket.close(code, reason[:100])
        finally:
            # So the session is freed now, and not when cycles are collected.
            self._protocol.take = self._protocol.refill = None

    def abort(self) -> None:
        """See `Socket.abort`."""
        self._protocol.transport.abort()


def create_app(
    load_front: Callable[[], Front], page: Path = PAGE, web: WebAvatars | None = None
) -> FastAPI:
    """The application. load_front: makes the front, in the loop that serves it. web: what clients
    load that draw.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        front = app.state.front = load_front()
        task = asyncio.create_task(front.run())
        try:
            yield
        finally:
            task.cancel()
            front.close()

    app = FastAPI(
        title="being", version=being.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )

    add_headers(app, HEADERS)

    @app.get("/info")
    def info() -> dict[str, Any]:
        """The protocol, the avatars and the limits of this server."""
        front: Front = app.state.front
        return {
            "protocol": PROTOCOL,
            "version": being.__version__,
            "avatars": front.avatars,
            "backgrounds": {name: front.looks(name) for name in front.avatars},
            "token_needed": front.access.token is not None,
            "limits": {
                "text_characters": front.limits.text_characters,
                "message_bytes": front.limits.message_bytes,
                "audio_seconds": front.limits.audio_seconds,
            },
            "ai_generated": True,
        }

    @app.get("/health", responses={503: {"description": "No render process runs."}})
    def health() -> JSONResponse:
        """Whether sessions can be served."""
        front: Front = app.state.front
        ok = front.renderer.connected
        renderer = front.renderer
        body = {
            "ok": ok,
            "sessions": renderer.sessions,
            "limit": renderer.limit,
            "drawn_sessions": renderer.drawn_sessions,
            "drawn_limit": renderer.drawn_limit,
        }
        return JSONResponse(body, status_code=200 if ok else 503)

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """The counters of all front processes, for Prometheus."""
        found: Metrics = app.state.front.metrics
        return Response(found.text(), media_type="text/plain; version=0.0.4")

    @app.post("/webrtc", responses={400: {}, 403: {}, 404: {}}, openapi_extra=OFFER)
    async def webrtc(request: Request) -> JSONResponse:
        """The answer to an offer of WebRTC, which opens a session."""
        return await answer_offer(app.state.front, request)

    @app.websocket("/session")
    async def session(socket: WebSocket) -> None:
        await serve_session(app.state.front, socket)

    (web or WebAvatars()).serve(app)

    if (page / "index.html").is_file():
        app.mount("/", StaticFiles(directory=page, html=True), name="page")
    else:

        @app.get("/", response_class=Response)
        def no_page() -> Response:
            """A note in place of the page."""
            return Response(NO_PAGE, media_type="text/plain")

    return app


async def answer_offer(front: Front, request: Request) -> JSONResponse:
    """The answer to an offer, or the error in its place."""
    if importlib.util.find_spec("aiortc") is None:
        refusal = Refusal(
            "no_webrtc",
            "this server has no WebRTC",
            "the package aiortc is not installed",
            "pip install 'being[webrtc]', or use the WebSocket",
        )
        return JSONResponse(error_message(refusal, None), status_code=404)
    hosts = [request.headers[n] for n in ("host", "x-forwarded-host") if n in request.headers]
    token = request.query_params.get("token")
    try:
        front.access.check_origin(request.headers.get("origin"), hosts)
        front.access.check_token(token)
    except Refusal as refusal:
        front.metrics.refused.labels(refusal.name).inc()
        return JSONResponse(error_message(refusal, None), status_code=403)
    content = b""
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > OFFER_MAX:
                break
    except ClientDisconnect:
        return JSONResponse(None, status_code=400)  # nobody reads it
    try:
        address = request.client.host if request.client else ""
        answer = await open_peer(front, content, address, token)
    except Refusal as refusal:
        return JSONResponse(error_message(refusal, None), status_code=400)
    return JSONResponse({"type": "answer", "sdp": answer})


async def serve_session(front: Front, socket: WebSocket) -> None:
    """One session; a client that may not connect is told why before it is closed."""
    await socket.accept()
    headers = socket.headers
    hosts = [headers[name] for name in ("host", "x-forwarded-host") if name in headers]
    try:
        front.access.check_origin(headers.get("origin"), hosts)
        token = socket.query_params.get("token")
        if token is not None:
            front.access.check_token(token)
    except Refusal as refusal:
        front.metrics.refused.labels(refusal.name).inc()
        with contextlib.suppress(Exception):
            await socket.send_json(error_message(refusal, None))
            await socket.close(refusal.close, refusal.name)
        return
    address = socket.client.host if socket.client else ""
    await Connection(front, LiveSocket(socket), address, token).run()
