"""The protocol as an AsyncAPI 3.0 document, made from the models of its messages.

    python -m being.api.contract docs/asyncapi.json

writes it; a test holds that the file is what the models say.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from being.api.messages import MODELS
from being.api.packets import HEADER, Flag, Kind

TITLE = "being: a live session"
VERSION = "1.0.0"
INTEGER, NUMBER, TEXT, FLAG = (
    {"type": "integer"},
    {"type": "number"},
    {"type": "string"},
    {"type": "boolean"},
)
MAYBE_TEXT = {"type": ["string", "null"]}
OBJECT = {"type": "object"}
MAYBE_OBJECT = {"type": ["object", "null"]}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _object(**fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


HEARD = _object(samples=INTEGER, seconds=NUMBER, text=MAYBE_TEXT)
WORD = _object(text=TEXT, start=INTEGER, end=INTEGER)
# Fields of the messages of the server, besides `type`; all of them are always there.
SERVER_MESSAGES: dict[str, dict[str, dict[str, Any]]] = {
    "ready": {
        "protocol": INTEGER,
        "session": TEXT,
        "resumed": FLAG,
        "epoch": INTEGER,
        "at": INTEGER,
        "rate": INTEGER,
        "fps": INTEGER,
        "frame": INTEGER,
        "width": INTEGER,
        "height": INTEGER,
        "video": _object(codec=TEXT, string=TEXT, matte=FLAG),
        "render": TEXT,
        "drawing": MAYBE_OBJECT,
        "avatar": TEXT,
        "avatars": _list_of(TEXT),
        "background": TEXT,
        "backgrounds": _list_of(TEXT),
        "moods": _list_of(TEXT),
        "expressions": _list_of(TEXT),
        "voices": _list_of(TEXT),
        "state": TEXT,
        "ai_generated": FLAG,
        "notice": TEXT,
        "consent": _object(given={"type": ["boolean", "null"]}, note=TEXT),
        "watermark": FLAG,
        "manifest": OBJECT,
        "limits": _object(
            text_characters=INTEGER, message_bytes=INTEGER, audio_seconds=NUMBER, ahead_ms=INTEGER
        ),
        "look_ahead_ms": INTEGER,
        "conversation": MAYBE_OBJECT,
        "resume": OBJECT,
    },
    "state": {"epoch": INTEGER, "at": INTEGER, "state": TEXT, "resume": OBJECT},
    "speaking_started": {"epoch": INTEGER, "utterance": TEXT, "at": INTEGER},
    "words": {"epoch": INTEGER, "utterance": TEXT, "words": _list_of(WORD)},
    "speaking_ended": {"epoch": INTEGER, "utterance": TEXT, "at": INTEGER, "seconds": NUMBER},
    "interrupted": {
        "epoch": INTEGER,
        "utterance": MAYBE_TEXT,
        "heard": HEARD,
        "at": INTEGER,
        "resume": OBJECT,
    },
    "stats": {
        "epoch": INTEGER,
        "state": TEXT,
        "uptime_s": NUMBER,
        "frames_sent": INTEGER,
        "frames_dropped": INTEGER,
        "frames_shed": INTEGER,
        "ahead_ms": INTEGER,
        "queue_ms": INTEGER,
        "lateness_ms": _object(p50=NUMBER, p99=NUMBER),
        "first_sound_ms": {"type": ["number", "null"]},
        "first_frame_ms": {"type": ["number", "null"]},
        "sessions": INTEGER,
        "resume": OBJECT,
    },
    "render": {"epoch": INTEGER, "render": TEXT, "watermark": FLAG},
    "hearing": {"epoch": INTEGER, "on": FLAG},
    "turn": {"epoch": INTEGER, "turn": INTEGER, "phase": TEXT, "understood": FLAG},
    "transcript": {
        "epoch": INTEGER,
        "turn": INTEGER,
        "role": TEXT,
        "text": TEXT,
        "final": FLAG,
    },
    "tool_call": {
        "epoch": INTEGER,
        "turn": INTEGER,
        "id": TEXT,
        "name": TEXT,
        "arguments": TEXT,
    },
    "notice": {"epoch": INTEGER, "text": TEXT},
    "error": {
        "code": TEXT,
        "what": TEXT,
        "why": TEXT,
        "fix": TEXT,
        "fatal": FLAG,
        "about": MAYBE_TEXT,
    },
}


def server_schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a message of the server."""
    schema = _object(type={"const": kind}, **SERVER_MESSAGES[kind])
    return {**schema, "additionalProperties": False}


def asyncapi() -> dict[str, Any]:
    """The document."""
    messages: dict[str, Any] = {}
    for kind, model in MODELS.items():
        schema = model.model_json_schema()
        messages[f"client_{kind}"] = {
            "name": kind,
            "summary": (model.__doc__ or "").strip(),
            "contentType": "application/json",
            "payload": schema,
        }
    for kind in SERVER_MESSAGES:
        messages[f"server_{kind}"] = {
            "name": kind,
            "contentType": "application/json",
            "payload": server_schema(kind),
        }
    kinds = ", ".join(f"{kind.value} {kind.name}" for kind in Kind)
    flags = ", ".join(f"{flag.value} {flag.name}" for flag in Flag if flag)
    messages["media"] = {
        "name": "media",
        "summary": (
            f"A binary message: {HEADER.size} bytes of header, little-endian: uint8 kind "
            f"({kinds}), uint8 flags ({flags}), uint16 rate, uint32 epoch, uint64 timestamp, "
            "uint32 length; then the payload."
        ),
        "contentType": "application/octet-stream",
    }

    def operation(action: str, prefix: str) -> dict[str, Any]:
        names = [name for name in messages if name.startswith(prefix) or name == "media"]
        return {
            "action": action,
            "channel": {"$ref": "#/channels/session"},
            "messages": [{"$ref": f"#/channels/session/messages/{name}"} for name in names],
        }

    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "description": "docs/protocol.md says what the messages mean.",
        },
        "channels": {
            "session": {
                "address": "session",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        # As seen from the server.
        "operations": {
            "receive": operation("receive", "client_"),
            "send": operation("send", "server_"),
        },
        "components": {"messages": messages},
    }


def main() -> None:
    """Write the document; see the module."""
    Path(sys.argv[1]).write_text(json.dumps(asyncapi(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
