"""Validation of audio samples before they are encoded."""

from __future__ import annotations

import numpy as np

from being.errors import InputRejected


def checked_samples(samples: np.ndarray) -> np.ndarray:
    """`samples` as float32 [T] in [-1, 1]; louder samples are clipped.

    samples: float [T], mono. Raises InputRejected when there are none or some are not finite.
    """
    assert samples.ndim == 1, samples.shape
    assert np.issubdtype(samples.dtype, np.floating), samples.dtype
    if samples.size == 0:
        raise InputRejected(
            "the audio is empty", "it has no samples", "Give audio of at least one video frame"
        )
    bad = samples.size - int(np.count_nonzero(np.isfinite(samples)))
    if bad:
        raise InputRejected(
            "the audio is damaged",
            f"{bad} of {samples.size} samples are not finite numbers",
            "Write the file again, for instance with: ffmpeg -i IN -c:a pcm_s16le OUT.wav",
        )
    return np.clip(samples, -1, 1).astype(np.float32, copy=False)
