"""What brows and lids go with in a sound, as it comes in: where it is loud and high for a moment,
where phrases end.

An `Ear` is given sound in chunks and tells what is heard round a frame: from `PAST` before it to a
look-ahead after it, and nothing else, so that chunks of any size give the same and what is kept
does not grow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.conventions import FPS, SAMPLE_RATE

STEP = SAMPLE_RATE // FPS  # samples a frame
PITCH_WINDOW = 1024  # samples, 64 ms: two periods of the lowest voice
MARGIN = (PITCH_WINDOW - STEP) // 2  # samples before and after a frame that its pitch is taken from
PITCH_HZ = (70.0, 400.0)
VOICED = 0.45  # autocorrelation at the pitch from which a frame has one
QUIET_DB = 30.0  # under a sound's loud parts (95th percentile): a pause
SILENT_DB = -60.0  # of full scale: nobody speaks however quiet the rest is
PHRASE = 0.4  # s of speech that make a phrase
PAUSE = 0.16  # s of quiet that end it
SHORT, LONG = 0.2, 1.6  # s: an accent is what the first average has over the second
ACCENT = 0.5  # prominence in deviations from which it counts
ACCENT_GAP = 0.5  # s between accents
PAST = 20.0  # s before a frame that loud parts, pauses and accents are measured by
BLOCK = 4096  # frames worked on at once


@dataclass(frozen=True)
class Prosody:
    """What is known of a sound round a frame: of frames `first` up to `stop`."""

    first: int
    speaking: np.ndarray  # bool [K], of these frames
    phrase_ends: np.ndarray  # int [P], the first frame of the pause after each phrase
    accents: np.ndarray  # int [A], frames of stress
    prominence: np.ndarray  # float [A], of the accents, in deviations over what is known
    ended: bool  # no sound comes after them

    @property
    def stop(self) -> int:
        """The first frame that is not known."""
        return self.first + len(self.speaking)


class Ear:
    """Loudness and pitch of a sound as it comes in."""

    def __init__(self) -> None:
        self._sound = np.zeros(
            MARGIN, np.float32
        )  # silence comes before; from `MARGIN` before frame `known` on
        self._loud, self._pitch = np.zeros(0), np.zeros(0)
        self._first = 0  # frame that they begin with
        self.known = 0  # frames that are heard
        self.end: int | None = None  # frames in all, once known

    def push(self, samples: np.ndarray) -> None:
        """Take in the next samples, float32 [n] at 16 kHz, n of any size."""
        assert self.end is None, "the sound has ended"
        for start in range(0, len(samples), BLOCK * STEP):
            self._sound = np.concatenate([self._sound, samples[start : start + BLOCK * STEP]])
            self._listen((len(self._sound) - 2 * MARGIN) // STEP)

    def finish(self, frames: int | None = None) -> None:
        """The sound ends here; `frames` in all where silence is to follow, or as many as it begins."""
        if frames is None:
            frames = self.known + max(0, -(-(len(self._sound) - MARGIN) // STEP))
        assert frames >= self.known, (frames, self.known)
        while self.known < frames:
            count = min(BLOCK, frames - self.known)
            missing = count * STEP + 2 * MARGIN - len(self._sound)
            self._sound = np.pad(self._sound, (0, max(0, missing)))
            self._listen(count)
        self.end = frames

    def _listen(self, count: int) -> None:
        """Hear `count` frames more."""
        if count > 0:
            loud, pitch = _loudness_and_pitch(self._sound[: count * STEP + 2 * MARGIN])
            self._loud, self._pitch = (
                np.concatenate([self._loud, loud]),
                np.concatenate([self._pitch, pitch]),
            )
            self._sound = self._sound[count * STEP :]
            self.known += count

    def around(self, frame: int, ahead: int) -> Prosody:
        """What is heard of a frame's last `PAST` s and the `ahead` frames from it on; frames are
        asked for in order.

        Those frames must be known (`known`), but for those past the sound's end.
        """
        stop = frame + ahead
        assert self.known >= stop or self.end is not None, (frame, ahead, self.known)
        first = max(0, frame - round(PAST * FPS))
        self._loud, self._pitch = (
            self._loud[first - self._first :],
            self._pitch[first - self._first :],
        )
        self._first = first
        return prosody(
            self._loud[: stop - first],
            self._pitch[: stop - first],
            first,
            self.end is not None and self.end < stop,
        )


def prosody(loud: np.ndarray, pitch: np.ndarray, first: int = 0, ended: bool = True) -> Prosody:
    """What frames `first` on are like. loud: dB of full scale [K]; pitch: octaves [K], NaN where
    there is none; ended: whether nothing follows, else a short quiet at their end may yet turn out
    to be none."""
    threshold = max(np.percentile(loud, 95) - QUIET_DB, SILENT_DB)
    speaking = _closed(loud > threshold, round(PAUSE * FPS), ended)
    starts, stops = _runs(speaking)
    ends = stops[(stops - starts >= PHRASE * FPS) & (stops < len(loud))]
    rise = _rise(loud, speaking) + _rise(pitch, np.isfinite(pitch))
    rise[~speaking] = -np.inf
    left, gap, accents = rise.copy(), int(np.ceil(ACCENT_GAP * FPS)), []
    while left[at := int(left.argmax())] >= ACCENT:
        accents.append(at)
        left[max(0, at - gap + 1) : at + gap] = -np.inf
    order = np.array(sorted(accents), np.int64)
    return Prosody(first, speaking, ends + first, order + first, rise[order], ended)


def _loudness_and_pitch(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loudness in dB of full scale [F] and the logarithm of the pitch in octaves [F], NaN where
    there is none.

    sound: float32 [640 F + 2 MARGIN], the frames with what lies round them.
    """
    windows = np.lib.stride_tricks.sliding_window_view(sound, PITCH_WINDOW)[::STEP]
    shape = np.hanning(PITCH_WINDOW).astype(np.float32)
    taper = np.fft.irfft(np.abs(np.fft.rfft(shape, 2 * PITCH_WINDOW)) ** 2)[:PITCH_WINDOW]
    low, high = (round(SAMPLE_RATE / hz) for hz in reversed(PITCH_HZ))
    middle = windows[:, MARGIN : MARGIN + STEP].astype(np.float64)
    loud = 10 * np.log10((middle**2).mean(1) + 1e-12)
    power = (
        np.abs(np.fft.rfft((windows - windows.mean(1, keepdims=True)) * shape, 2 * PITCH_WINDOW))
        ** 2
    )
    likeness = np.fft.irfft(power)[:, :PITCH_WINDOW] / taper
    best = low + likeness[:, low:high].argmax(1)
    sure = likeness[np.arange(len(windows)), best] > VOICED * np.maximum(likeness[:, 0], 1e-9)
    return loud, np.where(sure, np.log2(SAMPLE_RATE / best), np.nan)


