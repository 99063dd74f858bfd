"""Conversations over a real socket, against local stand-ins for the endpoints."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from live_client import LiveClient
from live_server import LocalServer
from talk_service import talk_service

from being.api.packets import Flag, Kind
from being.bench.stand_ins import StandIns
from being.conversation.turns import Patience

RATE = 24_000
SOON = Patience(transcript=5.0, first_word=1.5, next_word=1.0, tool=5.0)
REPLY = "Well, the trains run all day."


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[LocalServer, StandIns]]:
    with StandIns() as stand_ins:
        talk = talk_service(stand_ins, SOON)
        with LocalServer(talk=talk) as server:
            yield server, stand_ins


@pytest.fixture
def stand_ins(running: tuple[LocalServer, StandIns]) -> StandIns:
    fresh = StandIns(reply=REPLY)
    for name in ("transcript", "reply", "behaviour", "piece", "calls", "word_s"):
        setattr(running[1], name, getattr(fresh, name))
    running[1].requests.clear()
    return running[1]


@pytest.fixture
def server(running: tuple[LocalServer, StandIns]) -> LocalServer:
    return running[0]


def run(talk: Any) -> Any:
    return asyncio.run(asyncio.wait_for(talk, 60))


async def utter(client: LiveClient, seconds: float = 0.5, quiet: float = 0.9) -> None:
    """Say something into the microphone: faster than it would take."""
    tone = 9000 * np.sin(np.arange(round(seconds * RATE)) / 20)
    for samples in (np.zeros(RATE // 4), tone, np.zeros(round(quiet * RATE))):
        await client.send_sound(samples.astype(np.int16), flags=Flag.LIVE)


def asked(stand_ins: StandIns) -> list[list[dict[str, Any]]]:
    """The messages of all requests to the chat endpoint."""
    return [
        json.loads(request["body"])["messages"]
        for request in stand_ins.requests
        if request["path"].endswith("completions")
    ]


def phase(name: str) -> Any:
    return lambda m: isinstance(m, dict) and m["type"] == "turn" and m["phase"] == name


def test_speech_is_answered_with_speech(server: LocalServer, stand_ins: StandIns) -> None:
    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            assert client.ready["conversation"] == {"model": "tiny", "listens": True}
            await client.send({"type": "converse", "on": True})
            await utter(client)
            await client.until("speaking_ended")
            await client.until(phase("idle"))
            await client.listen(0.4)  # the last words are heard
            await utter(client)
            await client.until("speaking_ended")
            return client

    client = run(talk())
    assert [m["on"] for m in client.messages("hearing")] == [True, False] * 2
    phases = [m["phase"] for m in client.messages("turn")]
    assert phases[:5] == ["hearing", "transcribing", "thinking", "speaking", "idle"]
    said = [m for m in client.messages("transcript") if m["final"]]
    assert [m["role"] for m in said] == ["user", "assistant", "user", "assistant"]
    assert said[0]["text"] == stand_ins.transcript and said[1]["text"] == stand_ins.reply
    pieces = [m["text"] for m in client.messages("transcript") if not m["final"]]
    assert "".join(pieces) == 2 * stand_ins.reply
    words = [word["text"] for m in client.messages("words") for word in m["words"]]
    assert " ".join(words) == f"{stand_ins.reply} {stand_ins.reply}"
    first, second = asked(stand_ins)
    assert [m["role"] for m in first] == ["system", "user"] and first[0]["content"] == "Be kind."
    assert second[2] == {"role": "assistant", "content": stand_ins.reply}
    assert not client.messages("error")


def test_barge_in_cuts_and_keeps_only_what_was_heard(
    server: LocalServer, stand_ins: StandIns
) -> None:
    stand_ins.reply = "one two three four five six seven eight nine ten, " * 6

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            await client.send({"type": "ask", "text": "Count, please."})
            started = await client.until("speaking_started")
            await client.send({"type": "converse", "on": True})
            await client.listen(1.2)
            heard = {"epoch": client.epoch, "samples": started["at"] + RATE}
            await client.send({"type": "duck", "on": True, "heard": heard})
            await utter(client)
            await client.until("interrupted")
            await client.until("speaking_started")
            return client

    client = run(talk())
    (cut,) = client.messages("interrupted")
    assert cut["epoch"] == 1 and cut["heard"]["seconds"] == pytest.approx(1, abs=0.05)
    said = [m["text"] for m in client.messages("transcript") if m["final"]]
    kept = [m for m in asked(stand_ins)[-1] if m["role"] == "assistant"][0]["content"]
    assert kept.rstrip(",") in stand_ins.reply and 10 < len(kept) < 40
    assert kept in said and kept.split()[0] == "one"
    late = [p for at, p, _ in client.media(Kind.PCM) if p.epoch == 0]
    assert late[-1].timestamp <= cut["at"]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("refuses", "endpoint_refused"),
        ("stalls", "endpoint_stalled"),
        ("stalls_in_reply", "endpoint_stalled"),
        ("half_word", "endpoint_broke_off"),
        ("nonsense", "endpoint_nonsense"),
        ("empty", "endpoint_nonsense"),
    ],
)
def test_an_endpoint_that_fails_is_told_and_the_session_lives_on(
    server: LocalServer,
    stand_ins: StandIns,
    caplog: pytest.LogCaptureFixture,
    behaviour: str,
    code: str,
) -> None:
    stand_ins.behaviour = behaviour

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            await client.send({"type": "ask", "text": "Hello?"})
            error = await client.until("error")
            assert error["code"] == code and not error["fatal"] and error["about"] == "ask"
            if behaviour in ("half_word", "stalls_in_reply"):
                await client.until("speaking_ended")
            stand_ins.behaviour = "good"
            await client.until(phase("idle"))
            await client.send({"type": "ask", "text": "And now?"})
            await client.until("speaking_ended")
            return client

    with caplog.at_level(logging.WARNING, "being"):
        client = run(talk())
    assert "conversation: " in caplog.text
    words = " ".join(word["text"] for m in client.messages("words") for word in m["words"])
    assert words.endswith(stand_ins.reply)
    half = words.removesuffix(stand_ins.reply).strip()
    assert all(word in stand_ins.reply.split() for word in half.split()), "half a word was said"


def test_a_transcription_that_fails_is_told(server: LocalServer, stand_ins: StandIns) -> None:
    stand_ins.behaviour = "fails"

    async def talk() -> None:
        async with LiveClient(server.url) as client:
            await client.send({"type": "converse", "on": True})
            await utter(client)
            error = await client.until("error")
            assert error["code"] == "endpoint_refused" and "transcription" in error["what"]
            stand_ins.behaviour = "good"
            await client.send({"type": "ask", "text": "And now?"})
            await client.until("speaking_ended")

    run(talk())


def test_an_answer_in_a_language_without_a_voice_is_told(
    server: LocalServer, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("being.tts.live_voice.shutil.which", lambda name: None)
    stand_ins.reply = "Das ist nicht so einfach, aber wir haben es auf der Karte und mit dem Plan."

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            await client.send({"type": "ask", "text": "Wo ist der Zug, und wie komme ich zu ihm?"})
            error = await client.until("error")
            assert error["code"] == "text_rejected" and "German" in error["what"]
            await client.until(phase("idle"))
            stand_ins.reply = "Well, in English it is easy to say that."
            await client.send({"type": "ask", "text": "Then say it to me in English, if you can."})
            await client.until("speaking_ended")
            return client

    assert len(run(talk()).messages("error")) == 1


def test_tools_of_the_client_are_called(server: LocalServer, stand_ins: StandIns) -> None:
    stand_ins.behaviour = "tools"
    stand_ins.calls = [{"id": "a", "name": "lamp", "arguments": '{"on": true}'}]
    lamp = {"type": "function", "function": {"name": "lamp", "parameters": {"type": "object"}}}

    async def talk() -> LiveClient:
        async with LiveClient(server.url, {"tools": [lamp]}) as client:
            await client.send({"type": "ask", "text": "Light, please."})
            call = await client.until("tool_call")
            assert call["name"] == "lamp" and json.loads(call["arguments"]) == {"on": True}
            await client.send({"type": "tool_result", "call": call["id"], "content": "on"})
            await client.until("speaking_ended")
            return client

    run(talk())
    assert asked(stand_ins)[-1][-1] == {"role": "tool", "tool_call_id": "a", "content": "on"}
    assert json.loads(stand_ins.requests[0]["body"])["tools"] == [lamp]


def test_a_resumed_conversation_remembers_what_the_client_kept(
    server: LocalServer, stand_ins: StandIns
) -> None:
    kept = [{"role": "user", "text": "I am Ada."}, {"role": "assistant", "text": "Hello Ada."}]

    async def talk() -> None:
        async with LiveClient(server.url, {"transcript": kept}) as client:
            await client.send({"type": "ask", "text": "Who am I?"})
            await client.until(phase("speaking"))

    run(talk())
    assert [m["content"] for m in asked(stand_ins)[0][1:]] == [
        "I am Ada.",
        "Hello Ada.",
        "Who am I?",
    ]


def test_a_dead_microphone_is_told(server: LocalServer, stand_ins: StandIns) -> None:
    async def talk() -> None:
        async with LiveClient(server.url) as client:
            await client.send({"type": "converse", "on": True})
            for _ in range(9):
                await client.send_sound(np.zeros(RATE, np.int16), flags=Flag.LIVE)
            error = await client.until("error")
            assert error["code"] == "silent_microphone"
            await client.send({"type": "converse", "on": False, "problem": "NotAllowedError"})
            await client.send({"type": "speak", "text": "I speak as before."})
            await client.until("speaking_ended")

    run(talk())


def test_without_an_endpoint_nothing_is_answered_and_all_else_works() -> None:
    async def talk(url: str) -> None:
        async with LiveClient(url) as client:
            assert client.ready["conversation"] is None
            for message in ({"type": "ask", "text": "Hello?"}, {"type": "converse"}):
                await client.send(message)
                assert (await client.until("error"))["code"] == "no_conversation"
            await client.send({"type": "speak", "text": "Hello."})
            await client.until("speaking_ended")

    with LocalServer() as plain:
        run(talk(plain.url))
