"""Coefficients for clients that draw by themselves: the work of a front process, in batches.

A session whose client draws needs no picture from the render process. The front computes its mouth
codes and its coefficients, for all such sessions together: once a tick, and a tick at most every
`TICK_S`. Everything runs in the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from being.audio.causal_conformer import shipped_weights
from being.data.mouth import CODE_GAIN
from being.inference.mouth_streams import MouthStreams
from being.model.coefficient_net import quantised
from being.session.avatar_facts import AvatarFacts
from being.session.feature_worker import FeatureWorker, MadeCode
from being.session.live_session import RECENT_ROWS, SILENT_ROW, FrameOrder

TICK_S = 0.016  # between two ticks at least: what comes in between is computed in one batch
# Of a tick for mouth codes, wall: what is left waits for the next tick. In between, sessions and
# sockets have their turn, so that a front with too much to do is late and does not stand still.
CODES_S = 0.02
MOST_ORDERS = 16  # of a session that wait for a tick


@dataclass(frozen=True)
class DrawnFrame:
    """What a client needs to draw a frame."""

    token: int  # of the order
    pose: int
    step: float  # a coefficient is step * number
    numbers: np.ndarray  # int16 [K]


@dataclass
class Spent:
    """Processor time of the event loop's thread, s."""

    encoder: float = 0.0  # sound to mouth codes
    net: float = 0.0  # codes, expressions and poses to coefficients
    sending: float = 0.0  # packets, and their way into the socket


class FrontSound:
    """The place of one session among the mouth codes. Implements `SoundPlace`."""

    def __init__(self, worker: CoefficientWorker, features: FeatureWorker):
        self._worker, self._features = worker, features
        self._utterance = 0
        self.receive_code: Callable[[int, int, np.ndarray], None] = lambda *_: None
        features.open(self)

    def new_utterance(self) -> int:
        """See `SoundPlace.new_utterance`."""
        self._utterance += 1
        self.send_sound(self._utterance, 0, 0, np.zeros(0, np.float32))
        return self._utterance

    def send_sound(self, utterance: int, first: int, frames: int, samples: np.ndarray) -> None:
        """See `SoundPlace.send_sound`."""
        self._features.put(self, utterance, first, frames, samples)
        self._worker.tick_soon()

    def close(self) -> None:
        """Free the place."""
        self.receive_code = lambda *_: None
        self._features.close(self)


class CoefficientPlace:
    """The place of one session whose client draws: orders in, frames out."""

    def __init__(self, worker: CoefficientWorker, facts: AvatarFacts, leave: Callable[[], None]):
        """leave: called when the place is closed."""
        assert facts.net is not None
        self.facts = facts
        self._worker, self._leave = worker, leave
        self._silent = facts.silent_row[0] / np.float32(CODE_GAIN)
        self._codes: dict[int, np.ndarray] = {}  # by the number of their row
        self._waiting: list[tuple[FrameOrder, int]] = []
        self._tell_nobody()

    def _tell_nobody(self) -> None:
        # Called with the frames of a tick.
        self.receive: Callable[[list[DrawnFrame]], None] = lambda frames: None

    @property
    def in_flight(self) -> int:
        """Frames that wait for a tick."""
        return len(self._waiting)

    def order(self, order: FrameOrder, token: int) -> bool:
        """Order a frame; False where too many wait."""
        for number, row in order.rows:
            self._codes[number] = row[0] / np.float32(CODE_GAIN)
            if len(self._codes) > RECENT_ROWS:
                del self._codes[next(iter(self._codes))]
        if len(self._waiting) >= MOST_ORDERS:
            return False
        self._waiting.append((order, token))
        self._worker.ordered(self)
        return True

    def take(self) -> list[tuple[FrameOrder, int, np.ndarray]]:
        """The orders that wait, with their tokens and mouth codes [M]; none waits any more."""
        taken, self._waiting = self._waiting, []
        return [(order, token, self._code(order)) for order, token in taken]

    def _code(self, order: FrameOrder) -> np.ndarray:
        number = int(order.window[0])
        return self._silent if number == SILENT_ROW else self._codes.get(number, self._silent)

    def forget(self) -> None:
        """Nothing that waits is wanted."""
        self._waiting.clear()

    def close(self) -> None:
        """Free the place. Nobody is told of it any more."""
        self.forget()
        self._tell_nobody()
        self._leave()
        self._leave = lambda: None