def _rise(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What the short average of `values` [F] over the `known` frames has over the long one, in
    deviations of it.
    """
    if known.sum() < 2:
        return np.zeros(len(values))
    weight, filled = known.astype(np.float64), np.where(known, values, 0.0)

    def average(seconds: float) -> np.ndarray:
        kernel = np.hanning(round(seconds * FPS) + 2)[1:-1]
        first = (len(kernel) - 1) // 2
        count = np.convolve(weight, kernel)[first : first + len(values)]
        return (
            np.convolve(filled, kernel)[first : first + len(values)]
            / np.maximum(count, 1e-6)
            * (count > 1e-6)
        )

    rise = np.where(known, average(SHORT) - average(LONG), 0.0)
    return rise / max(rise[known].std(), 1e-9)


def _closed(flags: np.ndarray, gap: int, ended: bool) -> np.ndarray:
    """`flags` bool [F] with gaps of less than `gap` frames inside closed, one at the end too unless
    it has `ended`.
    """
    filled = flags.copy()
    starts, stops = _runs(~flags)
    for start, stop in zip(starts, stops, strict=True):
        if start > 0 and (stop < len(flags) or not ended) and stop - start < gap:
            filled[start:stop] = True
    return filled


def _runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops int [R] of the runs of true in `flags` bool [F]."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
