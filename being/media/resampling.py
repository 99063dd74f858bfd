"""Mixing audio channels to one, and resampling audio to another sample rate."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import av
import numpy as np

# Samples that the resampler takes at once.
BLOCK = 1 << 16
# Shorter audio is padded, samples: the resampler gives nothing for audio shorter than its filter.
SHORTEST = 1024
# The largest number in a simple ratio of two rates, such as 3 : 2, and samples of a probe of the
# filter between them, several times its length.
SIMPLE, PROBE = 8, 1200
# Power of a dead channel over that of the louder one, -40 dB: nothing was plugged in.
DEAD = 1e-4
# Correlation of two channels under which one of them has the wrong polarity.
OPPOSITE = -0.5


def mix_channels(channels: np.ndarray) -> tuple[np.ndarray, str]:
    """One channel float32 [T], the mean of float32 [C, T] (C is 1 or 2), and what was repaired.

    A dead channel is left out. Of two channels of opposite phase, whose mean would cancel the
    voice, one is inverted. The second result names the repair in a short sentence, or is "".
    """
    assert channels.ndim == 2 and channels.shape[0] in (1, 2), channels.shape
    if len(channels) == 1:
        return channels[0], ""

    # Powers of both channels, and their product.
    left, right = channels
    products = [float(np.dot(a, b)) for a, b in ((left, left), (right, right), (left, right))]
    if not np.isfinite(products).all():
        return channels.mean(0), ""

    loud, quiet = (0, 1) if products[0] >= products[1] else (1, 0)
    if products[quiet] < DEAD * products[loud]:
        names = ("left", "right")
        return channels[loud], f"the {names[quiet]} channel is dead: the {names[loud]} one is used"
    if products[2] < OPPOSITE * np.sqrt(products[0] * products[1]):
        return (left - right) / 2, "the channels are of opposite phase: one is inverted"
    return channels.mean(0), ""


def resample(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """`samples` at another rate, float32 [ceil(T * rate_out / rate_in)], aligned in time.

    samples: float32 [T], mono; rates in Hz. Band-limited (libswresample's polyphase filter):
    frequencies above half of the lower rate are removed.
    """
    assert samples.ndim == 1 and rate_in > 0 and rate_out > 0, (samples.shape, rate_in, rate_out)
    samples = samples.astype(np.float32, copy=False)
    if rate_in == rate_out or samples.size == 0:
        return samples

    length = -(-samples.size * rate_out // rate_in)
    samples = np.pad(samples, (0, max(0, SHORTEST - samples.size)))
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_out)
    frames = []
    for start in range(0, samples.size, BLOCK):
        block = np.ascontiguousarray(samples[None, start : start + BLOCK])
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate_in, start
        frames += resampler.resample(frame)
    frames += resampler.resample(None)

    out = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    return np.pad(out[:length], (0, max(0, length - out.size)))


class StreamResampler:
    """Resamples audio that comes in chunks; the results together are `resample` of the whole.

    The last milliseconds differ, where `resample` mirrors the audio and this assumes silence.

    Between rates of a simple ratio the filter is applied here, as a product with a small matrix:
    for chunks of 20 ms libswresample's own calls take several times as long.
    """

    def __init__(self, rate_in: int, rate_out: int):
        """Rates in Hz."""
        assert rate_in > 0 and rate_out > 0, (rate_in, rate_out)
        self.rate_in, self.rate_out = rate_in, rate_out
        self._filter = _filter(rate_in, rate_out) if rate_in != rate_out else None
        # Samples that later results read. Before the audio it is mirrored, as libswresample does.
        self._waiting = np.zeros(0, np.float32)
        self._begun = False
        self._resampler = None
        if self._filter is None:
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_out)
        self._received = self._returned = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The samples float32 [k] that are complete now; samples: float32 [n], any n, also 0."""
        if self.rate_in == self.rate_out or samples.size == 0:
            return samples
        if self._filter is not None:
            self._received += samples.size
            return self._filtered(self._filter, samples)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[None], np.float32), format="flt", layout="mono"
        )
        frame.sample_rate, frame.pts = self.rate_in, self._received
        self._received += samples.size
        return self._collect(frame)

    def finish(self) -> np.ndarray:
        """The remaining samples float32 [k], as if the audio ended here."""
        if self.rate_in == self.rate_out or self._received == 0:
            return np.zeros(0, np.float32)
        total = -(-self._received * self.rate_out // self.rate_in)
        # Silence follows the audio: libswresample gives nothing for less than its filter.
        last = self.push(np.zeros(SHORTEST, np.float32))
        if self._resampler is not None:
            last = np.concatenate([last, self._collect(None)])
        return last[: max(0, total - (self._returned - last.size))]

    def _filtered(self, filter: _Filter, samples: np.ndarray) -> np.ndarray:
        """What the samples complete."""
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32, copy=False)])
        if not self._begun:
            if self._waiting.size <= filter.before:
                return np.zeros(0, np.float32)
            mirrored = self._waiting[filter.before : 0 : -1]
            self._waiting, self._begun = np.concatenate([mirrored, self._waiting]), True
        width = len(filter.taps)
        count = max(0, (self._waiting.size - width) // filter.step + 1)
        size = self._waiting.strides[0]
        windows = np.lib.stride_tricks.as_strided(
            self._waiting, (count, width), (filter.step * size, size), writeable=False
        )
        found = (windows @ filter.taps).ravel()
        self._waiting = self._waiting[filter.step * count :]
        self._returned += found.size
        return found

    def _collect(self, frame: av.AudioFrame | None) -> np.ndarray:
        assert self._resampler is not None
        parts = [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]
        found = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        self._returned += found.size
        return found


@dataclass(frozen=True)
class _Filter:
    """The filter between two rates: `step` samples in, L samples out."""

    # float32 [W, L]: the L results from the W samples around their first one
    taps: np.ndarray
    before: int  # samples before that one
    step: int


@functools.cache
def _filter(rate_in: int, rate_out: int) -> _Filter | None:
    """libswresample's filter, read off its answers to single samples that are 1.

    None where the ratio of the rates is no simple one.
    """
    common = math.gcd(rate_in, rate_out)
    step, results = rate_in // common, rate_out // common
    if max(step, results) > SIMPLE:
        return None
    start = step * (PROBE // 2 // step)
    found: dict[tuple[int, int], float] = {}  # by the sample, relative to its group, and result
    for number in range(step):
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_out)
        impulse = np.zeros((1, PROBE), np.float32)
        impulse[0, start + number] = 1
        frame = av.AudioFrame.from_ndarray(impulse, format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate_in, 0
        answer = np.concatenate([part.to_ndarray()[0] for part in resampler.resample(frame)])
        for at in np.flatnonzero(answer).tolist():
            group, result = divmod(at, results)
            found[start + number - step * group, result] = float(answer[at])
    first, last = min(sample for sample, _ in found), max(sample for sample, _ in found)
    taps = np.zeros((last - first + 1, results), np.float32)
    for (sample, result), value in found.items():
        taps[sample - first, result] = value
    return _Filter(taps, -first, step)
