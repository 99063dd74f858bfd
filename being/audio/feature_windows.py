"""Speech features as the model family lays them out: a window of steps for every video frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from being.audio.waveform import checked
from being.conventions import (
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    FEATURE_WINDOW,
    FPS,
    SAMPLE_RATE,
    STEPS_PER_FRAME,
)

if TYPE_CHECKING:
    import torch

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS


def frame_count(samples: np.ndarray) -> int:
    """Video frames that a sound fills: float [T] at 16 kHz -> ceil(T / 640), at least 1."""
    return max(1, -(-samples.shape[0] // SAMPLES_PER_FRAME))


def encode(
    samples: np.ndarray, frames: int, encoder: str = "hama", width: int | None = None
) -> np.ndarray:
    """Speech features float32 [F, 16, C] of `frames` video frames, time in the middle (the layout
    of `aud_*.npy`).

    samples: float [T] in [-1, 1], mono at 16 kHz, of any length: silence follows a shorter sound, a
    longer one is used as far as the last window reaches. Window i holds steps 2 i - 8 to 2 i + 7,
    which is the sound from i / 25 - 0.16 s to i / 25 + 0.16 s, centred on the time of frame i;
    steps before the start or past the end are zero (AD-NeRF's layout: 50 steps/s, 8 rows of zeros
    at both ends, windows of 16 with stride 2). An encoder of low latency has its windows that much
    earlier (`streaming.Latency.shift`). width: that of the features which a dataset or avatar has;
    where they are from before articulation came (`encoders.HamaEncoder`), the hidden states alone
    are given. Raises InputRejected for a sound that is empty or not finite, UsageError for an
    unknown encoder.
    """
    from being.audio import encoders

    assert frames >= 1, frames
    sound = checked(samples)
    reach = (
        frames * SAMPLES_PER_FRAME + SAMPLE_RATE
    )  # a second more, so that the last windows' context is real
    sound = np.pad(sound[:reach], (0, max(0, frames * SAMPLES_PER_FRAME - sound.size)))
    chosen = encoders.encoder(encoder)
    steps = chosen.encode_clip(sound)
    before = FEATURE_WINDOW // 2 + getattr(chosen, "shift", 0)
    needed = STEPS_PER_FRAME * (frames - 1) + FEATURE_WINDOW  # rows from -8 on
    steps = steps[: max(0, needed - before), : encoders.width_of(chosen, width)]
    rows = np.pad(steps, ((before, max(0, needed - before - len(steps))), (0, 0)))[:needed]
    assert len(rows) == needed, (len(rows), needed)
    view = np.lib.stride_tricks.sliding_window_view(rows, FEATURE_WINDOW, axis=0)[::STEPS_PER_FRAME]
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def encode_segments(
    samples: np.ndarray, segments: Sequence[tuple[int, int]], encoder: str = "hama"
) -> np.ndarray:
    """Speech features float32 [F, 16, C] of a clip with breaks: each segment is encoded by itself,
    so that none of its windows, nor the encoder's own context, hears across a break; there steps
    are zero as at the ends of a clip.

    samples: float [640 F] in [-1, 1], mono at 16 kHz; segments: [start, stop) in frames, one after
    the other from 0 to F. Raises as `encode`.
    """
    assert segments[0][0] == 0 and all(a[1] == b[0] for a, b in itertools.pairwise(segments)), (
        segments
    )
    return np.concatenate(
        [
            encode(
                samples[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME], stop - start, encoder
            )
            for start, stop in segments
        ]
    )


def windows(
    features: Any, indices: Sequence[int] | np.ndarray | torch.Tensor, bounds: Any = None
) -> Any:
    """Attention windows float32 [B, 8, C, 16]: the features of frames i-4 to i+3 of each index,
    channels first.

    features: float32 [F, 16, C] of the whole clip, a numpy array or a torch tensor (the result is
    of the same kind, on the same device); indices: int [B], frames 0 to F-1; bounds: int [F, 2] of
    the same kind, the first and the last frame of the segment that each frame lies in
    (`Dataset.bounds`; by default the clip is one). Frames outside the segment are zero; at the
    border of a split the true neighbours are used.
    """
    assert features.ndim == 3 and features.shape[1] == FEATURE_WINDOW, (
        f"features are {tuple(features.shape)}"
    )
    last = features.shape[0] - 1
    if isinstance(features, np.ndarray):
        indices = np.asarray(indices)
        frames = indices[:, None] + np.arange(-ATTENTION_PAST, ATTENTION_WINDOW - ATTENTION_PAST)
        low, high = (0, last) if bounds is None else (bounds[indices, :1], bounds[indices, 1:])
        inside = ((frames >= low) & (frames <= high))[:, :, None, None]
        return np.where(inside, features[frames.clip(0, last)].swapaxes(2, 3), np.float32(0))
    import torch

    indices = torch.as_tensor(indices, device=features.device)
    steps = indices[:, None] + torch.arange(
        -ATTENTION_PAST, ATTENTION_WINDOW - ATTENTION_PAST, device=features.device
    )
    low, high = (0, last) if bounds is None else (bounds[indices, :1], bounds[indices, 1:])
    outside = ((steps < low) | (steps > high))[:, :, None, None]
    return features[steps.clamp(0, last)].swapaxes(2, 3).masked_fill(outside, 0.0)


def window(features: Any, index: int) -> Any:
    """The attention window float32 [8, C, 16] of one frame; see `windows`."""
    return windows(features, [index])[0]
