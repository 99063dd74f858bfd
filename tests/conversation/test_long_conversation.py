"""A long scripted conversation on a virtual clock: turns, barge-ins, faults, flat memory."""

from __future__ import annotations

import gc
import resource
import sys
from collections import deque
from typing import Any

import numpy as np
import pytest

from being.conventions import FEATURE_WINDOW, SAMPLES_PER_FRAME
from being.conversation.ear import Ear
from being.conversation.endpoints import EndpointFault
from being.conversation.history import History
from being.conversation.turns import (
    Ask,
    Cancel,
    Conversation,
    EndSay,
    Fault,
    Listen,
    Say,
    Transcribe,
)
from being.data.expression_channels import ExpressionChannels
from being.session.clauses import ClauseCutter
from being.session.live_session import LiveSession, Moment
from being.session.motion import AvatarMotion
from being.session.timeline import FRAME, RATE, VirtualClock
from being.session.utterance import SpeechBlock, Utterance

TICK = 0.02  # s
CHUNK = round(TICK * RATE)
CHANNELS = ExpressionChannels(("blink",), (0.0,), (1.0,), (0.0,), (1.0,))
AVATAR = AvatarMotion(10, CHANNELS, np.zeros((10, 1), np.float32))
SILENCE = np.zeros((FEATURE_WINDOW, 2), np.float32)
LETTER_FRAMES = 1.5
REPLY = "Well, I can tell you that. The trains run every ten minutes, and the last one is at ten."
TONE = (0.3 * np.sin(np.arange(CHUNK) / 9)).astype(np.float32)
QUIET = np.full(CHUNK, 1e-3, np.float32)


class Loudness:
    def probability(self, block: np.ndarray) -> float:
        return 0.9 if np.abs(block).max() > 0.1 else 0.02


class StillFace:
    """A motion that costs nothing."""

    def __init__(self) -> None:
        self.poses = self
        self.phase, self.hold_at = 0, None
        self.mood, self.values = "neutral", {}

    def advance(self, state: str, hearing: np.ndarray) -> tuple[int, np.ndarray]:
        return 0, np.zeros(1, np.float32)


