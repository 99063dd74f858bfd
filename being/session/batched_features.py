"""Speech features of many sessions in one batch: the side of one utterance.

The render process computes them, or this front does (`coefficient_worker.py`). The sound of an
utterance goes there in chunks; mouth codes come back some milliseconds later. What has no code yet
is kept, so that another place can go on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np

from being.audio.encoder_names import CAUSAL_LATENCY
from being.audio.sound_chunks import ChunkCutter
from being.audio.waveform import checked_samples
from being.conventions import FEATURE_WINDOW
from being.data.mouth import code_rows
from being.inference.mouth_stream import CODE_DELAY, ENDLESS


class SoundPlace(Protocol):
    """The place of a session where its codes are computed."""

    # Called with utterance, frame and code float32 [K].
    receive_code: Callable[[int, int, np.ndarray], None]

    def new_utterance(self) -> int:
        """Another number for the sound of this place; what waits of the last one is dropped."""

    def send_sound(self, utterance: int, first: int, frames: int, samples: np.ndarray) -> None:
        """Send chunks; arguments as for `FeatureWorker.put`."""


class BatchedFeatures:
    """The feature source of one utterance. Implements `FeatureSource`.

    `push` and `finish` are for any thread and give no rows: these are delivered in the event loop.
    In the loop's own thread they act at once.
    """

    seconds = CAUSAL_LATENCY.seconds

    def __init__(
        self,
        place: SoundPlace,
        channels: int,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[np.ndarray], None],
    ):
        """channels: K of the mouth code. deliver: takes rows float32 [1, 16, K] in `loop`, in which
        this must be called.
        """
        self._place, self._loop, self._deliver = place, loop, deliver
        self._thread = threading.get_ident()
        self._none = np.zeros((0, FEATURE_WINDOW, channels), np.float32)
        self._cutter = ChunkCutter()
        self._frames = ENDLESS
        self._open = True
        self._begin(0)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """See `FeatureSource.push`."""
        self._call(self._take, checked_samples(samples).copy())
        return self._none

    def finish(self) -> np.ndarray:
        """See `FeatureSource.finish`."""
        self._call(self._end)
        return self._none

    def restart(self) -> None:
        """The render process was lost and a new one is there: go on from the first missing code."""
        if self._open:
            self._begin(self._cutter.first)
            self._send()

    def move(self, place: SoundPlace) -> None:
        """Go on from the first missing code in another place."""
        self._place = place
        self.restart()

    def close(self) -> None:
        """Nothing more is wanted."""
        if self._open:
            self._open = False
            self._place.new_utterance()

    def _call(self, function: Callable[..., None], *arguments: np.ndarray) -> None:
        if threading.get_ident() == self._thread:
            function(*arguments)
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _begin(self, frame: int) -> None:
        """A new number; its frame 0 is `frame` of the utterance."""
        self._utterance, self._base = self._place.new_utterance(), frame
        self._sent = frame  # chunks
        self._place.receive_code = self._receive

    def _take(self, samples: np.ndarray) -> None:
        self._cutter.push(samples)
        self._send()

    def _end(self) -> None:
        if self._cutter.received:
            self._frames = self._cutter.frames
            self._cutter.pad(self._frames + CODE_DELAY)
            self._send()

    def _send(self) -> None:
        """Send the chunks that are complete and were not sent."""
        complete = self._cutter.complete
        if complete > self._sent and self._open:
            samples = self._cutter.samples(self._sent, complete)
            frames = self._frames if self._frames == ENDLESS else self._frames - self._base
            self._place.send_sound(self._utterance, self._sent - self._base, frames, samples)
            self._sent = complete

    def _receive(self, utterance: int, frame: int, code: np.ndarray) -> None:
        """A code has come; one of an earlier number is not wanted."""
        if utterance == self._utterance and self._open:
            self._cutter.forget(self._base + frame + 1)
            self._deliver(code_rows(code[None]))
