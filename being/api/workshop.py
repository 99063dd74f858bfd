"""The workshop of a front process: one thread that makes the speech of all its sessions in turn.

A step is short: one clause of a voice, or the features of two frames. The utterance with the fewest
frames in store is served first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from being.errors import BeingError, InputRejected, UsageError
from being.session.avatar_facts import AvatarFacts
from being.session.refusals import Refusal
from being.session.speech_source import FeatureSource, SpeechSource
from being.session.utterance import SpeechBlock
from being.tts.speech import Speech

# Makes the feature source of an utterance of an avatar.
FeatureFactory = Callable[[AvatarFacts], FeatureSource]
# (text, voice, speed) -> speech; blocks. Raises as `being.tts.speak`.
Voice = Callable[[str, str, float], Speech]


@dataclass(frozen=True)
class Clause:
    """A piece of text to speak."""

    text: str
    voice: str
    speed: float


@dataclass(frozen=True)
class Sound:
    """Sound that a client sent."""

    samples: np.ndarray  # float32 [n]
    rate: int


class End:
    """No more input follows."""


class SpeechTask:
    """The speech of one utterance: input goes in, blocks come out in the workshop's thread."""

    def __init__(
        self,
        facts: AvatarFacts,
        features: FeatureFactory,
        voice: Voice,
        deliver: Callable[[SpeechBlock | Refusal | None], None],
        in_store: Callable[[], int],
    ):
        """deliver: takes a block, a refusal, or None at the end; called in the workshop's thread.

        in_store: frames of the utterance whose features are made and not spoken.
        """
        self._facts, self._features, self._voice = facts, features, voice
        self._deliver, self.in_store = deliver, in_store
        self._inbox: deque[Clause | Sound | End] = deque()
        self._source: SpeechSource | None = None
        self._rate = 0
        self._blocks: Iterator[SpeechBlock] | None = None
        self._made = 0  # samples at 24 kHz
        self._ending = False
        self.cancelled = False
        self.scheduled = False

    def put(self, item: Clause | Sound | End) -> None:
        """Append input; then `Workshop.schedule` the task."""
        self._inbox.append(item)

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return not self.cancelled and (self._blocks is not None or bool(self._inbox))

    def step(self) -> None:
        """One short piece of work."""
        try:
            if self._blocks is None:
                self._blocks = self._next_blocks(self._inbox.popleft())
            block = next(self._blocks, None)
        except BeingError as error:
            self._blocks, self._ending = None, True
            self._inbox.clear()
            if not self.cancelled:
                self._deliver(_refusal(error))
                self._deliver(None)
            return
        if self.cancelled:
            return
        if block is not None:
            self._made += block.samples.size
            self._deliver(block)
            return
        self._blocks = None
        if self._ending:
            self._deliver(None)

    def _next_blocks(self, item: Clause | Sound | End) -> Iterator[SpeechBlock]:
        if isinstance(item, End):
            self._ending = True
            return iter(()) if self._source is None else self._source.finish()
        if isinstance(item, Sound):
            return self._source_at(item.rate).push(item.samples)
        speech = self._voice(item.text, item.voice, item.speed)
        first = self._source is None
        return self._source_at(speech.rate).speak(speech, first, self._made)

    def _source_at(self, rate: int) -> SpeechSource:
        if self._source is None:
            silent_step = self._facts.silent_row[len(self._facts.silent_row) // 2]
            self._source = SpeechSource(self._features(self._facts), rate, silent_step)
            self._rate = rate
        assert rate == self._rate, "the rate changed inside an utterance"
        return self._source


class Workshop:
    """One thread that runs the steps of all tasks."""

    def __init__(self) -> None:
        self._ready: list[SpeechTask] = []
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="workshop", daemon=True)
        self._thread.start()

    def schedule(self, task: SpeechTask) -> None:
        """Run the task's steps as long as it has work."""
        with self._changed:
            if not task.scheduled and task.has_work:
                task.scheduled = True
                self._ready.append(task)
                self._changed.notify()

    def close(self) -> None:
        """End the thread after the step that it runs."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._ready:
                    self._changed.wait()
                if not self._open:
                    return
                task = min(self._ready, key=lambda ready: ready.in_store())
                self._ready.remove(task)
            if task.has_work:
                task.step()
            with self._changed:
                task.scheduled = task.has_work
                if task.scheduled:
                    self._ready.append(task)


def _refusal(error: BeingError) -> Refusal:
    """The error of a voice or an encoder as the error of a session."""
    if isinstance(error, Refusal):
        return error
    name = "voice_failed"
    if isinstance(error, InputRejected):
        name = "text_rejected"
    elif isinstance(error, UsageError):
        name = "unknown_voice"
    return Refusal(name, error.what, error.why, error.fix)
