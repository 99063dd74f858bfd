"""Oversampling of blinks: frames in which the eyes close are repeated in the training set.

They are 1 to 8 % of a clip, and a short training without their copies leaves the eyes open.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from being.splat import RenderOutput

BLINK_THRESHOLD = 0.25  # blink value from which on the eyes count as closing


def oversample_blinks(
    frames: np.ndarray, blink: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Training frames with copies of the blinking ones, int [M], and which of them are copies,
    bool [M].

    frames: int [N]; all of them are kept, and the copies follow them. blink: float [N] in [0, 1] of
    these frames. share: the blinking frames become about this share of all, unless they already
    are.
    """
    assert frames.shape == blink.shape and 0 <= share < 1, (frames.shape, blink.shape, share)
    closing = blink > BLINK_THRESHOLD
    count = int(closing.sum())

    # How often each blinking frame must occur
    times = 1
    if count:
        times = round(share / (1 - share) * (len(frames) - count) / count)
    copies = np.tile(frames[closing], max(times - 1, 0))
    every = np.concatenate([frames, copies])
    return every, np.arange(len(every)) >= len(frames)


def restrict_gradient_to_eyes(output: RenderOutput, boxes: Tensor, copied: Tensor) -> RenderOutput:
    """The same render output, in which the copied images have a gradient in the eye box only.

    boxes: int64 [B, 4], top, bottom, left, right in px; copied: bool [B]. So a copy of a blinking
    frame trains the eyes only, and mouth, brows and head see each frame equally often.
    """
    rows, columns = (torch.arange(side, device=boxes.device) for side in output.rgb.shape[2:])
    top, bottom, left, right = (edge[:, None] for edge in boxes.unbind(1))
    in_rows = (rows >= top) & (rows < bottom)
    in_columns = (columns >= left) & (columns < right)
    inside = in_rows[:, :, None] & in_columns[:, None]
    trained = (inside | ~copied[:, None, None])[:, None]
    return replace(
        output,
        rgb=torch.where(trained, output.rgb, output.rgb.detach()),
        alpha=torch.where(trained, output.alpha, output.alpha.detach()),
    )
