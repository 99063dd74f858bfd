"""Clients of endpoints against local stand-ins: what they send, and every way to misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest

from being.bench.stand_ins import StandIns
from being.conversation import chat_client, transcriber
from being.conversation.chat_client import ChatClient, ReplyPart
from being.conversation.endpoints import EndpointFault, endpoint, new_client
from being.conversation.transcriber import Transcriber
from being.errors import UsageError

MESSAGES = [{"role": "user", "content": "Hello"}]
SECRET = "sk-very-secret"


@pytest.fixture(scope="module")
def running() -> Iterator[StandIns]:
    with StandIns() as started:
        yield started


@pytest.fixture
def stand_ins(running: StandIns, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    fresh = StandIns()
    for name in ("transcript", "reply", "behaviour", "piece", "calls"):
        setattr(running, name, getattr(fresh, name))
    running.requests.clear()
    monkeypatch.setenv("A_KEY", SECRET)
    return running


def reply_of(stand_ins: StandIns, url: str | None = None) -> list[ReplyPart]:
    """All parts of a reply; the parts before a fault are its `parts`."""
    found: list[ReplyPart] = []

    async def ask() -> None:
        async with new_client() as http:
            place = endpoint(
                "the chat endpoint", url or stand_ins.url, chat_client.PATH, "m", "A_KEY"
            )
            async for part in ChatClient(place, http).reply(MESSAGES, []):
                found.append(part)

    try:
        asyncio.run(asyncio.wait_for(ask(), 10))
    except EndpointFault as fault:
        fault.parts = found  # type: ignore[attr-defined]
        raise
    return found


def test_a_reply_comes_in_pieces_and_letters_are_never_cut(stand_ins: StandIns) -> None:
    stand_ins.reply, stand_ins.piece = "Größe: naïve café, 日本。", 4
    parts = reply_of(stand_ins)
    assert len(parts) > 3
    assert "".join(part.text for part in parts) == stand_ins.reply
    (request,) = stand_ins.requests
    assert request["headers"]["authorization"] == f"Bearer {SECRET}"
    body = json.loads(request["body"])
    assert body == {"model": "m", "messages": MESSAGES, "stream": True}


@pytest.mark.parametrize(
    ("behaviour", "name", "said"),
    [
        ("refuses", "endpoint_refused", 0),
        ("fails", "endpoint_refused", 0),
        ("html", "endpoint_nonsense", 0),
        ("nonsense", "endpoint_nonsense", 0),
        ("half_word", "endpoint_broke_off", 40),
        ("breaks_off", "endpoint_broke_off", 40),
    ],
)
def test_what_an_endpoint_may_do_is_one_clear_fault(
    stand_ins: StandIns, behaviour: str, name: str, said: int
) -> None:
    stand_ins.behaviour = behaviour
    with pytest.raises(EndpointFault) as caught:
        reply_of(stand_ins)
    fault = caught.value
    assert fault.name == name and fault.why and fault.fix
    assert SECRET not in fault.message(), "the key of a request is told"
    assert len("".join(part.text for part in fault.parts)) >= said  # type: ignore[attr-defined]


def test_an_endpoint_that_is_not_there_is_one_clear_fault(stand_ins: StandIns) -> None:
    with pytest.raises(EndpointFault, match="cannot be reached") as caught:
        reply_of(stand_ins, "http://user:password@127.0.0.1:9/v1?key=x")
    assert "password" not in caught.value.message() and "key=x" not in caught.value.message()


def test_calls_of_tools_are_joined_from_their_pieces(stand_ins: StandIns) -> None:
    stand_ins.behaviour = "tools"
    stand_ins.calls = [
        {"id": "a", "name": "clock", "arguments": '{"zone": "UTC"}'},
        {"id": "b", "name": "lamp", "arguments": "{}"},
    ]
    (part,) = reply_of(stand_ins)
    assert [vars(call) for call in part.calls] == stand_ins.calls


def test_speech_becomes_text(stand_ins: StandIns) -> None:
    async def ask() -> str:
        async with new_client() as http:
            place = endpoint(
                "the transcription endpoint", stand_ins.url, transcriber.PATH, "w", "A_KEY"
            )
            return await Transcriber(place, http).text_of(np.zeros(1600, np.float32))

    assert asyncio.run(ask()) == stand_ins.transcript
    body = stand_ins.requests[0]["body"]
    assert b"RIFF" in body and b'name="model"' in body and len(body) > 3200
    for behaviour, name in (("refuses", "refused"), ("nonsense", "nonsense")):
        stand_ins.behaviour = behaviour
        with pytest.raises(EndpointFault) as caught:
            asyncio.run(ask())
        assert caught.value.name == f"endpoint_{name}"


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://a:1/v1", "http://a:1/v1/chat/completions"),
        ("https://a/v1/", "https://a/v1/chat/completions"),
        ("http://a/v1/chat/completions", "http://a/v1/chat/completions"),
    ],
)
def test_addresses_are_completed(url: str, whole: str) -> None:
    found = endpoint("the chat endpoint", url, chat_client.PATH, "m", "NO_SUCH_VARIABLE")
    assert found.url == whole and found.headers == {} and "key" not in repr(found)


@pytest.mark.parametrize(
    "url", ["localhost:11434", "ftp://a/v1", "http://", "http://a b/", "", "http://[x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of the chat endpoint"):
        endpoint("the chat endpoint", url, chat_client.PATH, "m", "NO_SUCH_VARIABLE")
