"""What of a sound the brows and lids go with: where it is loud and high for a moment, and where a phrase ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.conventions import FPS, SAMPLE_RATE

STEP = SAMPLE_RATE // FPS  # samples a frame
PITCH_WINDOW = 1024  # samples, 64 ms: two periods of the lowest voice
PITCH_HZ = (70.0, 400.0)
VOICED = 0.45  # autocorrelation at the pitch from which a frame has one
QUIET_DB = 30.0  # under a sound's loud parts (95th percentile): a pause
SILENT_DB = -60.0  # of full scale: nobody speaks however quiet the rest is
PHRASE = 0.4  # s of speech that make a phrase
PAUSE = 0.16  # s of quiet that end it
SHORT, LONG = 0.2, 1.6  # s: an accent is what the first average has over the second
ACCENT = 0.5  # prominence in deviations from which it counts
ACCENT_GAP = 0.5  # s between accents
BLOCK = 4096  # frames worked on at once


@dataclass(frozen=True)
class Prosody:
    """Of a sound of F frames."""

    speaking: np.ndarray  # bool [F]
    phrase_ends: np.ndarray  # int [P], the first frame of the pause after each phrase
    accents: np.ndarray  # int [A], frames of stress
    prominence: np.ndarray  # float [A], of the accents, in deviations over the sound


def prosody(samples: np.ndarray, frames: int) -> Prosody:
    """What `frames` frames of sound float32 [T] at 16 kHz are like; frames beyond its end are silent."""
    loud, pitch = _loudness_and_pitch(samples, frames)
    speaking = _closed(loud > max(np.percentile(loud, 95) - QUIET_DB, SILENT_DB), round(PAUSE * FPS))
    starts, stops = _runs(speaking)
    ends = stops[(stops - starts >= PHRASE * FPS) & (stops < frames)]
    rise = _rise(loud, speaking) + _rise(pitch, np.isfinite(pitch))
    rise[~speaking] = -np.inf
    accents: list[int] = []
    for i in np.argsort(-rise, kind="stable"):
        if rise[i] < ACCENT:
            break
        if all(abs(i - other) >= ACCENT_GAP * FPS for other in accents):
            accents.append(int(i))
    order = np.array(sorted(accents), np.int64)
    return Prosody(speaking, ends, order, rise[order])


def _loudness_and_pitch(samples: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Loudness in dB of full scale [F] and the logarithm of the pitch in octaves [F], NaN where there is none."""
    margin = (PITCH_WINDOW - STEP) // 2
    padded = np.zeros(frames * STEP + 2 * margin, np.float32)
    taken = samples[:frames * STEP + margin]
    padded[margin:margin + len(taken)] = taken
    windows = np.lib.stride_tricks.sliding_window_view(padded, PITCH_WINDOW)[::STEP][:frames]
    shape = np.hanning(PITCH_WINDOW).astype(np.float32)
    taper = np.fft.irfft(np.abs(np.fft.rfft(shape, 2 * PITCH_WINDOW)) ** 2)[:PITCH_WINDOW]
    low, high = (round(SAMPLE_RATE / hz) for hz in reversed(PITCH_HZ))
    loud, pitch = np.empty(frames), np.empty(frames)
    for start in range(0, frames, BLOCK):
        block = windows[start:start + BLOCK]
        middle = block[:, margin:margin + STEP].astype(np.float64)
        loud[start:start + BLOCK] = 10 * np.log10((middle**2).mean(1) + 1e-12)
        power = np.abs(np.fft.rfft((block - block.mean(1, keepdims=True)) * shape, 2 * PITCH_WINDOW)) ** 2
        likeness = np.fft.irfft(power)[:, :PITCH_WINDOW] / taper
        best = low + likeness[:, low:high].argmax(1)
        sure = likeness[np.arange(len(block)), best] > VOICED * np.maximum(likeness[:, 0], 1e-9)
        pitch[start:start + BLOCK] = np.where(sure, np.log2(SAMPLE_RATE / best), np.nan)
    return loud, pitch


def _rise(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What the short average of `values` [F] over the `known` frames has over the long one, in deviations of it."""
    if known.sum() < 2:
        return np.zeros(len(values))
    weight, filled = known.astype(np.float64), np.where(known, values, 0.0)

    def average(seconds: float) -> np.ndarray:
        kernel = np.hanning(round(seconds * FPS) + 2)[1:-1]
        first = (len(kernel) - 1) // 2
        count = np.convolve(weight, kernel)[first:first + len(values)]
        return np.convolve(filled, kernel)[first:first + len(values)] / np.maximum(count, 1e-6) * (count > 1e-6)

    rise = np.where(known, average(SHORT) - average(LONG), 0.0)
    return rise / max(rise[known].std(), 1e-9)


def _closed(flags: np.ndarray, gap: int) -> np.ndarray:
    """`flags` bool [F] with gaps of less than `gap` frames inside closed."""
    filled = flags.copy()
    starts, stops = _runs(~flags)
    for start, stop in zip(starts, stops, strict=True):
        if start > 0 and stop < len(flags) and stop - start < gap:
            filled[start:stop] = True
    return filled


def _runs(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops int [R] of the runs of true in `flags` bool [F]."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
