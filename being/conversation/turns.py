"""The turns of a conversation: who speaks, what is asked of the endpoints, when an answer is late.

`Conversation` does no input or output and reads no clock. A driver tells it what happens and the
time, and does what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from being.conventions import SAMPLE_RATE
from being.conversation.chat_client import ToolCall
from being.conversation.ear import Heard
from being.conversation.endpoints import EndpointFault
from being.conversation.history import History, heard_part
from being.conversation.words import certain_end

Phase = Literal["idle", "hearing", "transcribing", "thinking", "speaking"]


@dataclass(frozen=True)
class Patience:
    """How long endpoints and tools may take, s."""

    transcript: float = 10.0
    first_word: float = 20.0
    next_word: float = 10.0
    tool: float = 60.0


QUESTION_MAX, REPLY_MAX = 5_000, 6_000  # characters
SPEECH_MOST = 120 * SAMPLE_RATE  # samples of one question
TOOL_ROUNDS_MAX = 8  # in one turn


@dataclass(frozen=True)
class Transcribe:
    """Ask for the words in float32 samples at 16 kHz; answer with `transcribed`."""

    attempt: int
    samples: np.ndarray


@dataclass(frozen=True)
class Ask:
    """Ask the chat endpoint; answer with `replied` and `reply_ended`."""

    turn: int
    messages: list[dict[str, Any]]


@dataclass(frozen=True)
class Say:
    """Let the avatar say more of the reply of this turn."""

    turn: int
    text: str


@dataclass(frozen=True)
class EndSay:
    """The reply that is being said gets no more text."""


@dataclass(frozen=True)
class Cancel:
    """Give up what the endpoints are asked for."""


@dataclass(frozen=True)
class Listen:
    """The avatar shows that it listens, or no longer."""

    on: bool


@dataclass(frozen=True)
class Tell:
    """A message for the client: `turn`, `transcript` or `tool_call` of the protocol."""

    message: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something went wrong that the client and the log are told. The conversation goes on."""

    error: EndpointFault


Action = Transcribe | Ask | Say | EndSay | Cancel | Listen | Tell | Fault


