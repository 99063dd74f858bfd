"""One live session: what is played and shown at each moment, its states and its epochs.

`LiveSession` does no input or output and starts no thread. A driver tells it what arrives and the
time, and asks with `advance` for all moments that are due. A moment is 40 ms of sound and the order
for the picture that belongs to it. Sound is made without a gap; pictures are left out when they
come too late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from being.conventions import (
    ATTENTION_OFFSETS,
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    SAMPLES_PER_FRAME,
)
from being.session.motion import HEARING_FRAMES, AvatarMotion, Motion
from being.session.playback import PlaybackClock
from being.session.refusals import Refusal
from being.session.timeline import FRAME, RATE
from being.session.utterance import SpeechBlock, Utterance

SILENT_ROW = -1  # in the window of an order: the row of silence
# Frames after an interrupt, or where sound starves, in which the lips close: their features go from
# those that they saw to those of silence.
CLOSING_FRAMES = 5
# Frames at the beginning of speech in which the features come out of those of silence.
ONSET_FRAMES = 6
# Rows that are kept in case the worker needs them again.
RECENT_ROWS = 4 * ATTENTION_WINDOW
# Rows of a session that the worker keeps; more than any order in flight reads.
KEPT_ROWS = 2 * RECENT_ROWS
# Pictures of a session that may be rendered at the same time.
MAX_IN_FLIGHT = 3
LOOK_AGAIN_S = 0.01  # between looks whether a picture that holds others up has come
# Name and value of an event, which becomes a JSON message.
Event = dict[str, Any]


@dataclass(frozen=True)
class FrameOrder:
    """A picture to render."""

    pose: int
    expression: np.ndarray  # float32 [E]
    # Numbers of the rows that the picture reads, int32 [8]; SILENT_ROW
    window: np.ndarray
    # Rows that are needed for the first time: number and float32 [16, C]
    rows: list[tuple[int, np.ndarray]]


@dataclass(frozen=True)
class Moment:
    """40 ms of the session."""

    epoch: int
    at: int  # samples on the timeline
    samples: np.ndarray | None  # int16 [960], None for silence
    order: FrameOrder | None  # None: the picture is left out
    speaking: bool


@dataclass
class Counters:
    """What a session has done so far."""

    frames: int = 0  # ordered
    dropped: int = 0  # left out because they would be late
    starved: int = 0  # moments in which an open utterance had no sound
    late_rows: int = 0  # frames whose own row of features was late
    interrupts: int = 0


@dataclass
class _Spoken:
    """The part of an utterance that is on the timeline."""

    utterance: Utterance
    # (samples on the timeline, samples from the start of the utterance), one for each unbroken run
    runs: list[tuple[int, int]] = field(default_factory=list)
    stop: int = 0  # samples on the timeline

    def heard(self, position: int) -> int:
        """Samples of the utterance that were audible up to `position` on the timeline."""
        heard = 0
        for at, start in self.runs:
            if position > at:
                heard = start + min(position, self.stop) - at
        return max(0, heard)


class LiveSession:
    """A session of one avatar; see the module."""

    def __init__(
        self,
        avatar: AvatarMotion,
        silent_row: np.ndarray,
        now: float,
        seed: int = 0,
        resume: Any = None,
        offsets: Sequence[int] = ATTENTION_OFFSETS,
    ):
        """silent_row: the row float32 [16, C] of silence. now: time in s. resume: an object of
        `resume()` that the client kept, or None. offsets: the eight rows that a picture reads,
        relative to its own.

        Raises Refusal for a mood or expression in `resume` that the avatar lacks.
        """
        self._silent_row = silent_row
        self._offsets = np.asarray(offsets)
        self._future = max(0, int(self._offsets.max()))  # rows after a picture's own
        kept = _Kept.of(resume)
        self.epoch = kept.epoch
        self.next_at = kept.at  # samples on the timeline of the next moment
        self.start_at = self.next_at
        self.motion = Motion(avatar, seed, kept.phase)
        if kept.mood != "neutral" or kept.values:
            self.motion.express(kept.mood, kept.values)
        if kept.hold:
            self.motion.poses.hold(None)
        self.playback = PlaybackClock(now, self.next_at)
        self.counters = Counters()
        self.listening = False
        self.speaking = False
        # Pictures that may be made at the same time.
        self.most_in_flight = MAX_IN_FLIGHT

        self._utterance: Utterance | None = None  # open, or not spoken to its end
        self._spoken: _Spoken | None = None  # the utterance that was last on the timeline
        # Of the frames before the next one: numbers of their rows.
        self._past = deque([SILENT_ROW] * ATTENTION_PAST, maxlen=ATTENTION_PAST)
        # The last rows of windows, by number, and the numbers that the worker has.
        self._recent: dict[int, np.ndarray] = {}
        self._known_rows = deque[int](maxlen=RECENT_ROWS)
        self._run = 0  # frames of speech since the last pause
        # Rows get numbers when they are first seen: those of the utterance's frames, and the next.
        self._numbers: dict[int, int] = {}
        self._next_row = 0
        self._closing: deque[int] = deque()  # numbers of rows with which the lips close
        self._last_seen: list[int] = []  # rows of the last frame and of those after it
        self._state = "idle"

    # What the client and the voice ask for.

    @property
    def utterance(self) -> Utterance | None:
        """The utterance that is open, or that is not spoken to its end."""
        return self._utterance

    @property
    def state(self) -> str:
        """ "idle", "listening" or "speaking", at the next moment."""
        if self.speaking:
            return "speaking"
        return "listening" if self.listening else "idle"

    def audible(self, now: float) -> bool:
        """Whether speech is open, or its end is still on its way to the client's ear."""
        spoken = self._spoken
        if self._utterance is not None:
            return True
        return spoken is not None and self.playback.position(now) < spoken.stop

    def open_utterance(self, name: str, streamed: bool = False, live: bool = False) -> Utterance:
        """Begin an utterance; arguments as for `Utterance`.

        Raises Refusal while another one is open or spoken.
        """
        if self._utterance is not None:
            raise Refusal(
                "already_speaking",
                "the avatar is speaking already",
                f"the utterance {self._utterance.name!r} is not spoken to its end",
                "Interrupt it first, or append text with `more` and the same `utterance`",
            )
        self._utterance = Utterance(name, streamed, live, 1 + self._future)
        self._numbers.clear()
        return self._utterance

    def add_speech(self, utterance: Utterance, block: SpeechBlock) -> None:
        """Sound and rows for the utterance; thrown away where it is over or interrupted."""
        if self._utterance is utterance:
            utterance.add(block)

    def end_utterance(self, utterance: Utterance) -> None:
        """No more sound follows for the utterance. Rows may follow."""
        if self._utterance is utterance:
            utterance.close()

    def abandon(self, utterance: Utterance) -> None:
        """The rest of the utterance cannot be made: it ends here."""
        if self._utterance is utterance:
            utterance.abandon()
            if not self.speaking:
                self._utterance = None

    def interrupt(self, now: float, heard: int | None = None) -> Event:
        """Empty everything and begin a new epoch; the event `interrupted`.

        heard: position on the timeline that was audible last, of this epoch; default: estimated.
        """
        position = round(self.playback.position(now)) if heard is None else heard
        position = max(self.start_at, min(position, self.next_at))
        spoken = self._spoken
        audible = spoken.heard(position) if spoken else 0
        speaking_now = self._utterance is not None or (spoken and position < spoken.stop)
        name = spoken.utterance.name if spoken and speaking_now else None
        if name is None and self._utterance is not None:
            name = self._utterance.name
        told = spoken.utterance.said_until(audible) if spoken and speaking_now else None

        self.epoch += 1
        self.counters.interrupts += 1
        if self._run:
            self._close_lips()
        self._utterance = self._spoken = None
        self.speaking, self._run = False, 0
        self.start_at = self.next_at
        self.playback.begin(now, self.next_at)
        return {
            "type": "interrupted",
            "epoch": self.epoch,
            "utterance": name,
            "heard": {
                "samples": position,
                "seconds": round(audible / RATE, 3) if speaking_now else 0.0,
                "text": told,
            },
            "at": self.next_at,
            "resume": self.resume(),
        }

    def listen(self, on: bool) -> None:
        """The avatar listens, or no longer."""
        self.listening = on

    def express(self, mood: str | None, values: Mapping[str, float] | None) -> None:
        """See `Motion.express`."""
        self.motion.express(mood, values)

    def pose(self, mode: str, at: float | None) -> None:
        """ "loop": the head moves; "hold": it goes to `at` (0 to 1, None: here) and stays."""
        if mode == "loop":
            self.motion.poses.loop()
        else:
            self.motion.poses.hold(at)

    def heard(self, now: float, epoch: int, position: int, buffered: int | None = None) -> None:
        """The client reports its position; one of another epoch is ignored."""
        if epoch == self.epoch:
            self.playback.report(now, max(self.start_at, position), buffered)

    def picture_sent(self, now: float, at: int) -> None:
        """The picture of time `at` is on its way to the client; late ones widen the lead."""
        self.playback.picture_sent(now, at)

    def forget_rows(self) -> None:
        """The worker lost its rows (it was started again): orders bring them along again."""
        self._known_rows.clear()

    def resume(self) -> dict[str, Any]:
        """What another server needs to go on with this session; JSON types."""
        poses = self.motion.poses
        return {
            "epoch": self.epoch,
            "at": self.next_at,
            "mood": self.motion.mood,
            "values": dict(self.motion.values),
            "phase": poses.phase,
            "hold": poses.hold_at is not None,
        }

    # What is played and shown.

    def advance(self, now: float, in_flight: int = 0) -> list[Event | Moment]:
        """All events and moments that are due, in order.

        in_flight: pictures that are being rendered; more than a few of them leave pictures out.
        """
        due: list[Event | Moment] = []
        utterance = self._utterance
        if utterance is None:
            self.playback.relax()
        elif self._run == 0 and self._can_speak(utterance) and not utterance.streamed:
            self.playback.hurry(now)
        while self.playback.due(now) or self._eager(now, in_flight):
            moment = self._moment(due, in_flight >= self.most_in_flight)
            in_flight += moment.order is not None
            due.append(moment)
            self._end_if_finished(due)
            self.playback.produced(now, FRAME)
        return due

    def seconds_to_next(self, now: float) -> float:
        """Time until a moment can be due, s, where nothing arrives before."""
        due = self.playback.seconds_to_due(now)
        if self._complete():
            # A picture that is under way may hold the next one up: that shows by looking again.
            due = min(due, self.playback.seconds_to_allowed(now) or LOOK_AGAIN_S)
        return due

    def _eager(self, now: float, in_flight: int) -> bool:
        """Whether the next frame is made before its time: of streamed sound, which cannot come
        sooner, and whose picture should not wait.
        """
        waits = in_flight < self.most_in_flight - 1
        return self._complete() and waits and self.playback.allowed(now)

    def _complete(self) -> bool:
        """Whether all that the next frame of streamed sound needs is there."""
        utterance = self._utterance
        if utterance is None or not utterance.streamed or not utterance.open:
            return False
        return utterance.complete if self._run else self._can_speak(utterance)

    def _moment(self, events: list[Event | Moment], without_picture: bool) -> Moment:
        """The next 40 ms; events that come before it are appended to `events`."""
        at, samples = self.next_at, None
        utterance = self._utterance
        own, future = SILENT_ROW, [SILENT_ROW] * self._future
        speaks = utterance is not None and self._can_speak(utterance)
        if speaks:
            assert utterance is not None
            self._closing.clear()
            samples = self._speak(utterance, at, events)
            own, future = self._window(utterance)
        else:
            self._pause(events)
            if self._closing:
                own, *following = self._closing
                self._closing.popleft()
                future = [*following, *future][: self._future]

        # Blinks and brows hear the sound that comes after this frame.
        hearing = np.zeros(SAMPLES_PER_FRAME, np.float32)
        if speaks and utterance is not None:
            hearing = utterance.hearing(HEARING_FRAMES)
        self._tell_state(events)
        pose, expression = self.motion.advance(self._state, hearing)

        window = np.array([*self._past, own, *future], np.int32)[ATTENTION_PAST + self._offsets]
        self._past.append(own)
        self._last_seen = [row for row in (own, *future) if row != SILENT_ROW]
        self.next_at += FRAME
        order = None
        if without_picture:
            self.counters.dropped += 1
        else:
            self.counters.frames += 1
            order = FrameOrder(pose, expression, window, self._first_seen(window))
        return Moment(self.epoch, at, samples, order, speaks)

    def _can_speak(self, utterance: Utterance) -> bool:
        """Whether the next frame of the utterance is played now.

        The first one waits for its row of features, and streamed sound does after each pause. After
        that only the sound counts: it is never held back for a row that is late.
        """
        begun = self._spoken is not None and self._spoken.utterance is utterance
        waits = utterance.streamed and utterance.open
        if self._run or (begun and not waits):
            return utterance.ready
        return utterance.startable

    def _speak(self, utterance: Utterance, at: int, events: list[Event | Moment]) -> np.ndarray:
        """The sound of the next frame of the utterance, int16 [960]."""
        frame = utterance.take()
        begins = self._spoken is None or self._spoken.utterance is not utterance
        if begins:
            self._spoken = _Spoken(utterance)
            self.speaking = True
            events.append(self._event("speaking_started", utterance=utterance.name, at=at))
        spoken = self._spoken
        assert spoken is not None
        if self._run == 0 or utterance.dropped:
            spoken.runs.append((at, frame.start))
        spoken.stop = at + FRAME
        self._run += 1
        if frame.words:
            shift = at - frame.start
            words = [{"text": w, "start": a + shift, "end": b + shift} for w, a, b in frame.words]
            events.append(self._event("words", utterance=utterance.name, words=words))
        return frame.samples

    def _pause(self, events: list[Event | Moment]) -> None:
        """No sound at this moment, though an utterance may be open."""
        if self._utterance is not None and self._run:
            # Nothing came in time: the mouth closes until sound comes.
            self.counters.starved += 1
            self._close_lips()
            self._run = 0
        self._end_if_finished(events)

    def _close_lips(self) -> None:
        """Make rows that lead from the last ones that the lips saw to silence."""
        seen = [self._recent[number] for number in self._last_seen if number in self._recent]
        self._closing.clear()
        for k in range(CLOSING_FRAMES if seen else 0):
            row, share = seen[min(k + 1, len(seen) - 1)], 1 - (k + 1) / (CLOSING_FRAMES + 1)
            self._closing.append(self._new_row(row, share))

    def _end_if_finished(self, events: list[Event | Moment]) -> None:
        """End the utterance when all of it is on the timeline."""
        utterance = self._utterance
        if utterance is None or not utterance.finished:
            return
        self._utterance, self._run = None, 0
        if self.speaking:
            self.speaking = False
            assert self._spoken is not None
            seconds = utterance.taken * FRAME / RATE
            events.append(
                self._event(
                    "speaking_ended",
                    utterance=utterance.name,
                    at=self._spoken.stop,
                    seconds=round(seconds, 3),
                )
            )

    def _window(self, utterance: Utterance) -> tuple[int, list[int]]:
        """Numbers of the rows of this frame and of the next ones that it reads.

        In the first frames of speech the rows come out of silence. So the lips begin to move
        without a jump, though nothing of the speech was known in the frames before.
        """
        if utterance.rows_received < utterance.taken:
            self.counters.late_rows += 1
        share = min(1.0, self._run / ONSET_FRAMES)
        numbers = []
        for ahead in range(self._future + 1):
            found = utterance.row(ahead)
            if found is None:
                numbers.append(SILENT_ROW)
            elif share < 1:
                numbers.append(self._new_row(found[1], share))
            else:
                if found[0] not in self._numbers:
                    self._numbers[found[0]] = self._new_row(found[1])
                numbers.append(self._numbers[found[0]])
        for kept in (self._recent, self._numbers):
            while len(kept) > RECENT_ROWS:
                del kept[next(iter(kept))]
        return numbers[0], numbers[1:]

    def _new_row(self, row: np.ndarray, share: float = 1.0) -> int:
        """The number of a new row: `share` of `row`, the rest silence."""
        number, self._next_row = self._next_row, self._next_row + 1
        self._recent[number] = row if share == 1 else share * row + (1 - share) * self._silent_row
        return number

    def _first_seen(self, window: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """The rows of the window that were not in an earlier order, with their numbers."""
        found = []
        for number in window.tolist():
            if number != SILENT_ROW and number not in self._known_rows:
                self._known_rows.append(number)
                found.append((number, self._recent[number]))
        return found

    def _tell_state(self, events: list[Event | Moment]) -> None:
        if self.state != self._state:
            self._state = self.state
            events.append(
                self._event("state", at=self.next_at, state=self._state, resume=self.resume())
            )

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "epoch": self.epoch, **fields}


@dataclass(frozen=True)
class _Kept:
    """The checked content of a `resume` object; wrong values become the defaults."""

    epoch: int = 0
    at: int = 0
    mood: str = "neutral"
    values: dict[str, float] = field(default_factory=dict)
    phase: int = 0
    hold: bool = False

    @classmethod
    def of(cls, data: Any) -> _Kept:
        """`data` comes from a client, so nothing in it is trusted."""
        if not isinstance(data, dict):
            return cls()

        def number(name: str, most: int) -> int:
            value = data.get(name)
            if not isinstance(value, int) or isinstance(value, bool):
                return 0
            return value if 0 <= value <= most else 0

        values = data.get("values")
        kept = {}
        if isinstance(values, dict) and len(values) <= 64:
            kept = {
                str(name): float(value)
                for name, value in values.items()
                if isinstance(value, (int, float)) and abs(value) <= 2
            }
        mood = data.get("mood")
        epoch, at = number("epoch", 1 << 31), number("at", 1 << 52)
        return cls(
            epoch + 1 if "epoch" in data else 0,
            -(-at // FRAME) * FRAME,
            mood if isinstance(mood, str) else "neutral",
            kept,
            number("phase", 1 << 31),
            data.get("hold") is True,
        )
