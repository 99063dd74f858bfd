"""Motion between two frames: the pixels of the last one at their places in the next one.

H x W px. Flicker is what differs between a frame and the moved last one.
"""

from __future__ import annotations

import cv2
import numpy as np

# Difference of a pixel from the moved last frame, levels, at which the motion is trusted to 1/e.
TRUST_LEVELS = 12.0


class Motion:
    """How the pixels of one frame moved to the next, by optical flow (DIS, Kroeger et al. 2016)."""

    def __init__(self, last: np.ndarray, now: np.ndarray):
        """last, now: images uint8 [H, W, 3] RGB."""
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (now, last)]
        shift = flow.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
        height, width = grey[0].shape[:2]
        columns, rows = np.meshgrid(
            np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        )
        self._columns, self._rows = columns + shift[..., 0], rows + shift[..., 1]
        difference = np.abs(self.moved(last.astype(np.float32)) - now).mean(-1)
        # float32 [H, W] in 0..1: where the last frame says what this one shows
        self.trust = np.exp(-((difference / TRUST_LEVELS) ** 2)).astype(np.float32)

    def moved(self, image: np.ndarray) -> np.ndarray:
        """An image float32 [H, W, C] of the last frame, with its pixels where they are now."""
        return cv2.remap(
            image, self._columns, self._rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def flicker(self, last: np.ndarray, now: np.ndarray) -> float:
        """Mean difference in levels of an image from the moved last one, where motion is trusted.

        last, now: float [H, W, 3] in 0..255.
        """
        difference = np.abs(self.moved(last.astype(np.float32)) - now).mean(-1)
        return float((self.trust * difference).sum() / max(float(self.trust.sum()), 1.0))
