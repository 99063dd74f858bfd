"""The transcript of a conversation: what both have said. Of the avatar, only what was heard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from being.conversation.chat_client import ToolCall

MESSAGES_MAX = 40  # without the system prompt
CHARACTERS_MAX = 24_000  # of all messages, without the system prompt
SEARCH = 10  # words of the reply among which the next heard one is looked for
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class History:
    """The messages of a conversation, as chat endpoints take them."""

    def __init__(
        self,
        prompt: str = "",
        messages_max: int = MESSAGES_MAX,
        characters_max: int = CHARACTERS_MAX,
    ):
        """prompt: the system prompt, which is never forgotten. The oldest messages are."""
        self._prompt = prompt
        self._messages_max, self._characters_max = messages_max, characters_max
        self._messages: list[dict[str, Any]] = []
        self._reply: dict[str, Any] | None = None  # the reply that is being spoken

    def messages(self) -> list[dict[str, Any]]:
        """All messages, with the system prompt first."""
        system = [{"role": "system", "content": self._prompt}] if self._prompt else []
        return system + [dict(message) for message in self._messages]

    def add_user(self, text: str) -> None:
        """The user said `text`. What follows the user's own words without a reply joins them."""
        last = self._messages[-1] if self._messages else None
        if last is not None and last["role"] == "user":
            last["content"] = f"{last['content']} {text}"
        else:
            self._messages.append({"role": "user", "content": text})
        self._reply = None
        self._forget()

    def add_reply(self, text: str) -> None:
        """The avatar goes on to say `text`."""
        if self._reply is None:
            self._reply = {"role": "assistant", "content": ""}
            self._messages.append(self._reply)
        self._reply["content"] += text

    def add_calls(self, calls: Sequence[ToolCall]) -> None:
        """The reply calls tools; their results follow."""
        entry = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
        if self._reply is None:
            self._messages.append({"role": "assistant", "content": None, "tool_calls": entry})
        else:
            self._reply["tool_calls"] = entry
        self._reply = None

    def add_result(self, call: str, content: str) -> None:
        """A tool has answered."""
        self._messages.append({"role": "tool", "tool_call_id": call, "content": content})

    def forget_calls(self) -> None:
        """Calls of tools whose results will not come are taken back."""
        while self._messages and self._messages[-1]["role"] == "tool":
            self._messages.pop()
        if self._messages and "tool_calls" in self._messages[-1]:
            last = self._messages[-1]
            del last["tool_calls"]
            if not last["content"]:
                self._messages.pop()

    def keep_heard(self, text: str) -> None:
        """Of the reply that was cut, only `text` was heard."""
        if self._reply is None:
            return
        self._reply["content"] = text
        if not text.strip():
            self._messages = [entry for entry in self._messages if entry is not self._reply]
        self._reply = None

    def end_reply(self) -> None:
        """The reply was heard to its end."""
        self._reply = None

    @property
    def reply(self) -> str:
        """The text of the reply that is being spoken, so far."""
        return "" if self._reply is None else str(self._reply["content"])

    def _forget(self) -> None:
        """Forget the oldest messages; the rest begins with the user's."""

        def size() -> int:
            return sum(len(str(message["content"] or "")) for message in self._messages)

        while len(self._messages) > 1 and (
            len(self._messages) > self._messages_max or size() > self._characters_max
        ):
            del self._messages[0]
            while len(self._messages) > 1 and self._messages[0]["role"] != "user":
                del self._messages[0]


def heard_part(reply: str, heard: str | None) -> str:
    """The beginning of `reply` up to the last word of `heard`, the words that were audible.

    Words are spoken otherwise than written ("$5"), so those that the reply lacks are skipped.
    """
    if not heard:
        return ""
    tokens = [(found.group().lower(), found.end()) for found in _WORD.finditer(reply)]
    following, end = 0, 0
    for found in _WORD.finditer(heard):
        near = tokens[following : following + SEARCH]
        match = next((k for k, (word, _) in enumerate(near) if word == found.group().lower()), None)
        if match is not None:
            following += match + 1
            end = tokens[following - 1][1]
    # The punctuation after the last word.
    while end and end < len(reply) and not reply[end].isspace() and not reply[end].isalnum():
        end += 1
    return reply[:end]
