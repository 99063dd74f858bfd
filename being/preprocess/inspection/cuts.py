"""Cut detection: a cut is one strong change between two frames that motion does not explain.

A candidate is a frame whose difference to the frame before stands out from the differences of the
frames around it. Mean and contrast of the two frames are matched first, so that the light may
change. Fast motion, zooms and dissolves last several frames and give no candidate. A candidate is
a cut when the difference that remains after dense optical flow (DIS, Kroeger et al. 2016) stands
out as well. A flash gives no cut: the picture before it is the picture after it.
"""

from __future__ import annotations

import cv2
import numpy as np

THUMBNAIL_SIDE = 128  # px, side of a square with the area of the compared pictures
BLOCK = 16  # px
NEIGHBOURS = 6  # frames on either side that a change is compared with
FLASH_FRAMES = 12  # longest flash
# Pictures kept on either side of the frame that is judged.
KEPT_PICTURES = NEIGHBOURS + FLASH_FRAMES + 2
# Change over the second largest change around it, and the same ratio after flow: at least this.
ISOLATED_MIN = 1.5
# Product of the two ratios: 11.8 and more at the cuts of real clips, 2.5 and less elsewhere.
CUT_MIN = 5.4
# Levels (of 255) added to the changes around: noise and key frames of a still picture are no cuts.
NOISE_LEVELS = 0.3
STRONG_LEVELS = 12.0  # mean change of the tenth of the blocks that changes most
# Difference across a flash over the difference at its edges.
FLASH_DIFFERENCE_MAX = 0.5
FLASH_LIGHT = 15.0  # levels by which a flash is lighter or darker than before and after


class CutDetector:
    """Finds the cuts of a clip from its small grey pictures, given in order."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        # Mean difference of each frame to the frame before, levels, with the light matched.
        self.change: list[float] = []
        self._strong: list[bool] = []
        self._pictures: dict[int, np.ndarray] = {}
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._next = 1  # the next frame to judge

    def add(self, picture: np.ndarray) -> None:
        """Take the next picture, uint8 [h, w] grey; of the same size each time."""
        at = len(self.change)
        before = self._pictures.get(at - 1)
        if before is None:
            self.change.append(0.0)
            self._strong.append(False)
        else:
            difference = _difference(before, picture)
            blocks = _block_means(difference)
            strongest = blocks[-max(1, len(blocks) // 10) :]
            self.change.append(float(difference.mean()))
            self._strong.append(float(strongest.mean()) > STRONG_LEVELS)
        self._pictures[at] = picture
        self._pictures.pop(at - 2 * KEPT_PICTURES, None)
        self._judge(until=at - KEPT_PICTURES + 1)

    def finish(self) -> list[int]:
        """All cuts: the first frame of each new shot, ascending."""
        self._judge(until=len(self.change))
        self._pictures.clear()
        return self.cuts

    def _judge(self, until: int) -> None:
        while self._next < until:
            if self._is_cut(self._next):
                self.cuts.append(self._next)
            self._next += 1

    def _isolation(self, at: int) -> float:
        """The change at frame `at` over the second largest change around it."""
        before = self.change[max(1, at - NEIGHBOURS) : at]
        after = self.change[at + 1 : at + 1 + NEIGHBOURS]
        return self.change[at] / (_second_largest(before + after) + NOISE_LEVELS)

    def _is_candidate(self, at: int) -> bool:
        return self._strong[at] and self._isolation(at) > ISOLATED_MIN

    def _is_cut(self, at: int) -> bool:
        if not self._is_candidate(at) or self._in_flash(at):
            return False
        first, last = max(1, at - NEIGHBOURS), min(len(self.change), at + 1 + NEIGHBOURS)
        around = [self._flow_residual(i) for i in range(first, last) if i != at]
        unexplained = self._flow_residual(at) / (_second_largest(around) + NOISE_LEVELS)
        return unexplained > ISOLATED_MIN and unexplained * self._isolation(at) > CUT_MIN

    def _flow_residual(self, at: int) -> float:
        """Mean difference, levels, of a frame to the frame before moved along the optical flow."""
        before, now = self._pictures[at - 1], self._pictures[at]
        before = np.clip(_match_light(before, now), 0, 255).astype(np.uint8)
        flow = self._flow.calc(now, before, np.zeros((*now.shape, 2), np.float32))
        y, x = np.mgrid[: now.shape[0], : now.shape[1]].astype(np.float32)
        moved = cv2.remap(
            before,
            x + flow[..., 0],
            y + flow[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return float(np.abs(moved.astype(np.float32) - now).mean())

    def _in_flash(self, at: int) -> bool:
        """Whether frame `at` is one edge of a flash: a candidate near it is the other edge."""
        others = range(max(1, at - FLASH_FRAMES), min(len(self.change), at + FLASH_FRAMES + 1))
        for other in others:
            if other == at or not self._is_candidate(other):
                continue
            first, last = min(at, other), max(at, other)
            before, after = self._pictures[first - 1], self._pictures[last]
            across = float(_difference(before, after).mean())
            light = np.mean([self._pictures[i].mean() for i in range(first, last)])
            shift = min(abs(light - before.mean()), abs(light - after.mean()))
            edges = min(self.change[at], self.change[other])
            is_flash = shift > FLASH_LIGHT or last - first <= 2
            if across < FLASH_DIFFERENCE_MAX * edges and is_flash:
                return True
        return False


def thumbnail_size(width: int, height: int, side: int = THUMBNAIL_SIDE) -> tuple[int, int]:
    """Width and height in px of a small picture with the area of a square of `side` px.

    It is never larger than the whole picture (width, height in px).
    """
    scale = min(1.0, side / (width * height) ** 0.5)
    return max(BLOCK, round(width * scale)), max(BLOCK, round(height * scale))


def _match_light(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`picture` with the mean and (within a factor of two) the contrast of `other`, float32."""
    gain = float(np.clip(other.std() / (picture.std() + 1e-3), 0.5, 2.0))
    centred = picture.astype(np.float32) - picture.mean(dtype=np.float32)
    return centred * gain + other.mean(dtype=np.float32)


def _difference(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    return np.abs(_match_light(before, now) - now)


def _block_means(difference: np.ndarray) -> np.ndarray:
    """Means of the blocks of a picture, ascending."""
    height, width = (side // BLOCK * BLOCK for side in difference.shape)
    blocks = difference[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return np.sort(blocks.mean((1, 3)).ravel())


def is_isolated(change: np.ndarray, at: int) -> bool:
    """Whether the change float [n] at frame `at`, levels, stands out from those around it."""
    around = [*change[max(1, at - NEIGHBOURS) : at], *change[at + 1 : at + 1 + NEIGHBOURS]]
    return bool(change[at] > ISOLATED_MIN * (_second_largest(around) + NOISE_LEVELS))


def _second_largest(values: list[float]) -> float:
    """The second largest value: one neighbour may be an outlier (a flash's end, the next cut)."""
    return sorted(values)[-2] if len(values) > 1 else sum(values)
