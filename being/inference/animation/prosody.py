"""Prosody of live or recorded audio: phrase ends, and accents of loudness and pitch.

A `ProsodyTracker` takes audio in chunks and describes it around a frame: from PAST_SECONDS before
it to a look-ahead after it, and nothing else. So chunks of any size give the same result, and
memory does not grow.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from being.conventions import FPS, SAMPLE_RATE

FRAME_SAMPLES = SAMPLE_RATE // FPS
PITCH_SAMPLES = 1024  # of the pitch window, 64 ms: two periods of the lowest voice
# Samples before and after a frame that its pitch window covers.
MARGIN = (PITCH_SAMPLES - FRAME_SAMPLES) // 2
PITCH_HZ = (70.0, 400.0)
VOICED = 0.45  # autocorrelation at the pitch from which a frame counts as voiced
QUIET_DB = 30.0  # below the loud parts of the audio (95th percentile): a pause
SILENT_DB = -60.0  # of full scale: nobody speaks, however quiet the rest is
PHRASE_SECONDS = 0.4  # of speech that make a phrase
PAUSE_SECONDS = 0.16  # of quiet that end it
# An accent is the excess of the short average over the long one; s.
SHORT_AVERAGE, LONG_AVERAGE = 0.2, 1.6
MIN_PROMINENCE = 0.5  # of an accent, in standard deviations
MIN_ACCENT_GAP = 0.5  # s between accents
PAST_SECONDS = 20.0  # before a frame by which loud parts, pauses and accents are measured
MAX_FRAMES = 4096  # that are processed at once


@dataclass(frozen=True)
class Prosody:
    """What is known of the audio around a frame: the frames from `first` to `stop`."""

    first: int
    speaking: np.ndarray  # bool [K], of these frames
    phrase_ends: np.ndarray  # int [P], the first frame of the pause after each phrase
    accents: np.ndarray  # int [A], frames of stress
    prominence: np.ndarray  # float [A], of the accents, in standard deviations
    ended: bool  # no audio comes after these frames

    @property
    def stop(self) -> int:
        """The first frame that is not known."""
        return self.first + len(self.speaking)


class ProsodyTracker:
    """Loudness and pitch of audio as it comes in."""

    def __init__(self) -> None:
        # Samples from MARGIN before frame `_measured` on; silence comes before the audio.
        self._samples = np.zeros(MARGIN, np.float32)
        self._loudness, self._pitch = np.zeros(0), np.zeros(0)  # from frame `_first` on
        self._first = 0
        self._measured = 0  # frames
        self.end: int | None = None  # frames in all, once known

    @property
    def known(self) -> int:
        """Frames whose audio has come in."""
        return self._measured + max(0, (len(self._samples) - 2 * MARGIN) // FRAME_SAMPLES)

    def push(self, samples: np.ndarray) -> None:
        """Append the next samples, float32 [n] at 16 kHz, n of any size.

        They are measured when they are asked for: several frames at once take little more time
        than one.
        """
        assert self.end is None, "the audio has ended"
        step = MAX_FRAMES * FRAME_SAMPLES
        for start in range(0, len(samples), step):
            self._samples = np.concatenate([self._samples, samples[start : start + step]])
            if self.known - self._measured >= MAX_FRAMES:
                self._measure()

    def finish(self, frames: int | None = None) -> None:
        """End the audio here.

        frames: the number of frames in all, where silence is to follow; default: as many as the
        audio begins.
        """
        self._measure()
        if frames is None:
            frames = self.known + max(0, -(-(len(self._samples) - MARGIN) // FRAME_SAMPLES))
        assert frames >= self.known, (frames, self.known)
        while self._measured < frames:
            count = min(MAX_FRAMES, frames - self._measured)
            missing = count * FRAME_SAMPLES + 2 * MARGIN - len(self._samples)
            self._samples = np.pad(self._samples, (0, max(0, missing)))
            self._measure(count)
        self.end = frames

    def _measure(self, count: int = MAX_FRAMES) -> None:
        """Measure the frames that have come in, at most `count`."""
        count = min(count, self.known - self._measured)
        if count > 0:
            loudness, pitch = _loudness_and_pitch(
                self._samples[: count * FRAME_SAMPLES + 2 * MARGIN]
            )
            self._loudness = np.concatenate([self._loudness, loudness])
            self._pitch = np.concatenate([self._pitch, pitch])
            self._samples = self._samples[count * FRAME_SAMPLES :]
            self._measured += count

    def around(self, frame: int, look_ahead: int) -> Prosody:
        """The prosody of a frame's last PAST_SECONDS and of the `look_ahead` frames from it on.

        Frames are asked for in order. The look-ahead must be known (`known`), except past the end
        of the audio.
        """
        stop = frame + look_ahead
        assert self.known >= stop or self.end is not None, (frame, look_ahead, self.known)
        self._measure()
        first = max(0, frame - round(PAST_SECONDS * FPS))
        self._loudness = self._loudness[first - self._first :]
        self._pitch = self._pitch[first - self._first :]
        self._first = first
        return prosody(
            self._loudness[: stop - first],
            self._pitch[: stop - first],
            first,
            self.end is not None and self.end < stop,
        )


def prosody(loudness: np.ndarray, pitch: np.ndarray, first: int = 0, ended: bool = True) -> Prosody:
    """The prosody of the frames from `first` on.

    loudness: dB of full scale [K]; pitch: octaves [K], NaN where there is none; ended: whether no
    audio follows. If some follows, a short quiet at the end is not yet taken for a pause.
    """
    # Phrases.
    threshold = max(_loud(loudness) - QUIET_DB, SILENT_DB)
    speaking = _fill_gaps(loudness > threshold, round(PAUSE_SECONDS * FPS), ended)
    starts, stops = _runs(speaking)
    ends = stops[(stops - starts >= PHRASE_SECONDS * FPS) & (stops < len(loudness))]

    # Accents, the most prominent first; each one removes its neighbours.
    excess = _excess(loudness, speaking) + _excess(pitch, np.isfinite(pitch))
    excess[~speaking] = -np.inf
    left, gap, accents = excess.copy(), int(np.ceil(MIN_ACCENT_GAP * FPS)), []
    while left[at := int(left.argmax())] >= MIN_PROMINENCE:
        accents.append(at)
        left[max(0, at - gap + 1) : at + gap] = -np.inf
    order = np.array(sorted(accents), np.int64)
    return Prosody(first, speaking, ends + first, order + first, excess[order], ended)


def _loud(loudness: np.ndarray) -> float:
    """The 95th percentile of values [K]; `np.percentile` takes five times as long to call."""
    place = 0.95 * (len(loudness) - 1)
    below = int(place)
    ordered = np.partition(loudness, [below, min(below + 1, len(loudness) - 1)])
    low, high = ordered[below], ordered[min(below + 1, len(loudness) - 1)]
    return float(low + (high - low) * (place - below))


def _loudness_and_pitch(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loudness in dB of full scale [F], and the pitch in octaves (log2 of Hz) [F], NaN without one.

    samples: float32 [640 F + 2 MARGIN], the frames with a margin on both sides.
    """
    windows = np.lib.stride_tricks.sliding_window_view(samples, PITCH_SAMPLES)[::FRAME_SAMPLES]
    middle = windows[:, MARGIN : MARGIN + FRAME_SAMPLES].astype(np.float64)
    loudness = 10 * np.log10((middle**2).mean(1) + 1e-12)

    if not windows.any():
        return loudness, np.full(len(windows), np.nan)  # most of a live session is silence

    # The autocorrelation of each window, divided by that of the window function.
    shape, taper = _pitch_window()
    centred = (windows - windows.mean(1, keepdims=True)) * shape
    power = np.abs(np.fft.rfft(centred, 2 * PITCH_SAMPLES)) ** 2
    correlation = np.fft.irfft(power)[:, :PITCH_SAMPLES] / taper

    # The pitch is the lag of the largest autocorrelation, if that is large enough.
    low, high = (round(SAMPLE_RATE / hz) for hz in reversed(PITCH_HZ))
    best = low + correlation[:, low:high].argmax(1)
    peak = correlation[np.arange(len(windows)), best]
    voiced = peak > VOICED * np.maximum(correlation[:, 0], 1e-9)
    return loudness, np.where(voiced, np.log2(SAMPLE_RATE / best), np.nan)


