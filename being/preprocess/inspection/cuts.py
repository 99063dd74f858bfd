"""Cuts of a clip, found while its pictures go by: a change that stands alone in time and that no
motion explains.

A candidate is a frame whose difference to the one before, after matching mean and contrast (so that
light may change), stands out from that of the frames around it; fast motion, zooms and dissolves go
on for several frames and are none. It is a cut when what remains of the difference after dense
optical flow (DIS, Kroeger et al. 2016) stands out as well. A flash is taken back: before and after
it the picture is the same.
"""

from __future__ import annotations

import cv2
import numpy as np

THUMB = 128  # px, side of a square of the same area as the pictures compared
BLOCK = 16  # px
REACH = 6  # frames on either side a change is compared with
FLASH = 12  # frames a flash may last
HOLD = REACH + FLASH + 2  # pictures kept on either side of the frame that is judged
# change over the second largest around it, and the same of what flow leaves: at least this each
ALONE = 1.5
# product of the two: 11.8 and more at the cuts of real clips, 2.5 and less elsewhere in them
CUT = 5.4
# levels (of 255) added to what is around: noise and key frames of a still picture are no cuts
QUIET = 0.3
STRONG = 12.0  # levels, mean of the tenth of blocks that changes most
SAME_AGAIN = 0.5  # difference across a flash over the difference at its edges
FLASH_LIGHT = 15.0  # levels by which a flash is lighter or darker than before and after


class CutFinder:
    """Feed it small grey pictures in order; `cuts` after `finish` holds the first frames of new
    shots.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.change: list[
            float
        ] = []  # mean difference to the frame before, levels, light changes taken out
        self._strong: list[bool] = []
        self._pictures: dict[int, np.ndarray] = {}
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._judged = 1

    def add(self, picture: np.ndarray) -> None:
        """The next picture, uint8 [h, w] grey; one of another size than the first starts a new
        shot.
        """
        at = len(self.change)
        before = self._pictures.get(at - 1)
        if before is None:
            self.change.append(0.0)
            self._strong.append(False)
        else:
            difference = _difference(before, picture)
            blocks = _blocks(difference)
            self.change.append(float(difference.mean()))
            self._strong.append(float(blocks[-max(1, len(blocks) // 10) :].mean()) > STRONG)
        self._pictures[at] = picture
        self._pictures.pop(at - 2 * HOLD, None)
        self._judge(until=at - HOLD + 1)

    def finish(self) -> list[int]:
        """All cuts, rising."""
        self._judge(until=len(self.change))
        self._pictures.clear()
        return self.cuts

    def _judge(self, until: int) -> None:
        while self._judged < until:
            if self._is_cut(self._judged):
                self.cuts.append(self._judged)
            self._judged += 1

    def _alone(self, at: int) -> float:
        around = self.change[max(1, at - REACH) : at] + self.change[at + 1 : at + 1 + REACH]
        return self.change[at] / (_second(around) + QUIET)

    def _stands_alone(self, at: int) -> bool:
        return self._strong[at] and self._alone(at) > ALONE

    def _is_cut(self, at: int) -> bool:
        if not self._stands_alone(at) or self._in_flash(at):
            return False
        numbers = [
            i for i in range(max(1, at - REACH), min(len(self.change), at + 1 + REACH)) if i != at
        ]
        unexplained = self._after_flow(at) / (
            _second([self._after_flow(i) for i in numbers]) + QUIET
        )
        return unexplained > ALONE and unexplained * self._alone(at) > CUT

    def _after_flow(self, at: int) -> float:
        """Mean difference of a frame to the one before moved along the flow between them, levels."""
        before, now = self._pictures[at - 1], self._pictures[at]
        before = np.clip(_lit_as(before, now), 0, 255).astype(np.uint8)
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
        others = range(max(1, at - FLASH), min(len(self.change), at + FLASH + 1))
        for other in (i for i in others if i != at and self._stands_alone(i)):
            first, last = min(at, other), max(at, other)
            before, after = self._pictures[first - 1], self._pictures[last]
            across = float(_difference(before, after).mean())
            light = np.mean([self._pictures[i].mean() for i in range(first, last)])
            shift = min(abs(light - before.mean()), abs(light - after.mean()))
            if across < SAME_AGAIN * min(self.change[at], self.change[other]) and (
                shift > FLASH_LIGHT or last - first <= 2
            ):
                return True
        return False


def thumb_size(width: int, height: int, side: int = THUMB) -> tuple[int, int]:
    """Width and height in px of a small picture with the area of a square of `side`, never larger
    than the whole.
    """
    scale = min(1.0, side / (width * height) ** 0.5)
    return max(BLOCK, round(width * scale)), max(BLOCK, round(height * scale))


def _lit_as(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A picture with the mean and (within a factor of two) the contrast of another, float32."""
    gain = float(np.clip(other.std() / (one.std() + 1e-3), 0.5, 2.0))
    return (one.astype(np.float32) - one.mean(dtype=np.float32)) * gain + other.mean(
        dtype=np.float32
    )


def _difference(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    return np.abs(_lit_as(before, now) - now)


def _blocks(difference: np.ndarray) -> np.ndarray:
    """Means of the blocks of a picture, rising."""
    height, width = (side // BLOCK * BLOCK for side in difference.shape)
    cut = difference[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return np.sort(cut.mean((1, 3)).ravel())


def _second(values: list[float]) -> float:
    """The second largest: one neighbour may be an outlier of its own (the end of a flash, the next
    cut).
    """
    return sorted(values)[-2] if len(values) > 1 else sum(values)
