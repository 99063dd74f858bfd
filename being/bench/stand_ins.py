"""Stand-ins for chat, transcription and speech endpoints, on loopback, with stated delays.

Benchmarks measure our own share with them, and tests what happens when they misbehave.
"""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import uvicorn

Send = Callable[[dict[str, Any]], Awaitable[None]]
STALL_S = 60.0


class BreakOff(Exception):
    """Ends an answer without its end."""


@dataclass
class StandIns:
    """The endpoints; use it as a context. Fields may be changed while it runs."""

    transcript: str = "What can you tell me about the trains?"
    reply: str = "Well, that is easy to say. The trains run every ten minutes until midnight."
    transcript_s: float = 0.0  # delay of a transcript
    first_word_s: float = 0.0  # delay of the first piece of a reply
    word_s: float = 0.0  # between pieces
    # "good", "refuses", "fails", "stalls", "stalls_in_reply", "half_word", "breaks_off",
    # "nonsense", "html", "empty", "tools"
    behaviour: str = "good"
    piece: int = 5  # characters
    calls: list[dict[str, str]] = field(default_factory=list)  # of tools: id, name, arguments
    # What was asked: path, headers, body, and when (time.perf_counter)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> StandIns:
        config = uvicorn.Config(
            self.app,
            host="127.0.0.1",
            port=0,
            log_level="critical",
            lifespan="off",
            interface="asgi3",
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the stand-ins could not start")
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    def _serve(self) -> None:
        asyncio.run(self._server._serve())

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(5)

    @property
    def url(self) -> str:
        """The base address of all endpoints."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def app(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        """The ASGI application."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append(
            {"path": path, "headers": headers, "body": body, "at": time.perf_counter()}
        )
        if self.behaviour == "refuses":
            key = headers.get("authorization", "")
            await answer(send, 401, {"error": {"message": f"wrong key {key}"}})
        elif self.behaviour == "fails":
            await answer(send, 500, {"error": "out of memory"})
        elif self.behaviour == "stalls":
            await asyncio.sleep(STALL_S)
        elif path.endswith("/chat/completions"):
            await self._chat(json.loads(body), send)
        elif path.endswith("/audio/transcriptions"):
            await self._transcribe(send)
        elif path.endswith("/audio/speech"):
            await self._speak(json.loads(body), send)
        else:
            await answer(send, 404, {"error": {"message": "no such path"}})

    async def _transcribe(self, send: Send) -> None:
        await asyncio.sleep(self.transcript_s)
        if self.behaviour == "nonsense":
            await answer(send, 200, {"words": []})
        else:
            await answer(send, 200, {"text": self.transcript})

    async def _speak(self, request: dict[str, Any], send: Send) -> None:
        """A tone as long as the text."""
        rate = 22_050
        time_s = np.arange(round(0.05 * len(request["input"]) * rate)) / rate
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(rate)
            writer.writeframes((9000 * np.sin(1400 * time_s)).astype("<i2").tobytes())
        content = b"<html>" if self.behaviour == "html" else file.getvalue()
        await begin(send, 200, "audio/wav")
        await send({"type": "http.response.body", "body": content})

    async def _chat(self, request: dict[str, Any], send: Send) -> None:
        await asyncio.sleep(self.first_word_s)
        await begin(send, 200, "text/event-stream")
        if self.behaviour == "html":
            await send({"type": "http.response.body", "body": b"<html><body>Hello</body></html>"})
            return
        if self.behaviour == "nonsense":
            await send({"type": "http.response.body", "body": b"data: {nonsense\n\n"})
            return
        if self.behaviour == "tools" and request["messages"][-1]["role"] != "tool":
            await self._call_tools(send)
            return
        reply = "" if self.behaviour == "empty" else self.reply
        if self.behaviour in ("half_word", "breaks_off", "stalls_in_reply"):
            reply = reply[: len(reply) * 2 // 3]
        for at in range(0, len(reply), self.piece):
            piece = reply[at : at + self.piece]
            await self._event(send, {"delta": {"content": piece}, "finish_reason": None})
            if self.word_s:
                await asyncio.sleep(self.word_s)
        if self.behaviour == "stalls_in_reply":
            await asyncio.sleep(STALL_S)
        if self.behaviour == "breaks_off":
            raise BreakOff
        if self.behaviour != "half_word":
            await self._event(send, {"delta": {}, "finish_reason": "stop"})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        else:
            await send({"type": "http.response.body", "body": b""})

    async def _call_tools(self, send: Send) -> None:
        """Ask for all calls; the arguments come in two pieces."""
        for number, call in enumerate(self.calls):
            words = call["arguments"]
            first = {"name": call["name"], "arguments": words[:3]}
            piece = {"index": number, "id": call["id"], "type": "function", "function": first}
            rest = {"index": number, "function": {"arguments": words[3:]}}
            await self._event(send, {"delta": {"tool_calls": [piece]}, "finish_reason": None})
            await self._event(send, {"delta": {"tool_calls": [rest]}, "finish_reason": None})
        await self._event(send, {"delta": {}, "finish_reason": "tool_calls"})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _event(self, send: Send, choice: dict[str, Any]) -> None:
        event = json.dumps({"choices": [{"index": 0, **choice}]}, ensure_ascii=False)
        content = f"data: {event}\n\n".encode()
        # In two packets, which may cut a letter.
        half = len(content) // 2
        for packet in (content[:half], content[half:]):
            await send({"type": "http.response.body", "body": packet, "more_body": True})


async def begin(send: Send, status: int, kind: str) -> None:
    """Send the head of an answer."""
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send: Send, status: int, value: Any) -> None:
    """Send a JSON answer."""
    await begin(send, status, "application/json")
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})
