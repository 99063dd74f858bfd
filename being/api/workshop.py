"""The workshop of a front process: two threads that make the speech of all its sessions in turn.

One thread lets voices speak, clause by clause; the other computes speech features in steps of two
frames. So the sound of a clause does not wait for the features of the one before. The utterance
with the fewest frames in store is served first.
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
from being.tts.script import Pause
from being.tts.speech import Speech

# Makes the feature source of an utterance of an avatar.
FeatureFactory = Callable[[AvatarFacts], FeatureSource]
# (text, voice, speed) -> speech; blocks. The text has no markup. Raises as `being.tts.speak`.
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


@dataclass(frozen=True)
class Notes:
    """What a voice says about the speech that it made, for people."""

    texts: tuple[str, ...]


class SpeechTask:
    """The speech of one utterance: input goes in, blocks come out in the workshop's threads."""

    def __init__(
        self,
        facts: AvatarFacts,
        features: FeatureFactory,
        voice: Voice,
        deliver: Callable[[SpeechBlock | Refusal | End | Notes], None],
        in_store: Callable[[], int],
    ):
        """deliver: takes blocks, notes, `End` when all sound is made (rows may follow), or a
        refusal (then nothing follows). It is called in the workshop's threads.

        in_store: frames of the utterance whose features are made and not spoken.
        """
        self._facts, self._features, self._voice = facts, features, voice
        self._deliver, self.in_store = deliver, in_store
        self._texts: deque[Clause | Pause | End] = deque()  # for the voice
        self._sounds: deque[Speech | Pause | Sound | End] = deque()  # for the features
        self._rows: deque[Iterator[SpeechBlock]] = deque()  # features that are to be computed
        self._source: SpeechSource | None = None
        self._rate = 0
        self._made = 0  # samples at 24 kHz
        self._lead = 0.0  # s of pauses before the first clause
        self._spoken = False  # a voice speaks it
        self.cancelled = False
        # Names of the threads in whose queue the task is.
        self.queued: set[str] = set()

    def put(self, item: Clause | Pause | Sound | End) -> None:
        """Append input: clauses and pauses, or sounds, then an end. `Workshop.schedule` the task
        after it.
        """
        if isinstance(item, (Clause, Pause)):
            self._spoken = True
        if self._spoken and not isinstance(item, Sound):
            self._texts.append(item)
        elif not isinstance(item, (Clause, Pause)):
            self._sounds.append(item)

    def has_work(self, thread: str) -> bool:
        """Whether a step of that thread, "voice" or "features", would do something."""
        if self.cancelled:
            return False
        if thread == "voice":
            return bool(self._texts)
        return bool(self._sounds or self._rows)

    def run(self) -> None:
        """Do all steps of features now, in the caller's thread: for sound of a client whose
        features are computed elsewhere, so that little is to be done.
        """
        while self.has_work("features"):
            self.step("features")

    def step(self, thread: str) -> None:
        """One short piece of work of that thread. Errors are told to the session and end it."""
        try:
            if thread == "voice":
                self._let_speak()
            else:
                self._make_block()
        except BeingError as error:
            self._fail(_refusal(error))
        except Exception as error:
            self._fail(
                Refusal(
                    "internal",
                    "the speech could not be made",
                    f"{type(error).__name__}: {error}"[:200],
                    "Try again; the session goes on",
                )
            )

    def _let_speak(self) -> None:
        """Let the voice speak the next clause."""
        item = self._texts.popleft()
        if isinstance(item, Clause):
            speech = self._voice(item.text, item.voice, item.speed)
            self._sounds.append(speech)
            if speech.notes and not self.cancelled:
                self._deliver(Notes(speech.notes))
        else:
            self._sounds.append(item)

    def _make_block(self) -> None:
        """Deliver sound that waits, else the next rows."""
        if self._sounds:
            item = self._sounds.popleft()
            blocks = self._blocks(item)
            self._give(next(blocks, None))
            self._rows.append(blocks)
            if isinstance(item, End):
                self._give(End())
            return
        block = next(self._rows[0], None)
        if block is None:
            self._rows.popleft()
        else:
            self._give(block)

    def _blocks(self, item: Speech | Pause | Sound | End) -> Iterator[SpeechBlock]:
        if isinstance(item, End):
            return iter(()) if self._source is None else self._source.finish()
        first = self._source is None
        if isinstance(item, Pause):
            if self._source is not None:
                return self._source.pause(item.seconds)
            self._lead += item.seconds  # the rate of the voice is not known yet
            return iter(())
        if isinstance(item, Sound):
            return self._source_at(item.rate).push(item.samples)
        lead, self._lead = self._lead, 0.0
        return self._source_at(item.rate).speak(item, first, self._made, lead)

    def _give(self, made: SpeechBlock | End | None) -> None:
        if made is None or self.cancelled:
            return
        if isinstance(made, SpeechBlock):
            self._made += made.samples.size
        self._deliver(made)

    def _fail(self, refusal: Refusal) -> None:
        self._texts.clear()
        self._sounds.clear()
        self._rows.clear()
        if not self.cancelled:
            self.cancelled = True
            self._deliver(refusal)

    def _source_at(self, rate: int) -> SpeechSource:
        if self._source is None:
            silent_step = self._facts.silent_row[len(self._facts.silent_row) // 2]
            self._source = SpeechSource(self._features(self._facts), rate, silent_step)
            self._rate = rate
        assert rate == self._rate, "the rate changed inside an utterance"
        return self._source


class Workshop:
    """Two threads, "voice" and "features", that run the steps of all tasks."""

    THREADS = ("voice", "features")

    def __init__(self) -> None:
        self._ready: dict[str, list[SpeechTask]] = {name: [] for name in self.THREADS}
        self._changed = threading.Condition()
        self._open = True
        self._threads = [
            threading.Thread(target=self._run, args=[name], name=name, daemon=True)
            for name in self.THREADS
        ]
        for thread in self._threads:
            thread.start()

    def schedule(self, task: SpeechTask) -> None:
        """Run the task's steps as long as it has work."""
        with self._changed:
            self._queue(task)

    def close(self) -> None:
        """End the threads after the steps that they run."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _queue(self, task: SpeechTask) -> None:
        for name in self.THREADS:
            if name not in task.queued and task.has_work(name):
                task.queued.add(name)
                self._ready[name].append(task)
                self._changed.notify_all()

    def _run(self, name: str) -> None:
        ready = self._ready[name]
        while True:
            with self._changed:
                while self._open and not ready:
                    self._changed.wait()
                if not self._open:
                    return
                task = min(ready, key=lambda waiting: waiting.in_store())
                ready.remove(task)
            if task.has_work(name):
                task.step(name)
            with self._changed:
                task.queued.discard(name)
                self._queue(task)
            del task  # the session that it holds is freed now, and not when the next one speaks


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
