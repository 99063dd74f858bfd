"""The conversation of one client: joins ear, turns and endpoints with its live session."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from being.api import messages
from being.console import printable
from being.conversation.chat_client import ChatClient
from being.conversation.ear import Ear, Heard
from being.conversation.endpoints import EndpointFault, greet
from being.conversation.history import MESSAGES_MAX, History
from being.conversation.transcriber import Transcriber
from being.conversation.turns import (
    Action,
    Ask,
    Cancel,
    Conversation,
    EndSay,
    Fault,
    Listen,
    Patience,
    Say,
    Tell,
    Transcribe,
)
from being.conversation.voice_activity import SileroActivity, VoiceActivity
from being.session.refusals import Refusal

TOOLS_MAX = 1 << 16  # characters of the tools' JSON
QUIET_S = 6.0  # without a packet of an open microphone
log = logging.getLogger("being")


@dataclass
class TalkService:
    """What all conversations of a front process share."""

    chat: ChatClient
    transcriber: Transcriber | None = None
    prompt: str = ""
    history: int = MESSAGES_MAX
    patience: Patience | None = None
    activity: Callable[[], VoiceActivity] = SileroActivity

    async def greet(self) -> None:
        """Connect to the endpoints, so that the first turn does not wait for it, and log faults."""
        clients: list[ChatClient | Transcriber] = [self.chat]
        if self.transcriber is not None:
            clients.append(self.transcriber)
        for client in clients:
            if fault := await greet(client.endpoint, client.http):
                log.warning("%s", printable(fault.message(), one_line=True))

    def facts(self) -> dict[str, Any]:
        """The field `conversation` of the message `ready`."""
        return {"model": self.chat.endpoint.model, "listens": self.transcriber is not None}


@dataclass(frozen=True)
class SessionControl:
    """What a conversation does with its session."""

    say: Callable[[messages.Speak], None]  # raises Refusal
    end_say: Callable[[], None]  # raises Refusal
    # Cuts speech that is open or audible, and returns the words that were heard; else None.
    # The argument is the position that was audible last, where it is known.
    cut: Callable[[messages.Heard | None], str | None]
    listen: Callable[[bool], None]
    tell: Callable[[dict[str, Any]], None]  # a message, without its epoch
    refuse: Callable[[Refusal, str], None]  # an error, and the message that it is about
    user_wrote: Callable[[str], None]  # the language of answers
    now: Callable[[], float]


class Talk:
    """The conversation of one session."""

    def __init__(self, service: TalkService, session: SessionControl, start: messages.Start):
        """Raises Refusal for tools that are too large."""
        self._service, self._session = service, session
        self._tools = checked_tools(start.tools or [])
        history = History(service.prompt, service.history)
        for said in start.transcript or []:
            if said.role == "user":
                history.add_user(said.text)
            elif said.text.strip():
                history.add_reply(said.text)
                history.end_reply()
        self.conversation = Conversation(history, self._cut, service.patience)
        self._ear: Ear | None = None
        self._activity: VoiceActivity | None = None
        self._last_sound = 0.0  # s
        self._told_quiet = False
        self._ducked: messages.Heard | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> bool:
        """Whether packets of the microphone belong to the conversation."""
        return self._activity is not None

    # What the client sends.

    def take(self, message: Any) -> None:
        """Handle a message of the conversation. Raises Refusal."""
        now = self._session.now()
        match message:
            case messages.Ask():
                self._do(self.conversation.asked(message.text, now))
            case messages.Converse():
                self._converse(message)
            case messages.Duck():
                self._ducked = message.heard if message.on else None
            case messages.ToolResult():
                self._do(self.conversation.tool_answered(message.call, message.content, now))

    def _converse(self, message: messages.Converse) -> None:
        if message.problem:
            log.warning("microphone of a client: %s", printable(message.problem, one_line=True))
        if not message.on:
            hearing = self._ear is not None and self._ear.speaking
            self._ear = self._activity = None
            if hearing:
                self._do(self.conversation.stop())
            return
        if self._service.transcriber is None:
            raise Refusal(
                "no_conversation",
                "this server does not understand speech",
                "it was started without a transcription endpoint",
                "Write your question, or start it with --transcribe URL",
            )
        self._activity, self._ear = self._service.activity(), None
        self._last_sound, self._told_quiet = self._session.now(), False

    def sound(self, samples: np.ndarray, rate: int) -> None:
        """Sound of the microphone, float32 [n] in [-1, 1]."""
        assert self._activity is not None
        now = self._session.now()
        self._last_sound = now
        if self._ear is None or self._ear.rate != rate:
            self._ear = Ear(self._activity, rate)
        for event in self._ear.push(samples):
            self._noticed(event, now)

    def _noticed(self, event: Heard, now: float) -> None:
        if event.kind in ("began", "ended"):
            self._session.tell({"type": "hearing", "on": event.kind == "began"})
        self._do(self.conversation.heard(event, now))

    # What the session tells.

    def interrupted(self, heard: str | None) -> None:
        """The client has interrupted; heard: the words that were audible."""
        self._do(self.conversation.interrupted(heard or ""))

    def spoken(self) -> None:
        """An utterance was sent to its end."""
        self._do(self.conversation.spoken())

    def voice_failed(self) -> None:
        """The voice could not say the rest of an utterance."""
        self._do(self.conversation.voice_failed())

    def advance(self, now: float) -> None:
        """Give up what is late."""
        self._do(self.conversation.advance(now))
        if self.listening and not self._told_quiet and now - self._last_sound > QUIET_S:
            self._told_quiet = True
            self._fault(
                EndpointFault(
                    "silent_microphone",
                    "no sound comes from the microphone",
                    f"nothing came for {QUIET_S:g} s",
                    "Allow the microphone in the browser, or turn the conversation off",
                )
            )

    def close(self) -> None:
        """The client has gone."""
        self._cancel()

    # What the turns ask for.

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Say():
                    self._say(action)
                case EndSay():
                    self._end_say()
                case Transcribe():
                    self._start(self._transcribe(action))
                case Ask():
                    self._session.user_wrote(_last_of_user(action.messages))
                    self._start(self._ask(action))
                case Cancel():
                    self._cancel()
                case Listen():
                    self._session.listen(action.on)
                case Tell():
                    self._session.tell(action.message)
                case Fault():
                    self._fault(action.error)

    def _say(self, action: Say) -> None:
        message = messages.Speak(
            type="speak", text=action.text, utterance=f"reply-{action.turn}", more=True
        )
        try:
            self._session.say(message)
        except Refusal as refusal:
            self._session.refuse(refusal, "ask")
            self._do(self.conversation.voice_failed())

    def _end_say(self) -> None:
        try:
            self._session.end_say()
        except Refusal as refusal:
            # The voice has failed meanwhile, or half a pause was left: what was said stays.
            if refusal.name != "nothing_open":
                self._session.refuse(refusal, "ask")

    def _cut(self) -> str | None:
        ducked, self._ducked = self._ducked, None
        return self._session.cut(ducked)

    def _fault(self, error: EndpointFault) -> None:
        log.warning("conversation: %s", printable(error.message(), one_line=True))
        self._session.refuse(Refusal(error.name, error.what, error.why, error.fix), "ask")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> None:
        for task in list(self._tasks):
            if task is not _current_task():
                task.cancel()

    async def _transcribe(self, action: Transcribe) -> None:
        assert self._service.transcriber is not None
        found: str | EndpointFault
        try:
            found = await self._service.transcriber.text_of(action.samples)
        except EndpointFault as error:
            found = error
        except Exception as error:
            found = _internal(error)
        now = self._session.now()
        if isinstance(found, EndpointFault):
            self._do(self.conversation.not_transcribed(action.attempt, found, now))
        else:
            self._do(self.conversation.transcribed(action.attempt, found, now))

    async def _ask(self, action: Ask) -> None:
        conversation, turn = self.conversation, action.turn
        called = False
        try:
            async for part in self._service.chat.reply(action.messages, self._tools):
                now = self._session.now()
                if part.text:
                    self._do(conversation.replied(turn, part.text, now))
                if part.calls:
                    called = True
                    self._do(conversation.tools_called(turn, part.calls, now))
        except EndpointFault as error:
            self._do(conversation.not_replied(turn, error))
            return
        except Exception as error:
            self._do(conversation.not_replied(turn, _internal(error)))
            return
        if not called:
            self._do(conversation.reply_ended(turn))


def checked_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools of a client. Raises Refusal for those that are no tools, or too large."""
    size = len(json.dumps(tools))
    for tool in tools:
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict) or size > TOOLS_MAX:
            raise Refusal(
                "bad_message",
                "the tools cannot be used",
                f"they have {size:,} characters of JSON"
                if size > TOOLS_MAX
                else 'a tool is {"type": "function", "function": {...}}',
                f"Send at most {TOOLS_MAX:,} characters, in the form of OpenAI's interface",
                close=4400,
            )
    return tools


def _last_of_user(found: Sequence[Mapping[str, Any]]) -> str:
    """The last words of the user."""
    return next((str(m["content"]) for m in reversed(found) if m["role"] == "user"), "")


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _internal(error: Exception) -> EndpointFault:
    """A fault of this program, as an error that the conversation survives."""
    log.exception("the conversation failed")
    return EndpointFault(
        "internal", "the answer failed", f"{type(error).__name__}: {error}"[:200], "Ask again"
    )