class Scene:
    """User, endpoints, voice and session; `run` lets time pass."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.session = LiveSession(AVATAR, SILENCE, 0.0)
        self.session.motion = StillFace()  # type: ignore[assignment]
        self.talk = Conversation(History("Be kind."), self._cut)
        self.ear = Ear(Loudness(), RATE)
        # What will happen: (time, function).
        self.later: deque[tuple[float, Any]] = deque()
        self.cutter = ClauseCutter()
        self.utterance: Utterance | None = None
        self.turns = self.cuts = self.faults = self.spoken = 0
        self.heard: list[str] = []
        self.next_at: int | None = None
        self.talks_until = 0.0
        self.next_speech = 1.0

    def _cut(self) -> str | None:
        now = self.clock.now()
        if not self.session.audible(now):
            return None
        event = self.session.interrupt(now)
        self.utterance = None
        self.cuts += 1
        self.heard = (event["heard"]["text"] or "").split()
        return event["heard"]["text"] or ""

    def after(self, seconds: float, run: Any) -> None:
        self.later.append((self.clock.now() + seconds, run))

    def do(self, actions: list[Any]) -> None:
        now = self.clock.now()
        for action in actions:
            match action:
                case Transcribe():
                    self._transcribe(action.attempt)
                case Ask():
                    self._ask(action.turn)
                case Say():
                    self._say(self.cutter.push(action.text), now)
                case EndSay():
                    self._say(self.cutter.finish(), now)
                    if self.utterance is not None:
                        self.session.end_utterance(self.utterance)
                    self.cutter = ClauseCutter()
                case Cancel():
                    self.later.clear()
                    self.cutter = ClauseCutter()
                case Listen():
                    self.session.listen(action.on)
                case Fault():
                    self.faults += 1

    def _transcribe(self, attempt: int) -> None:
        self.after(0.3, lambda: self.talk.transcribed(attempt, "When?", self.clock.now()))

    def _ask(self, turn: int) -> None:
        self.turns += 1
        breaks = self.turns % 5 == 0
        words = REPLY[: len(REPLY) // 2] if breaks else REPLY
        for number, at in enumerate(range(0, len(words), 6)):
            piece = words[at : at + 6]
            self.after(
                0.4 + 0.05 * number,
                lambda piece=piece: self.talk.replied(turn, piece, self.clock.now()),
            )
        error = EndpointFault("endpoint_broke_off", "it broke off")
        end = (
            (lambda: self.talk.not_replied(turn, error))
            if breaks
            else (lambda: self.talk.reply_ended(turn))
        )
        self.after(0.5 + 0.05 * len(words) / 6, end)

    def _say(self, clauses: list[str], now: float) -> None:
        for clause in clauses:
            if self.utterance is None or self.session.utterance is not self.utterance:
                self.utterance = self.session.open_utterance(f"reply-{self.talk.turn}")
                self.spoken = 0
            frames = round(LETTER_FRAMES * len(clause))
            words, start = [], self.spoken
            for word in clause.split():
                length = round(LETTER_FRAMES * (len(word) + 1)) * FRAME
                words.append((word, start, start + length))
                start += length
            self.spoken += frames * FRAME
            self.session.add_speech(
                self.utterance,
                SpeechBlock(
                    np.full(frames * FRAME, 900, np.int16),
                    np.zeros(frames * SAMPLES_PER_FRAME, np.float32),
                    np.ones((frames, FEATURE_WINDOW, 2), np.float32),
                    words,
                ),
            )

    def run(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self._step()

    def _step(self) -> None:
        self.clock.advance(TICK)
        now = self.clock.now()
        # The user asks, waits for the answer, and interrupts two of three.
        if now >= self.next_speech and self.talks_until < now:
            self.talks_until = now + 1.2
            self.next_speech = now + (4.5 if self.turns % 3 else 12.0)
        for event in self.ear.push(TONE if now < self.talks_until else QUIET):
            self.do(self.talk.heard(event, now))
        while self.later and self.later[0][0] <= now:
            self.do(self.later.popleft()[1]())
        for item in self.session.advance(now):
            if isinstance(item, Moment):
                assert self.next_at is None or item.at == self.next_at, "a gap in the sound"
                self.next_at = item.at + FRAME
            elif item["type"] == "speaking_ended":
                self.utterance = None
                self.do(self.talk.spoken())
        self.do(self.talk.advance(now))


def check(seconds: float) -> dict[str, float]:
    """Run the scene; memory is compared between its middle and its end."""
    scene = Scene()
    scene.run(seconds / 2)
    gc.collect()
    before = sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scene.run(seconds / 2)
    gc.collect()
    after = sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert scene.turns > seconds / 12 and scene.cuts > scene.turns / 4, (scene.turns, scene.cuts)
    assert scene.session.epoch == scene.cuts
    assert abs(scene.faults - scene.turns / 5) <= 0.15 * scene.turns + 1
    for message in scene.talk.history.messages():
        assert message["role"] == "system" or message["content"].split()[0] in ("When?", "Well,")
    cut = " ".join(scene.heard)
    assert REPLY.startswith(cut) and len(cut) < len(REPLY)
    return {
        "turns": scene.turns,
        "cuts": scene.cuts,
        "blocks": after[0] - before[0],
        "kib": after[1] - before[1],
    }


def test_a_minute_of_conversation() -> None:
    assert check(60)["blocks"] < 2000


@pytest.mark.slow
def test_an_hour_of_conversation_with_flat_memory() -> None:
    found = check(3600)
    print(found)
    assert found["turns"] > 400 and found["blocks"] < 2000 and found["kib"] < 1024
