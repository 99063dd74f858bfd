"""Raw pictures and sound of live sessions as frames of PyAV, for adapters that take those."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


def video_frame(i420: np.ndarray, size: int, at: int, rate: int) -> av.VideoFrame:
    """The frame of an I420 picture, uint8 [1.5 S^2], shown at sample `at` of `rate` a second."""
    assert i420.size == size * size * 3 // 2, (i420.shape, size)
    frame = av.VideoFrame.from_ndarray(i420.reshape(size * 3 // 2, size), format="yuv420p")
    frame.pts, frame.time_base = at, Fraction(1, rate)
    return frame


def audio_frame(samples: np.ndarray, at: int, rate: int) -> av.AudioFrame:
    """The frame of mono samples int16 [n] from sample `at` on."""
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def rgb_picture(i420: np.ndarray, size: int) -> np.ndarray:
    """An I420 picture in the colours of live video as RGB, uint8 [S, S, 3]."""
    frame = video_frame(i420, size, 0, 1)
    return np.asarray(frame.to_ndarray(format="rgb24", src_colorspace="ITU709"))


def mono_samples(frame: av.AudioFrame) -> np.ndarray:
    """The mean of all channels of a frame of 16-bit sound, int16 [n]."""
    values = frame.to_ndarray()
    channels = len(frame.layout.channels)
    if values.shape[0] == 1 and channels > 1:  # interleaved
        values = values.reshape(-1, channels).T
    return values.mean(0).round().astype(np.int16) if channels > 1 else values[0].astype(np.int16)
