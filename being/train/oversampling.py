"""Oversampling of rare frames: closing eyes and rare mouths are repeated in the training set.

Eyes close in 1 to 8 % of a clip's frames, and a short training without their copies leaves the eyes
open. Wide, rounded and toothy mouths are as rare, and without copies they are learnt last.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from being.face.mouth_code import MOUTH_CHANNELS
from being.splat import RenderOutput

BLINK_THRESHOLD = 0.25  # blink value from which on the eyes count as closing
# Channels of the mouth code by which a mouth counts as rare, and how finely their range is parted.
BALANCED_CHANNELS = ("lip_opening", "lip_width", "jaw_open", "teeth")
RANGE_PERCENTILES = (1.0, 99.0)
PARTS = 8
LEAST_SHARE = 0.02  # of the frames in a part: a part with fewer counts as having so many
USUAL_COPIES = 2  # of a frame of mean rarity, so that common mouths can be drawn less often
MOST_COPIES = 8  # of the rarest


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


def balance_mouths(frames: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Training frames repeated so that rare mouths are drawn more often, int [M], each at least
    once.

    frames: int [N]; codes: their mouth codes float [N, K]. The range of each of BALANCED_CHANNELS
    is divided into PARTS. A frame's rarity is the mean of the inverse shares of its parts.
    """
    assert len(frames) == len(codes), (len(frames), len(codes))
    if not len(frames):
        return frames
    rarity = np.zeros(len(frames))
    for name in BALANCED_CHANNELS:
        channel = codes[:, MOUTH_CHANNELS.index(name)]
        low, high = np.percentile(channel, RANGE_PERCENTILES)
        place = (channel - low) / max(high - low, 1e-6) * PARTS
        part = np.clip(place.astype(int), 0, PARTS - 1)
        share = np.bincount(part, minlength=PARTS) / len(frames)
        rarity += 1 / np.maximum(share[part], LEAST_SHARE)
    copies = np.round(USUAL_COPIES * rarity / rarity.mean()).astype(int)
    return np.repeat(frames, np.clip(copies, 1, MOST_COPIES))


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
