"""Client of a chat endpoint: messages in, the reply as a stream of text and calls of tools out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from being.conversation.endpoints import (
    ANSWER_MAX,
    Endpoint,
    EndpointFault,
    nonsense,
    parse_object,
    refused,
    unreachable,
)

TOOL_CALLS_MAX = 16  # of one reply
ARGUMENTS_MAX = 1 << 16  # characters of the arguments of one call
PATH = "chat/completions"


@dataclass
class ToolCall:
    """A call of a tool that the reply asks for."""

    id: str = ""
    name: str = ""
    arguments: str = ""  # JSON, as the endpoint wrote it


@dataclass(frozen=True)
class ReplyPart:
    """A piece of a reply."""

    text: str = ""
    calls: Sequence[ToolCall] = field(default_factory=tuple)  # complete, in the last piece


class ChatClient:
    """Asks one endpoint."""

    def __init__(self, endpoint: Endpoint, http: httpx.AsyncClient):
        self.endpoint, self.http = endpoint, http

    async def reply(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> AsyncIterator[ReplyPart]:
        """The pieces of the reply, as they come.

        messages, tools: as the interface names them. Raises EndpointFault, also after some pieces.
        """
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": list(messages),
            "stream": True,
        }
        if tools:
            body["tools"] = list(tools)
        try:
            async with self.http.stream(
                "POST", self.endpoint.url, json=body, headers=self.endpoint.headers
            ) as answer:
                if answer.status_code != 200:
                    raise refused(self.endpoint, answer.status_code, await _beginning(answer))
                async for part in self._parts(answer):
                    yield part
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> EndpointFault:
        if isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError)):
            return _broken_off(self.endpoint, str(error))
        return unreachable(self.endpoint, error)

    async def _parts(self, answer: httpx.Response) -> AsyncIterator[ReplyPart]:
        """The pieces of a stream of events. One without its end has broken off."""
        calls: list[ToolCall] = []
        finished = False
        async for line in _lines(self.endpoint, answer):
            if not line.startswith("data:"):
                _check_line(self.endpoint, line)
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                finished = True
                break
            event = parse_object(self.endpoint, data)
            text, ended = _read_event(self.endpoint, event, calls)
            finished = finished or ended
            if text:
                yield ReplyPart(text)
        if not finished:
            raise _broken_off(self.endpoint, "the stream ended without its last event")
        if calls:
            yield ReplyPart(calls=calls)


def _read_event(
    endpoint: Endpoint, event: Mapping[str, Any], calls: list[ToolCall]
) -> tuple[str, bool]:
    """The text of an event, and whether it is the last one. Calls of tools are collected."""
    if "error" in event:
        raise refused(endpoint, 200, str(event["error"]).encode("utf-8", "replace"))
    choices = event.get("choices")
    if not isinstance(choices, list):
        raise nonsense(endpoint, "an event without `choices`")
    if not choices or not isinstance(choices[0], dict):
        return "", False  # the event that counts tokens
    delta = choices[0].get("delta") or {}
    if not isinstance(delta, dict):
        raise nonsense(endpoint, "a `delta` that is no object")
    text = delta.get("content") or ""
    if not isinstance(text, str):
        raise nonsense(endpoint, "a `content` that is no text")
    for piece in delta.get("tool_calls") or ():
        _add_call(endpoint, calls, piece)
    return text.encode("utf-8", "replace").decode(), choices[0].get("finish_reason") is not None


def _add_call(endpoint: Endpoint, calls: list[ToolCall], piece: Any) -> None:
    """Add a piece of a call of a tool."""
    function = piece.get("function") if isinstance(piece, dict) else None
    index = piece.get("index", len(calls)) if isinstance(piece, dict) else None
    if not isinstance(function, dict) or not isinstance(index, int):
        raise nonsense(endpoint, "a call of a tool without `function`")
    if not 0 <= index <= len(calls) or index >= TOOL_CALLS_MAX:
        raise nonsense(endpoint, f"a call of a tool with the number {index}")
    if index == len(calls):
        calls.append(ToolCall())
    call = calls[index]
    for name, value in (
        ("id", piece.get("id")),
        ("name", function.get("name")),
        ("arguments", function.get("arguments")),
    ):
        if isinstance(value, str):
            setattr(call, name, getattr(call, name) + value)
    if len(call.arguments) > ARGUMENTS_MAX or len(call.name) + len(call.id) > 512:
        raise nonsense(endpoint, "a call of a tool that is too long")


async def _lines(endpoint: Endpoint, answer: httpx.Response) -> AsyncIterator[str]:
    """The lines of an answer that are not empty. A letter that was cut in two is joined first."""
    rest = b""
    async for chunk in answer.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > ANSWER_MAX:
            raise nonsense(endpoint, f"a line of more than {ANSWER_MAX:,} bytes")
        for line in lines:
            if text := line.decode("utf-8", "replace").strip():
                yield text
    if text := rest.decode("utf-8", "replace").strip():
        yield text


def _check_line(endpoint: Endpoint, line: str) -> None:
    """Raise EndpointFault for a line that no stream of events has."""
    if not line.startswith((":", "event:", "id:", "retry:")):
        raise nonsense(endpoint, f"no stream of events but {line[:60]!r}")


async def _beginning(answer: httpx.Response) -> bytes:
    """The beginning of an answer."""
    content = b""
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > 1 << 14:
            break
    return content


def _broken_off(endpoint: Endpoint, why: str) -> EndpointFault:
    return EndpointFault(
        "endpoint_broke_off",
        f"{endpoint.title} broke off",
        f"{endpoint.place}: {why}",
        "Ask again; look into its log",
    )