class CoefficientWorker:
    """Computes for all sessions of a front whose clients draw. Not for several threads."""

    def __init__(self, sessions: int):
        """sessions: the most at a time."""
        self._sessions = sessions
        self._features: dict[str, FeatureWorker] = {}  # by the key of the facts; made when needed
        self._ordered: dict[CoefficientPlace, None] = {}
        self._delivered: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self.spent = Spent()

    def open_sound(self, facts: AvatarFacts) -> FrontSound:
        """A place for the sound of a session; the facts must say `can_be_batched`."""
        if facts.key not in self._features:
            assert facts.voice is not None
            # No memory is touched for streams that are not used.
            streams = MouthStreams(shipped_weights(), facts.voice, self._sessions)
            self._features[facts.key] = FeatureWorker(streams)
        return FrontSound(self, self._features[facts.key])

    def ordered(self, place: CoefficientPlace) -> None:
        """A frame was ordered there."""
        self._ordered[place] = None
        self.tick_soon()

    def when_delivered(self, function: Callable[[], None]) -> None:
        """Call `function` once, in this tick, when all codes of it are delivered."""
        self._delivered[function] = None

    def tick_soon(self) -> None:
        """Tick, as soon as it may be."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait = self._last + TICK_S - loop.time()
            self._timer = loop.call_later(max(0.0, wait), self._tick)

    def _tick(self) -> None:
        self._last = asyncio.get_running_loop().time()
        try:
            self.tick()
        finally:
            self._timer = None
            if self._ordered or any(worker.busy for worker in self._features.values()):
                self.tick_soon()

    def tick(self) -> None:
        """Compute and deliver what waits."""
        # Sound to mouth codes.
        begin, end = time.thread_time(), time.monotonic() + CODES_S
        codes = [made for worker in self._features.values() for made in _codes(worker, end)]
        self.spent.encoder += time.thread_time() - begin
        for made in codes:
            assert isinstance(made.session, FrontSound)
            made.session.receive_code(made.utterance, made.frame, made.code)

        # Sessions order the frames that these codes are for.
        delivered, self._delivered = self._delivered, {}
        for function in delivered:
            function()

        # Orders to coefficients.
        begin = time.thread_time()
        ordered, self._ordered = self._ordered, {}
        frames = _drawn([place for place in ordered if place.in_flight])
        self.spent.net += time.thread_time() - begin
        for place, own in frames.items():
            place.receive(own)


def _codes(worker: FeatureWorker, end: float) -> list[MadeCode]:
    """The codes of the chunks that wait; where there are many, of those computed until `end`."""
    made: list[MadeCode] = []
    while worker.busy:
        made += worker.tick()
        if time.monotonic() > end:
            break
    return made


def _drawn(places: list[CoefficientPlace]) -> dict[CoefficientPlace, list[DrawnFrame]]:
    """The frames that were ordered, by place; one product for all that have the same net."""
    by_net: dict[str, list[CoefficientPlace]] = {}
    for place in places:
        by_net.setdefault(place.facts.key, []).append(place)
    found: dict[CoefficientPlace, list[DrawnFrame]] = {}
    for own in by_net.values():
        taken = [(place, *order) for place in own for order in place.take()]
        codes = np.stack([code for *_, code in taken])
        expression = np.stack([order.expression for _, order, _, _ in taken])
        poses = np.array([order.pose for _, order, _, _ in taken])
        net = own[0].facts.net
        assert net is not None
        numbers, steps = quantised(net.coefficients(codes, expression, poses))
        for k, (place, order, token, _) in enumerate(taken):
            frame = DrawnFrame(token, order.pose, float(steps[k]), numbers[k])
            found.setdefault(place, []).append(frame)
    return found
