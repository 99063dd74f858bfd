"""The turns of a conversation on a virtual clock: barge-in, late and broken answers, tools."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import pytest

from being.conversation.chat_client import ToolCall
from being.conversation.ear import Heard
from being.conversation.endpoints import EndpointFault
from being.conversation.history import History, heard_part
from being.conversation.turns import (
    Ask,
    Cancel,
    Conversation,
    EndSay,
    Fault,
    Listen,
    Say,
    Tell,
    Transcribe,
)

Kind = TypeVar("Kind")
BROKEN = EndpointFault("endpoint_broke_off", "the chat endpoint broke off")
SPEECH = np.ones(1600, np.float32)


class Script:
    """A conversation whose session hears `heard` of each reply that is cut."""

    def __init__(self, **settings: Any):
        self.heard: str | None = None
        self.cuts = 0
        self.actions: list[Any] = []
        self.talk = Conversation(History("Be kind.", **settings), self._cut)

    def _cut(self) -> str | None:
        self.cuts += self.heard is not None
        return self.heard

    def do(self, actions: list[Any]) -> list[Any]:
        self.actions += actions
        return actions

    def ear(self, kind: Any, now: float = 0.0) -> list[Any]:
        samples = SPEECH if kind in ("paused", "ended") else None
        return self.do(self.talk.heard(Heard(kind, now, samples), now))

    def asked(self) -> Ask:
        return self.all(Ask)[-1]

    def all(self, kind: type[Kind]) -> list[Kind]:
        return [action for action in self.actions if isinstance(action, kind)]

    def say_something(self, text: str, words: str, now: float = 0.0) -> None:
        """A whole turn of speech up to a reply that is being spoken."""
        self.ear("began", now)
        self.ear("paused", now)
        attempt = self.all(Transcribe)[-1].attempt
        self.do(self.talk.transcribed(attempt, text, now))
        self.ear("ended", now)
        self.do(self.talk.replied(self.talk.turn, words, now))

    def roles(self) -> list[tuple[str, str]]:
        return [(m["role"], m["content"]) for m in self.talk.history.messages()]


def test_a_turn_goes_from_speech_to_an_answer() -> None:
    script = Script()
    assert Listen(True) in script.ear("began")
    assert script.talk.phase == "hearing"
    (transcribe,) = [a for a in script.ear("paused", 1.0) if isinstance(a, Transcribe)]
    assert not script.do(script.talk.transcribed(transcribe.attempt, "What time is it?", 1.1))
    actions = script.ear("ended", 1.4)
    assert Listen(False) in actions and script.talk.phase == "thinking"
    assert script.asked().messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What time is it?"},
    ]
    turn = script.talk.turn
    for piece in ("It", " is", " ten o'", "clock", "."):
        script.do(script.talk.replied(turn, piece, 2.0))
    said = [action.text for action in script.all(Say)]
    assert "".join(said) == "It is ten o'clock." and said[-1] == "o'clock."
    script.do(script.talk.reply_ended(turn))
    assert script.all(EndSay) and script.talk.phase == "speaking"
    script.do(script.talk.spoken())
    assert script.talk.phase == "idle"
    assert script.roles()[-1] == ("assistant", "It is ten o'clock.")


def test_a_pause_in_speech_is_no_end() -> None:
    script = Script()
    script.ear("began")
    script.ear("paused")
    first = script.all(Transcribe)[-1].attempt
    script.do(script.talk.transcribed(first, "What", 0.3))
    assert Cancel() in script.ear("resumed")
    script.ear("paused")
    second = script.all(Transcribe)[-1].attempt
    assert second != first and not script.talk.transcribed(first, "What", 0.6)
    script.ear("ended")
    assert script.talk.phase == "transcribing"
    script.do(script.talk.transcribed(second, "What time is it?", 1.0))
    assert script.roles()[-1] == ("user", "What time is it?")


def test_barge_in_keeps_only_what_was_heard() -> None:
    script = Script()
    script.say_something("Tell me.", "The price is $5, and the trains run all day. ")
    script.heard = "The price is five dollars, and the"
    actions = script.ear("began", 3.0)
    assert script.cuts == 1 and Cancel() in actions
    assert script.roles()[-1] == ("assistant", "The price is $5, and the")
    assert not script.talk.replied(script.talk.turn - 1, "late", 3.1), "a reply of the old turn"
    (told,) = [
        a.message for a in actions if isinstance(a, Tell) and a.message["type"] == "transcript"
    ]
    assert told["final"] and told["text"] == "The price is $5, and the" and told["turn"] == 1


def test_a_reply_of_which_nothing_was_heard_is_forgotten() -> None:
    script = Script()
    script.say_something("Tell me.", "One two three. ")
    script.heard = ""
    script.ear("began")
    assert script.roles()[-1] == ("user", "Tell me.")
    script.heard = None
    script.ear("paused")
    script.do(script.talk.transcribed(script.all(Transcribe)[-1].attempt, "No, wait.", 1.0))
    script.ear("ended")
    assert script.roles()[-1] == ("user", "Tell me. No, wait.")


def test_who_goes_on_speaking_before_the_transcript_loses_no_word() -> None:
    script = Script()
    script.ear("began")
    script.ear("paused")
    script.ear("ended")
    script.ear("began")
    script.ear("paused")
    assert script.all(Transcribe)[-1].samples.size == 2 * SPEECH.size


@pytest.mark.parametrize("said", ["", "Half a sen"])
def test_a_reply_that_breaks_off_is_told_and_half_a_word_is_not_said(said: str) -> None:
    script = Script()
    script.do(script.talk.asked("Hello?", 0.0))
    turn = script.talk.turn
    script.do(script.talk.replied(turn, said, 0.1))
    script.do(script.talk.not_replied(turn, BROKEN))
    assert [fault.error for fault in script.all(Fault)] == [BROKEN]
    assert "".join(a.text for a in script.all(Say)) == ("Half a " if said else "")
    script.do(script.talk.spoken())
    assert script.talk.phase == "idle"
    assert script.do(script.talk.asked("Again?", 1.0)) and script.talk.phase == "thinking"


@pytest.mark.parametrize("where", ["transcript", "first word", "next word", "tool"])
def test_what_is_late_is_given_up_and_told(where: str) -> None:
    script = Script()
    if where == "transcript":
        script.ear("began")
        script.ear("ended", 5.0)
    else:
        script.do(script.talk.asked("Hello?", 5.0))
    if where == "next word":
        script.do(script.talk.replied(script.talk.turn, "Well, ", 5.0))
    if where == "tool":
        script.do(script.talk.tools_called(script.talk.turn, [ToolCall("a", "lamp", "{}")], 5.0))
    assert not script.do(script.talk.advance(14.9))
    script.do(script.talk.advance(66.0))
    (fault,) = script.all(Fault)
    assert fault.error.name == "endpoint_stalled"
    assert ("tool" in fault.error.what) == (where == "tool")
    assert not script.talk.advance(1000.0), "told once"
    script.do(script.talk.spoken())
    assert script.talk.phase == "idle"
    assert not any("tool_calls" in message for message in script.talk.history.messages())


def test_tools_pass_through_and_the_reply_goes_on() -> None:
    script = Script()
    script.do(script.talk.asked("Turn the lamp on.", 0.0))
    turn = script.talk.turn
    script.do(script.talk.replied(turn, "One moment. ", 0.1))
    calls = [ToolCall("", "lamp", '{"on": true}'), ToolCall("b", "clock", "{}")]
    actions = script.do(script.talk.tools_called(turn, calls, 0.2))
    told = [a.message for a in actions if isinstance(a, Tell) and a.message["type"] == "tool_call"]
    assert [message["name"] for message in told] == ["lamp", "clock"] and told[0]["id"]
    assert not script.do(script.talk.tool_answered(told[0]["id"], "on", 0.3))
    assert not script.talk.tool_answered("nobody", "x", 0.3)
    script.do(script.talk.tool_answered("b", "10:00", 0.4))
    roles = [message["role"] for message in script.asked().messages]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    script.do(script.talk.replied(turn, "It is on, at ten. ", 0.5))
    script.heard = "One moment. It is"
    script.do(script.talk.asked("Off!", 0.6))
    replies = [text.strip() for role, text in script.roles() if role == "assistant"]
    assert replies == ["One moment.", "It is"]


def test_a_reply_without_end_is_cut() -> None:
    script = Script()
    script.do(script.talk.asked("Hello?", 0.0))
    for k in range(2000):
        script.do(script.talk.replied(script.talk.turn, "word " * 20, 0.01 * k))
    (fault,) = script.all(Fault)
    assert fault.error.name == "reply_too_long"
    assert len("".join(a.text for a in script.all(Say))) < 7000


def test_nothing_understood_is_told_and_asks_nobody() -> None:
    script = Script()
    script.ear("began")
    script.ear("paused")
    script.do(script.talk.transcribed(script.all(Transcribe)[-1].attempt, " ... ", 0.1))
    actions = script.ear("ended", 0.5)
    told = [a.message for a in actions if isinstance(a, Tell)]
    assert told[-1]["phase"] == "idle" and told[-1]["understood"] is False
    assert not script.all(Ask)


def test_old_messages_are_forgotten_but_never_the_prompt() -> None:
    script = Script(messages_max=6, characters_max=200)
    for k in range(40):
        script.say_something(f"Question {k}?", f"Answer {k}. ")
        script.do(script.talk.reply_ended(script.talk.turn))
        script.do(script.talk.spoken())
    messages = script.talk.history.messages()
    assert messages[0]["role"] == "system" and messages[1]["role"] == "user"
    assert len(messages) <= 7 and messages[-1]["content"] == "Answer 39. "


@pytest.mark.parametrize(
    ("reply", "heard", "part"),
    [
        ("One **two** three.", "One two", "One **two**"),
        ("It costs $5. Yes.", "It costs five dollars.", "It costs"),
        ("It costs $5. Yes.", "It costs five dollars. Yes.", "It costs $5. Yes."),
        ("One two", None, ""),
        ("One two", "", ""),
        ("a a a b", "a a", "a a"),
    ],
)
def test_the_heard_words_are_found_in_the_reply(reply: str, heard: str | None, part: str) -> None:
    assert heard_part(reply, heard).rstrip("*.") == part.rstrip("*.")
