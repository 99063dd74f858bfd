"""The ear of a conversation: sound of the user's microphone in, beginnings and ends of speech out.

A pause of EARLY_S may be the end: what was said can be transcribed already. After END_S it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from being.conventions import SAMPLE_RATE
from being.conversation.voice_activity import BLOCK, BLOCK_S, VoiceActivity
from being.media.resampling import StreamResampler

# Probability of speech from which a block counts as speech, and under which it counts as a pause.
SPEECH, PAUSE = 0.5, 0.35
# Blocks of speech in a row that are a beginning.
BEGIN_BLOCKS = 2
EARLY_S, END_S = 0.2, 0.6
BEFORE_S = 0.32  # of sound before the beginning that belongs to the speech
LONGEST_S = 60.0  # of speech without a pause
SILENT_PEAK = 10 ** (-75 / 20)  # of full scale; every real microphone is louder
SILENT_S = 8.0  # after which a microphone counts as silent


@dataclass(frozen=True)
class Heard:
    """Something that the ear has noticed."""

    # "began", "paused" (perhaps the end), "resumed", "ended", or "silent" (a dead microphone)
    kind: Literal["began", "paused", "resumed", "ended", "silent"]
    at: float  # s of sound since the ear was opened
    # The speech from its beginning, float32 [n] at 16 kHz; with "paused" and "ended"
    samples: np.ndarray | None = None


class Ear:
    """Listens to one stream of sound."""

    def __init__(self, activity: VoiceActivity, rate: int):
        """rate: Hz of the sound that is pushed."""
        self.rate = rate
        self._activity = activity
        self._resampler = StreamResampler(rate, SAMPLE_RATE)
        self._rest = np.zeros(0, np.float32)
        self._blocks = 0
        self._before: deque[np.ndarray] = deque(maxlen=round(BEFORE_S / BLOCK_S))
        self._speech: list[np.ndarray] = []  # since the beginning
        self._row = 0  # blocks of speech in a row
        self._pause = 0  # blocks since the last one of speech
        self._early = False  # "paused" was told
        self._peak = 0.0
        self._told_silent = False

    @property
    def speaking(self) -> bool:
        """Whether the user speaks, or makes a short pause."""
        return bool(self._speech)

    def push(self, samples: np.ndarray) -> list[Heard]:
        """What is noticed in the next samples float32 [n] in [-1, 1]."""
        self._rest = np.concatenate([self._rest, self._resampler.push(samples)])
        found: list[Heard] = []
        while self._rest.size >= BLOCK:
            block, self._rest = self._rest[:BLOCK], self._rest[BLOCK:]
            found += self._take(block)
        return found

    def _take(self, block: np.ndarray) -> list[Heard]:
        self._blocks += 1
        self._peak = max(self._peak, float(np.abs(block).max()))
        probability = self._activity.probability(block)
        if not self._speech:
            return [*self._wait(block, probability), *self._check_silence()]
        self._speech.append(block)
        if probability >= SPEECH:
            self._pause = 0
            if self._early:
                self._early = False
                return [self._event("resumed")]
        elif probability < PAUSE or self._pause:
            self._pause += 1
        return self._check_end()

    def _wait(self, block: np.ndarray, probability: float) -> list[Heard]:
        """A block while nobody speaks."""
        self._before.append(block)
        self._row = self._row + 1 if probability >= SPEECH else 0
        if self._row < BEGIN_BLOCKS:
            return []
        self._speech, self._row, self._pause = list(self._before), 0, 0
        self._before.clear()
        return [self._event("began")]

    def _check_end(self) -> list[Heard]:
        pause = self._pause * BLOCK_S
        if pause >= END_S or len(self._speech) * BLOCK_S >= LONGEST_S:
            ended = self._event("ended", np.concatenate(self._speech))
            self._speech, self._early, self._pause = [], False, 0
            return [ended]
        if pause >= EARLY_S and not self._early:
            self._early = True
            return [self._event("paused", np.concatenate(self._speech))]
        return []

    def _check_silence(self) -> list[Heard]:
        """Tell once that nothing but zeros comes."""
        if self._told_silent or self._peak > SILENT_PEAK or self._blocks * BLOCK_S < SILENT_S:
            return []
        self._told_silent = True
        return [self._event("silent")]

    def _event(
        self,
        kind: Literal["began", "paused", "resumed", "ended", "silent"],
        samples: np.ndarray | None = None,
    ) -> Heard:
        return Heard(kind, self._blocks * BLOCK_S, samples)
