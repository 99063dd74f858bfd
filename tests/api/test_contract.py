"""The contract: the AsyncAPI file, the protocol page and what the server sends agree."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_client import LiveClient
from live_server import LocalServer
from talk_service import talk_service

from being.api.contract import SERVER_MESSAGES, asyncapi, server_schema
from being.api.messages import MODELS
from being.api.packets import HEADER, Flag
from being.bench.stand_ins import StandIns

# Half a second of a loud tone, then silence; int16 at 24 kHz.
LOUD = np.concatenate([9000 * np.sin(np.arange(12_000) / 20), np.zeros(24_000)]).astype(np.int16)
DOCS = Path(__file__).resolve().parents[2] / "docs"
TYPES = {
    "integer": int,
    "number": (int, float),
    "string": str,
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value fits a schema of `contract`."""
    if "const" in schema:
        return value == schema["const"]
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, TYPES[name]) for name in wanted):
        return False
    if isinstance(value, bool) and "boolean" not in wanted:
        return False
    if "properties" in schema:
        return set(value) == set(schema["properties"]) and all(
            fits(value[name], part) for name, part in schema["properties"].items()
        )
    return "items" not in schema or all(fits(item, schema["items"]) for item in value)


def test_the_asyncapi_file_is_what_the_models_say() -> None:
    """Write it again with: python -m being.api.contract docs/asyncapi.json"""
    assert json.loads((DOCS / "asyncapi.json").read_text()) == asyncapi()


def test_the_protocol_page_names_every_message_and_field() -> None:
    text = (DOCS / "protocol.md").read_text()
    assert HEADER.size == 20 and "20 bytes of header" in text
    for kind, model in MODELS.items():
        assert f"`{kind}`" in text, kind
        for field in model.model_fields:
            assert field == "type" or f"`{field}`" in text, (kind, field)
    answers = text.split("## From the server")[1]
    for kind, fields in SERVER_MESSAGES.items():
        row = next(line for line in answers.splitlines() if line.startswith(f"| `{kind}` |"))
        assert all(f"`{field}`" in row for field in fields), (kind, row)


def test_every_message_of_the_server_fits_its_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("being.api.connection.slow_voice_note", lambda voice: "it is slow")

    async def talk() -> LiveClient:
        async with LiveClient(server.url) as client:
            await client.send({"type": "converse"})
            await client.send_sound(LOUD, flags=Flag.LIVE)
            await client.until("tool_call")
            await client.send({"type": "tool_result", "call": "a", "content": "on"})
            await client.until("speaking_ended")
            await client.send({"type": "speak", "text": "Hello there, my friend."})
            await client.until("speaking_ended")
            await client.send({"type": "speak", "text": "Another text."})
            await client.until("speaking_started")
            await client.send({"type": "interrupt"})
            await client.send({"type": "stats"})
            await client.send({"type": "render", "render": "server"})
            await client.until("render")
            await client.send({"type": "sing"})
            await client.until("error")
            return client

    calls = [{"id": "a", "name": "lamp", "arguments": "{}"}]
    with (
        StandIns(behaviour="tools", calls=calls, reply="Yes.") as stand_ins,
        LocalServer(talk=talk_service(stand_ins)) as server,
    ):
        client = asyncio.run(talk())
    sent = [message for _, message in client.log if isinstance(message, dict)]
    assert {message["type"] for message in sent} == set(SERVER_MESSAGES)
    for message in sent:
        assert fits(message, server_schema(message["type"])), message
