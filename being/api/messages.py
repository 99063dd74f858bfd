"""The JSON messages of the protocol, as models: parsing checks every field (docs/protocol.md)."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from being.reading.content import Unreadable
from being.reading.structured import parse_json
from being.session.refusals import Refusal

PROTOCOL = 1
Samples = Annotated[int, Field(ge=0, lt=1 << 53)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Value = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class Message(BaseModel):
    """A message from a client. Unknown fields are refused, so that a misspelt one is found."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Heard(Message):
    """A position that was audible."""

    epoch: int = Field(ge=0, lt=1 << 32)
    samples: Samples


class Said(Message):
    """What was said earlier in a conversation."""

    role: Literal["user", "assistant"]
    text: str = Field(max_length=6000)


class Start(Message):
    """The first message of a session."""

    type: Literal["start"]
    protocol: Literal[1] = 1
    avatar: Name | None = None
    video: Literal["h264", "jpeg"] = "h264"
    render: Literal["server", "client"] = "server"
    matte: bool = False
    background: Name | None = None
    voice: Name | None = None
    mood: Name | None = None
    resume: dict[str, Any] | None = None
    heard: Samples | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=64)
    transcript: list[Said] | None = Field(default=None, max_length=100)
    token: Annotated[str, Field(max_length=512)] | None = None


class Speak(Message):
    """Says a text, or appends text to the open utterance."""

    type: Literal["speak"]
    text: str
    utterance: Name | None = None
    more: bool = False
    voice: Name | None = None
    speed: float = Field(default=1.0, ge=0.5, le=2.0, allow_inf_nan=False)


class SpeakEnd(Message):
    """No more text or sound for the open utterance."""

    type: Literal["speak_end"]
    utterance: Name | None = None


class Interrupt(Message):
    """Empties everything."""

    type: Literal["interrupt"]
    heard: Heard | None = None


class Listen(Message):
    """The avatar listens, or no longer."""

    type: Literal["listen"]
    on: bool = True


class Expression(Message):
    """Mood and expressions of the face."""

    type: Literal["expression"]
    mood: Name | None = None
    values: dict[Name, Value] | None = Field(default=None, max_length=64)


class Pose(Message):
    """The head moves, or goes somewhere and stays."""

    type: Literal["pose"]
    mode: Literal["loop", "hold"]
    at: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)


class HeardReport(Message):
    """The position that is audible now."""

    type: Literal["heard"]
    epoch: int = Field(ge=0, lt=1 << 32)
    samples: Samples
    buffered: Samples | None = None
    dropped: Samples | None = None


class Render(Message):
    """From here on the server renders, or the client draws."""

    type: Literal["render"]
    render: Literal["server", "client"]


class StatsRequest(Message):
    """Asks for `stats`."""

    type: Literal["stats"]


class Ask(Message):
    """The user's question to the avatar, in writing."""

    type: Literal["ask"]
    text: str = Field(min_length=1, max_length=5000)


class Converse(Message):
    """Sound of the microphone is speech to the avatar, or no longer."""

    type: Literal["converse"]
    on: bool = True
    problem: str | None = Field(default=None, max_length=300)


class Duck(Message):
    """The client has lowered its sound, because the user may be speaking, or has raised it."""

    type: Literal["duck"]
    on: bool = True
    heard: Heard | None = None


class ToolResult(Message):
    """The result of a tool that the avatar's answer calls."""

    type: Literal["tool_result"]
    call: str = Field(min_length=1, max_length=512)
    content: str = Field(max_length=1 << 16)


ClientMessage = (
    Start
    | Speak
    | SpeakEnd
    | Interrupt
    | Listen
    | Expression
    | Pose
    | HeardReport
    | Render
    | StatsRequest
    | Ask
    | Converse
    | Duck
    | ToolResult
)
MODELS: dict[str, type[Message]] = {
    "start": Start,
    "speak": Speak,
    "speak_end": SpeakEnd,
    "interrupt": Interrupt,
    "listen": Listen,
    "expression": Expression,
    "pose": Pose,
    "heard": HeardReport,
    "render": Render,
    "stats": StatsRequest,
    "ask": Ask,
    "converse": Converse,
    "duck": Duck,
    "tool_result": ToolResult,
}


def parse(text: str) -> Any:
    """The message in `text`: one of ClientMessage.

    Raises Refusal `bad_json`, `unknown_type` or `bad_message`.
    """
    try:
        data = parse_json(text)
    except Unreadable as error:
        raise Refusal(
            "bad_json", "a text message is not JSON", _first_line(error), "Send one JSON object"
        ) from error
    if not isinstance(data, dict):
        raise Refusal(
            "bad_json",
            "a text message is no JSON object",
            f"it is {type(data).__name__}",
            'Send an object with a field "type"',
        )
    kind = data.get("type")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = list(MODELS)
        near = difflib.get_close_matches(str(kind)[:64], known, 1)
        raise Refusal(
            "unknown_type",
            f"no message has the type {str(kind)[:64]!r}",
            f"known are {', '.join(known)}",
            f"Did you mean {near[0]!r}?" if near else "",
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise Refusal(
            "bad_message",
            f"the message {kind!r} cannot be used",
            f"{where[:80]}: {first['msg']}",
            "docs/protocol.md lists the fields",
        ) from error


def error_message(refusal: Refusal, about: str | None) -> dict[str, Any]:
    """The message `error`. about: type of the message at fault, where there is one."""
    return {
        "type": "error",
        "code": refusal.name,
        "what": refusal.what,
        "why": refusal.why,
        "fix": refusal.fix,
        "fatal": refusal.close != 0,
        "about": about,
    }


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
