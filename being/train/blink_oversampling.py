"""More samples of the frames in which the eyes close: they are 1 to 8 % of a clip, and short
training missed them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from being.splat import RenderOutput

CLOSING = 0.25  # blink from which a frame shows the eyes closing


def with_blinks(
    frames: np.ndarray, blink: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """`frames` int [N] and, after them, copies of those whose eyes close, until these are about
    `share` of all [M]; and which are such copies, bool [M]. None is taken away.

    blink: float [N] in [0, 1], of these frames.
    """
    assert frames.shape == blink.shape and 0 <= share < 1, (frames.shape, blink.shape, share)
    closing = blink > CLOSING
    count = int(closing.sum())
    times = round(share / (1 - share) * (len(frames) - count) / count) if count else 1
    copies = np.tile(frames[closing], max(times - 1, 0))
    return np.concatenate([frames, copies]), np.arange(len(frames) + len(copies)) >= len(frames)


def eyes_alone(output: RenderOutput, boxes: Tensor, which: Tensor) -> RenderOutput:
    """The same rendering; its pictures `which` bool [B] have a gradient inside their boxes only,
    int64 [B, 4] (top, bottom, left, right in px).

    A copy of a blinking frame teaches the eyes; mouth, brows and head see each frame as often as
    any other.
    """
    rows, columns = (torch.arange(side, device=boxes.device) for side in output.rgb.shape[2:])
    top, bottom, left, right = (edge[:, None] for edge in boxes.unbind(1))
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & (
        (columns >= left) & (columns < right)
    )[:, None]
    counted = (inside | ~which[:, None, None])[:, None]
    return replace(
        output,
        rgb=torch.where(counted, output.rgb, output.rgb.detach()),
        alpha=torch.where(counted, output.alpha, output.alpha.detach()),
    )
