"""Cuts the windows of speech features that belong to each video frame.

A feature window has 16 feature steps. An attention window has the 8 feature windows round a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from being.conventions import (
    ATTENTION_OFFSETS,
    ATTENTION_WINDOW,
    FEATURE_WINDOW,
    SAMPLES_PER_FRAME,
    STEPS_PER_FRAME,
)

if TYPE_CHECKING:
    import torch

STRIP = FEATURE_WINDOW + STEPS_PER_FRAME * (ATTENTION_WINDOW - 1)  # steps of a frame's strip


def frame_count(samples: np.ndarray) -> int:
    """Video frames that audio fills: float [T] at 16 kHz -> ceil(T / 640), at least 1."""
    return max(1, -(-samples.shape[0] // SAMPLES_PER_FRAME))


class WindowCutter:
    """Cuts feature steps into one feature window a frame, as the steps come in.

    The window of frame i holds the steps 2 i - 8 - shift to 2 i + 7 - shift. Steps before the first
    and after the last are zero (AD-NeRF's layout: 50 steps/s, 8 rows of zeros at both ends, windows
    of 16 with stride 2).
    """

    def __init__(self, width: int, shift: int = 0):
        """width: channels of a step; shift: steps by which windows lie earlier, `Latency.shift`."""
        # The rows from the first step of the next frame's window on.
        self._rows = np.zeros((FEATURE_WINDOW // 2 + shift, width), np.float32)
        self._steps = 0
        self._frames = 0

    def push(self, steps: np.ndarray, later: int = 0) -> np.ndarray:
        """The windows float32 [k, 16, C] that the next steps float32 [s, C] complete; k may be 0.

        A frame's window is not cut before it is known that the audio begins the frame. later:
        steps that surely follow, since their audio has begun.
        """
        self._rows = np.concatenate([self._rows, steps])
        self._steps += len(steps)
        complete = (len(self._rows) - FEATURE_WINDOW) // STEPS_PER_FRAME + 1
        begun = (self._steps + later) // STEPS_PER_FRAME
        return self._cut(min(complete, begun - self._frames))

    def finish(self, frames: int) -> np.ndarray:
        """The remaining windows float32 [k, 16, C], up to `frames` in all. No steps follow."""
        count = frames - self._frames
        missing = STEPS_PER_FRAME * (count - 1) + FEATURE_WINDOW - len(self._rows)
        self._rows = np.pad(self._rows, ((0, max(0, missing)), (0, 0)))
        return self._cut(count)

    def _cut(self, count: int) -> np.ndarray:
        """The windows float32 [count, 16, C] of the next frames."""
        if count <= 0:
            return np.zeros((0, FEATURE_WINDOW, self._rows.shape[1]), np.float32)
        view = np.lib.stride_tricks.sliding_window_view(self._rows, FEATURE_WINDOW, axis=0)
        windows = view[: STEPS_PER_FRAME * count : STEPS_PER_FRAME].transpose(0, 2, 1).copy("C")
        self._rows = self._rows[STEPS_PER_FRAME * count :]
        self._frames += count
        return windows


def attention_windows(
    features: Any,
    indices: Sequence[int] | np.ndarray | torch.Tensor,
    bounds: Any = None,
    offsets: Sequence[int] = ATTENTION_OFFSETS,
) -> Any:
    """Attention windows float32 [B, 8, C, 16]: the feature windows of frames i-4 to i+3 of each i.

    features: float32 [F, 16, C] of the whole clip, a numpy array or a torch tensor (the result is
    of the same type, on the same device); indices: int [B], frames 0 to F-1; bounds: int [F, 2] of
    the same type, the first and the last frame of the segment that each frame lies in
    (`Dataset.bounds`; by default the clip is one); offsets: eight frame numbers relative to i, if
    they are others (`CODE_OFFSETS`). Frames outside the segment are zero; at the
    border of a split the true neighbours are used.
    """
    assert features.ndim == 3 and features.shape[1] == FEATURE_WINDOW, (
        f"features are {tuple(features.shape)}"
    )
    last = features.shape[0] - 1

    if isinstance(features, np.ndarray):
        indices = np.asarray(indices)
        frames = indices[:, None] + np.asarray(offsets)
        low, high = (0, last) if bounds is None else (bounds[indices, :1], bounds[indices, 1:])
        inside = ((frames >= low) & (frames <= high))[:, :, None, None]
        return np.where(inside, features[frames.clip(0, last)].swapaxes(2, 3), np.float32(0))

    import torch

    indices = torch.as_tensor(indices, device=features.device)
    # No tensor is made of the offsets: a captured CUDA graph cannot copy one from the host.
    frames = torch.stack([indices + offset for offset in offsets], 1)
    low, high = (0, last) if bounds is None else (bounds[indices, :1], bounds[indices, 1:])
    outside = ((frames < low) | (frames > high))[:, :, None, None]
    return features[frames.clamp(0, last)].swapaxes(2, 3).masked_fill(outside, 0.0)


def strips(features: np.ndarray, bounds: np.ndarray | None = None) -> np.ndarray:
    """Strips float32 [F, 30, C] of all frames of feature windows float32 [F, 16, C].

    The strip of frame i holds the steps of the windows of frames i - 4 to i + 3. Windows outside
    the frame's segment (bounds: int [F, 2], first and last frame) are zero.
    """
    windows = attention_windows(features, np.arange(len(features)), bounds)  # [F, 8, C, 16]
    return join_windows(windows.swapaxes(2, 3))


def join_windows(windows: np.ndarray) -> np.ndarray:
    """Strips float32 [B, 30, C] of the eight feature windows [B, 8, 16, C] of each frame.

    Windows overlap: each adds its last two steps.
    """
    later = windows[:, 1:, -STEPS_PER_FRAME:].reshape(len(windows), -1, windows.shape[3])
    return np.concatenate([windows[:, 0], later], 1)