@functools.cache
def _pitch_window() -> tuple[np.ndarray, np.ndarray]:
    """The window function [PITCH_SAMPLES], and its autocorrelation."""
    shape = np.hanning(PITCH_SAMPLES).astype(np.float32)
    taper = np.fft.irfft(np.abs(np.fft.rfft(shape, 2 * PITCH_SAMPLES)) ** 2)[:PITCH_SAMPLES]
    return shape, taper


def _excess(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How far the short average of `values` [F] is above the long one, in standard deviations.

    Both averages are over the `known` frames, bool [F].
    """
    if known.sum() < 2:
        return np.zeros(len(values))
    weight, filled = known.astype(np.float64), np.where(known, values, 0.0)

    def average(seconds: float) -> np.ndarray:
        kernel = _average_window(seconds)
        first = (len(kernel) - 1) // 2
        count = np.convolve(weight, kernel)[first : first + len(values)]
        total = np.convolve(filled, kernel)[first : first + len(values)]
        return total / np.maximum(count, 1e-6) * (count > 1e-6)

    excess = np.where(known, average(SHORT_AVERAGE) - average(LONG_AVERAGE), 0.0)
    return excess / max(excess[known].std(), 1e-9)


@functools.cache
def _average_window(seconds: float) -> np.ndarray:
    """The weights of an average over about so many seconds."""
    return np.hanning(round(seconds * FPS) + 2)[1:-1]


def _fill_gaps(flags: np.ndarray, gap: int, ended: bool) -> np.ndarray:
    """`flags` bool [F] with the gaps of less than `gap` frames filled.

    A gap at the end is filled too, unless the audio has `ended`.
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
