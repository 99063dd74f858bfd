"""`measure_pair()`: any video beside the true one -> the same figures by the same ruler, for other
systems' output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.audio.feature_windows import SAMPLES_PER_FRAME
from being.console import Progress, say, warn
from being.conventions import FPS
from being.errors import InputRejected
from being.eval.evaluator import Evaluator, Measured
from being.eval.faces import BLOCK, SIDE
from being.eval.lips import LEAST_FRAMES
from being.eval.regions import region_boxes
from being.eval.speech import Mouth, heard, mouth_figures
from being.media import probe, read_audio, read_frames

SAME_SHAPE = (
    0.02  # difference of width over height, as a share, up to which the prediction is resized
)
SAME_LENGTH = 5  # frames by which two videos may differ in length without a word
OVERLAP_LEAST = 0.5  # of the longer video that must be covered by both


@dataclass(frozen=True)
class Pair:
    """Two videos that show the same moments."""

    pred: Path
    truth: Path
    height: int  # px of the truth; the prediction is brought to it
    width: int
    most: int | None = None  # frames that are looked at at all

    @classmethod
    def open(cls, pred: Path, truth: Path, most: int | None = None) -> Pair:
        """The pair, refused (InputRejected) where a file is no video or the pictures have other
        proportions.
        """
        one, other = probe(Path(pred)), probe(Path(truth))
        shape, true_shape = one.width / one.height, other.width / other.height
        if abs(shape / true_shape - 1) > SAME_SHAPE:
            raise InputRejected(
                f"{pred} is {one.width}x{one.height}, {truth} is {other.width}x{other.height}",
                "their proportions differ, so they do not show the same picture",
                "Crop both to the same region first",
            )
        if (one.width, one.height) != (other.width, other.height):
            say(
                f"{pred} is {one.width}x{one.height}: resized to {other.width}x{other.height} of {truth}"
            )
        for info in (one, other):
            if info.fps and abs(info.fps - FPS) > 0.01:
                say(
                    f"{info.path} has {info.fps:.4g} frames/s: for each 1/{FPS} s the nearest frame is taken"
                )
        return cls(Path(pred), Path(truth), other.height, other.width, most)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """True and predicted pictures uint8 [H, W, 3] of each 1/25 s that both cover, both from
        their first frame.
        """
        for i, (true, made) in enumerate(
            zip(read_frames(self.truth), read_frames(self.pred), strict=False)
        ):
            if self.most is not None and i >= self.most:
                return
            if made.shape != true.shape:
                made = np.asarray(
                    Image.fromarray(made).resize(
                        (self.width, self.height), Image.Resampling.BICUBIC
                    )
                )
            yield true, made

    def pairs(self, places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """True and predicted pictures of the frames at `places` [n], in that order."""
        wanted, kept = set(places.tolist()), {}
        for i, pair in enumerate(self.frames()):
            if i in wanted:
                kept[i] = pair
            if len(kept) == len(wanted):
                break
        return [kept[int(i)] for i in places]


def measure_pair(
    pair: Pair, sink: Callable[[np.ndarray, np.ndarray], None] | None = None, download: bool = False
) -> Measured:
    """Figures of the predicted video against the true one, by the ruler that runs are measured by.

    Boxes come from the landmarks of the true video (there is no head mask: "face" is brow to chin).
    Raises InputRejected for videos that overlap by fewer than 8 frames or by less than half of the
    longer one.
    """
    ruler = Evaluator("cpu", download=download)
    counts, passes = _lengths(pair), 2 if ruler.reader else 1
    count = min(*counts, pair.most or min(counts))
    boxes: dict[str, np.ndarray] = {}
    with Progress("evaluate", passes * count, "steps") as progress:
        if ruler.reader:
            for true, made in _blocks(pair.frames()):
                ruler.faces(true, made)
                progress.advance(len(true))
            points = ruler.landmarks("true").points * (min(pair.height, pair.width) / SIDE)
            boxes = region_boxes(points, pair.height, pair.width)
        for i, (picture, made_picture) in enumerate(pair.frames()):
            ruler.pictures(made_picture, picture, {name: box[i] for name, box in boxes.items()})
            if sink:
                sink(picture, made_picture)
            progress.advance(
                1, f"whole-frame PSNR {np.mean([row['whole.psnr'] for row in ruler.rows]):.2f} dB"
            )
    measured = ruler.measured()
    figures = {
        "pred": str(pair.pred),
        "truth": str(pair.truth),
        "frames": count,
        "seconds": count / FPS,
        "first_frame": 0,
        "frames_of_each": {"pred": counts[1], "truth": counts[0]},
        "width": pair.width,
        "height": pair.height,
        "target": f"the true video at {pair.width}x{pair.height} px",
        "averaging": "each figure per frame, then the mean",
        **measured.figures,
        "speech": _at_what_is_said(pair, measured, count),
    }
    return Measured(figures, measured.series, measured.boxes)


def pair_sound(pair: Pair, count: int) -> np.ndarray | None:
    """Sound float32 [640 count] at 16 kHz of the prediction, else of the truth; None where neither
    has any.
    """
    for path in (pair.pred, pair.truth):
        try:
            sound = read_audio(path)[: count * SAMPLES_PER_FRAME]
        except InputRejected:
            continue
        return np.pad(sound, (0, count * SAMPLES_PER_FRAME - len(sound)))
    return None


def _lengths(pair: Pair) -> tuple[int, int]:
    """Frames of the truth and of the prediction at 25 frames/s, checked."""
    counts = sum(1 for _ in read_frames(pair.truth)), sum(1 for _ in read_frames(pair.pred))
    if min(counts) < LEAST_FRAMES or min(counts) < OVERLAP_LEAST * max(counts):
        raise InputRejected(
            f"{pair.pred} has {counts[1]} frames, {pair.truth} has {counts[0]}",
            f"at {FPS} frames/s; they cover too little of each other to be one another's truth",
            "Cut both to the same stretch first",
        )
    if abs(counts[0] - counts[1]) > SAME_LENGTH:
        warn(
            f"{pair.pred} has {counts[1]} frames, {pair.truth} has {counts[0]}: the first {min(counts)} are compared"
        )
    return counts


def _blocks(
    frames: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs in blocks of BLOCK, uint8 [B, H, W, 3] each."""
    block: list[tuple[np.ndarray, np.ndarray]] = []
    for pair in frames:
        block.append(pair)
        if len(block) == BLOCK:
            yield np.stack([true for true, _ in block]), np.stack([made for _, made in block])
            block = []
    if block:
        yield np.stack([true for true, _ in block]), np.stack([made for _, made in block])


def _at_what_is_said(pair: Pair, measured: Measured, count: int) -> dict[str, Any] | None:
    """What both mouths do at what is said; the true one's range says what is closed."""
    sound = pair_sound(pair, count)
    if sound is None or "aperture.true" not in measured.series:
        return None
    mouth = Mouth.of(measured.series["aperture.true"])
    if mouth is None:
        return None
    said = heard(sound)
    return {
        key: mouth_figures(measured.series[f"aperture.{key}"], said, mouth)
        for key in ("rendered", "true")
    }