class Conversation:
    """One conversation; see the module."""

    def __init__(
        self,
        history: History,
        cut: Callable[[], str | None],
        patience: Patience | None = None,
    ):
        """cut: cuts what the avatar says, and returns the words of it that were audible; None where
        it said nothing.
        """
        self.history, self._cut_session = history, cut
        self.turn = 0
        self.phase: Phase = "idle"
        self._patience = patience or Patience()
        self._deadline: float | None = None
        self._attempt = 0  # number of the last transcription
        self._early: str | None = None  # a transcript that came before the end was certain
        self._asked_early = False
        self._speech: np.ndarray | None = None  # of the last transcription
        self._carried: np.ndarray | None = None  # speech that was not transcribed in time
        self._held = ""  # the beginning of a word that has not ended yet
        self._said = ""  # all that was given to the voice in this turn
        self._before = 0  # characters of it that belong to earlier messages of the turn
        self._ended = False  # the reply is complete
        self._waiting: dict[str, str | None] = {}  # results of tools by call
        self._rounds = 0

    # What the user does.

    def heard(self, event: Heard, now: float) -> list[Action]:
        """The ear has noticed something."""
        if event.kind == "began":
            return self._speech_began()
        if event.kind == "silent":
            return [Fault(_silent_microphone())]
        if self.phase != "hearing":
            return []  # the turn was given up meanwhile
        if event.kind == "resumed":
            self._early, self._asked_early = None, False
            self._attempt += 1  # a transcript that is on its way is of no use
            return [Cancel()]
        assert event.samples is not None
        if event.kind == "paused":
            self._asked_early = True
            return [self._transcribe(event.samples)]
        return self._speech_ended(event.samples, now)

    def asked(self, text: str, now: float) -> list[Action]:
        """The user has written a question."""
        actions = self._cut()
        self._begin_turn()
        self._carried = None
        return [*actions, *self._question(text[:QUESTION_MAX], now)]

    def stop(self) -> list[Action]:
        """The user wants no answer any more, or speaks no longer to the avatar."""
        if self.phase == "idle":
            return []
        actions = self._cut()
        self._forget_reply()
        self._carried = None
        return [*actions, *self._be("idle")]

    # What the endpoints answer.

    def transcribed(self, attempt: int, text: str, now: float) -> list[Action]:
        """The words of speech; "" where there are none."""
        if attempt != self._attempt:
            return []
        if self.phase == "hearing":
            self._early = text
            return []
        return self._understood(text, now) if self.phase == "transcribing" else []

    def not_transcribed(self, attempt: int, error: EndpointFault, now: float) -> list[Action]:
        """The transcription failed."""
        if attempt != self._attempt:
            return []
        if self.phase == "hearing":
            self._asked_early = False  # it is tried again at the end
            return []
        return self._fail(error)

    def replied(self, turn: int, text: str, now: float) -> list[Action]:
        """The next piece of the reply."""
        if not self._awaits(turn):
            return []
        self._deadline = now + self._patience.next_word
        self._held += text
        end = certain_end(self._held)
        piece, self._held = self._held[:end], self._held[end:]
        actions = self._say(piece)
        if len(self._said) + len(self._held) > REPLY_MAX:
            error = EndpointFault(
                "reply_too_long",
                "the reply is too long",
                f"it has more than {REPLY_MAX:,} characters",
                "Ask for shorter answers in the system prompt",
            )
            return [*actions, *self._fail(error)]
        return actions

    def tools_called(self, turn: int, calls: Sequence[ToolCall], now: float) -> list[Action]:
        """The reply calls tools; the client answers with `tool_answered`."""
        if not self._awaits(turn):
            return []
        actions = self._flush()
        self._rounds += 1
        if self._rounds > TOOL_ROUNDS_MAX:
            return [*actions, *self._fail(_too_many_rounds())]
        for number, call in enumerate(calls):
            call.id = call.id or f"call-{self.turn}-{self._rounds}-{number}"
        self.history.add_calls(calls)
        self._before = len(self._said)
        self._waiting = {call.id: None for call in calls}
        self._deadline = now + self._patience.tool
        return [
            *actions,
            *(Tell({"type": "tool_call", "turn": turn, **vars(call)}) for call in calls),
        ]

    def tool_answered(self, call: str, content: str, now: float) -> list[Action]:
        """The client gives the result of a call. One that nobody asked for is ignored."""
        if self._waiting.get(call, "") is not None:
            return []
        self._waiting[call] = content
        if None in self._waiting.values():
            return []
        for name, result in self._waiting.items():
            self.history.add_result(name, result or "")
        self._waiting = {}
        self._deadline = now + self._patience.first_word
        return [Ask(self.turn, self.history.messages())]

    def reply_ended(self, turn: int) -> list[Action]:
        """The reply is complete."""
        if not self._awaits(turn) or self._waiting:
            return []
        actions = self._flush()
        self._deadline, self._ended = None, True
        if not self._said.strip():
            error = EndpointFault(
                "endpoint_nonsense",
                "the chat endpoint answered nothing",
                "its reply has no text",
                "Ask again; check the name of the model",
            )
            return [*actions, *self._fail(error)]
        return [*actions, EndSay(), *self._tell_reply(final=True)]

    def not_replied(self, turn: int, error: EndpointFault) -> list[Action]:
        """The chat endpoint failed, perhaps in the middle of a reply."""
        return self._fail(error) if self._awaits(turn) else []

    # What the session tells.

    def spoken(self) -> list[Action]:
        """The session has played an utterance to its end, or could not make the rest of it."""
        if self.phase != "speaking" or not self._ended:
            return []
        return self._be("idle")

    def interrupted(self, heard: str) -> list[Action]:
        """The client has cut the avatar; heard: the words that were audible."""
        answers = self.phase in ("thinking", "speaking")
        told = self._keep_heard(heard)
        if not answers:
            return told
        self._give_up()
        return [Cancel(), *told, *self._be("idle")]

    def voice_failed(self) -> list[Action]:
        """The voice could not say the rest of the reply."""
        if self.phase not in ("thinking", "speaking"):
            return []
        self._give_up()
        self._forget_reply()
        return [Cancel(), *self._be("idle")]

    def advance(self, now: float) -> list[Action]:
        """What is late is given up."""
        if self._deadline is None or now < self._deadline:
            return []
        waits = {
            "transcribing": ("the transcription endpoint", self._patience.transcript),
            "thinking": ("the chat endpoint", self._patience.first_word),
            "speaking": ("the chat endpoint", self._patience.next_word),
        }
        who, seconds = waits.get(self.phase, ("an endpoint", 0.0))
        if self._waiting:
            who, seconds = "a tool of the client", self._patience.tool
        return self._fail(
            EndpointFault(
                "endpoint_stalled",
                f"{who} does not answer",
                f"nothing came for {seconds:g} s",
                "Ask again; look into its log",
            )
        )

    # How turns go on.

    def _speech_began(self) -> list[Action]:
        """The user speaks: what the avatar says or thinks of is cut."""
        if self.phase == "transcribing":
            self._carried = self._speech
        actions = self._cut()
        self._begin_turn()
        return [*actions, Listen(True), *self._be("hearing")]

    def _speech_ended(self, samples: np.ndarray, now: float) -> list[Action]:
        actions: list[Action] = [Listen(False), *self._be("transcribing")]
        self._deadline = now + self._patience.transcript
        if self._early is not None:
            return [*actions, *self._understood(self._early, now)]
        if not self._asked_early:
            actions.append(self._transcribe(samples))
        return actions

    def _transcribe(self, samples: np.ndarray) -> Transcribe:
        if self._carried is not None:
            samples = np.concatenate([self._carried, samples])[-SPEECH_MOST:]
        self._attempt += 1
        self._speech = samples
        return Transcribe(self._attempt, samples)

    def _understood(self, text: str, now: float) -> list[Action]:
        self._carried = None
        if any(letter.isalnum() for letter in text):
            return self._question(text[:QUESTION_MAX], now)
        self._deadline = None
        return self._be("idle", understood=False)

    def _question(self, text: str, now: float) -> list[Action]:
        self.history.add_user(text)
        self._deadline = now + self._patience.first_word
        told = {"type": "transcript", "turn": self.turn, "role": "user", "text": text}
        return [
            Tell({**told, "final": True}),
            *self._be("thinking"),
            Ask(self.turn, self.history.messages()),
        ]

    def _begin_turn(self) -> None:
        self.turn += 1
        self._attempt += 1
        self._early, self._asked_early = None, False
        self._forget_reply()

    def _cut(self) -> list[Action]:
        """Give up what is going on, with the avatar's words if it speaks.

        The last words may be audible though all was sent.
        """
        heard = self._cut_session()
        told = [] if heard is None else self._keep_heard(heard)
        self._give_up()
        quiet = [Listen(False)] if self.phase == "hearing" else []
        return [Cancel(), *quiet, *told]

    def _keep_heard(self, heard: str) -> list[Action]:
        """Of the reply, keep what was heard."""
        if not self._said:
            return []
        part = heard_part(self._said, heard)
        self.history.keep_heard(part[self._before :])
        self._forget_reply()
        return self._tell_reply(final=True, text=part)

    def _give_up(self) -> None:
        """Wait for nothing any more."""
        self._deadline, self._waiting = None, {}
        self.history.forget_calls()

    def _fail(self, error: EndpointFault) -> list[Action]:
        """Tell a fault. What was said of the reply stays; half a word is not said."""
        self._give_up()
        self._held, self._carried = "", None
        self._attempt += 1
        if not self._said.strip():
            self._forget_reply()
            return [Cancel(), Fault(error), *self._be("idle")]
        self._ended = True
        return [Cancel(), EndSay(), *self._tell_reply(final=True), Fault(error)]

    def _say(self, text: str) -> list[Action]:
        if not text:
            return []
        self._said += text
        self.history.add_reply(text)
        begun = [] if self.phase == "speaking" else self._be("speaking")
        return [*begun, Say(self.turn, text), *self._tell_reply(final=False, text=text)]

    def _flush(self) -> list[Action]:
        """Say what was held back."""
        text, self._held = self._held, ""
        return self._say(text)

    def _tell_reply(self, final: bool, text: str | None = None) -> list[Action]:
        text = self._said if text is None else text
        message = {"type": "transcript", "turn": self.turn, "role": "assistant", "text": text}
        return [Tell({**message, "final": final})]

    def _awaits(self, turn: int) -> bool:
        """Whether the reply of this turn is still wanted."""
        return turn == self.turn and self.phase in ("thinking", "speaking") and not self._ended

    def _forget_reply(self) -> None:
        self._said, self._held, self._before = "", "", 0
        self._ended, self._rounds, self._waiting = False, 0, {}

    def _be(self, phase: Phase, understood: bool = True) -> list[Action]:
        if phase == "idle":
            self._deadline = None
        self.phase = phase
        message = {"type": "turn", "turn": self.turn, "phase": phase, "understood": understood}
        return [Tell(message)]


def _silent_microphone() -> EndpointFault:
    return EndpointFault(
        "silent_microphone",
        "the microphone is silent",
        "nothing but silence came from it",
        "Turn it on, or choose another one in the browser's settings",
    )


def _too_many_rounds() -> EndpointFault:
    return EndpointFault(
        "endpoint_nonsense",
        "the chat endpoint calls tools without end",
        f"it did so {TOOL_ROUNDS_MAX} times in one turn",
        "Ask again; check the tools",
    )
