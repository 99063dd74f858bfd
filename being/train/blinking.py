"""More samples of the frames in which the eyes close: they are 1 to 6 % of a clip, and short training missed them."""

from __future__ import annotations

import numpy as np

CLOSING = 0.25  # blink from which a frame shows the eyes closing


def with_blinks(frames: np.ndarray, blink: np.ndarray, share: float) -> np.ndarray:
    """`frames` int [N] with those whose eyes close repeated until they are about `share` of all; none is taken away.

    blink: float [N] in [0, 1], of these frames.
    """
    assert frames.shape == blink.shape and 0 <= share < 1, (frames.shape, blink.shape, share)
    closing = blink > CLOSING
    count = int(closing.sum())
    if not count:
        return frames
    times = round(share / (1 - share) * (len(frames) - count) / count)
    return np.concatenate([frames, *[frames[closing]] * (times - 1)])
