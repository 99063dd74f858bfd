"""Passages of speech joined with the pauses between them, and their times moved along."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from being.tts.script import Pause
from being.tts.speech import Speech

# Louder than this share of full scale (-45 dBFS) is audible.
AUDIBLE = 10 ** (-45 / 20)
# Beside a pause, s of quiet that is kept before and after the audible part; it counts as pause.
MARGIN = 0.03

Times = list[tuple[str, float, float]]


def join_passages(passages: Sequence[Speech | Pause]) -> Speech:
    """One speech of passages of one voice and of the pauses between them.

    A voice adds silence of its own to a passage. Next to a pause it is cut off, so that a pause is
    as long as it says, from the last audible sample to the first one after it.
    """
    spoken = [passage for passage in passages if isinstance(passage, Speech)]
    if len(passages) == 1 and spoken:
        return spoken[0]
    rate = spoken[0].rate
    quiet = [_quiet_beside_pauses(passages, k) for k in range(len(passages))]
    blocks: list[np.ndarray] = []
    words: Times | None = None if any(s.words is None for s in spoken) else []
    phonemes: Times | None = None if any(s.phonemes is None for s in spoken) else []
    at = 0  # samples so far
    for k, passage in enumerate(passages):
        if isinstance(passage, Pause):
            # The quiet that is kept around the pause is part of it.
            kept = (quiet[k - 1][1] if k else 0) + (quiet[k + 1][0] if k + 1 < len(passages) else 0)
            blocks.append(np.zeros(max(0, round(passage.seconds * rate) - kept), np.float32))
        else:
            assert passage.rate == rate, "a voice has one rate"
            samples, cut = _trimmed(passage.samples, quiet[k])
            blocks.append(samples)
            span = at / rate, (at + len(samples)) / rate
            if words is not None:
                words += moved(passage.words or [], (at - cut) / rate, *span)
            if phonemes is not None:
                phonemes += moved(passage.phonemes or [], (at - cut) / rate, *span)
        at += len(blocks[-1])
    unspoken = "".join(dict.fromkeys("".join(s.unspoken for s in spoken)))
    return Speech(np.concatenate(blocks), rate, words, phonemes, unspoken)


def _quiet_beside_pauses(passages: Sequence[Speech | Pause], k: int) -> tuple[int, int]:
    """Samples of quiet that passage k keeps at its start and its end; -1: all that it has."""
    passage = passages[k]
    if isinstance(passage, Pause):
        return 0, 0
    loud = np.flatnonzero(np.abs(passage.samples) > AUDIBLE)
    before, after = (
        (int(loud[0]), len(passage.samples) - 1 - int(loud[-1])) if loud.size else (0, 0)
    )
    margin = round(MARGIN * passage.rate)
    first = min(before, margin) if k and isinstance(passages[k - 1], Pause) else -1
    follows = k + 1 < len(passages) and isinstance(passages[k + 1], Pause)
    return first, min(after, margin) if follows else -1


def _trimmed(samples: np.ndarray, quiet: tuple[int, int]) -> tuple[np.ndarray, int]:
    """A copy with `quiet` samples before and after the audible part, and how many were cut off.

    The quiet fades in and out.
    """
    loud = np.flatnonzero(np.abs(samples) > AUDIBLE)
    before, after = quiet
    first = int(loud[0]) - before if before >= 0 and loud.size else 0
    stop = int(loud[-1]) + 1 + after if after >= 0 and loud.size else len(samples)
    out = samples[first:stop].astype(np.float32)
    if before > 0:
        out[:before] *= np.linspace(0, 1, before, dtype=np.float32)
    if after > 0:
        out[len(out) - after :] *= np.linspace(1, 0, after, dtype=np.float32)
    return out, first


def moved(times: Times, shift: float, start: float, end: float) -> Times:
    """Times moved by `shift` s and limited to the passage from `start` to `end`, s."""
    return [
        (name, min(max(start, begin + shift), end), min(max(start, stop + shift), end))
        for name, begin, stop in times
    ]
