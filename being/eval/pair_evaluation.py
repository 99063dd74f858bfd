"""Evaluation of two videos: any video compared with the true video of the same speech."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from being.console import Progress, console
from being.conventions import FPS, SAMPLES_PER_FRAME
from being.errors import InputRejected
from being.eval.evaluator import Evaluator, Measurement
from being.eval.lips import MIN_FRAMES
from being.eval.mouth_figures import MouthMeasures, mouth_figures
from being.eval.regions import region_boxes
from being.eval.speech_events import recognised_events
from being.face.face_reader import BLOCK_FRAMES, LANDMARK_SIDE
from being.media import probe, read_audio, read_frames
from being.threads import use_free_cores

# Difference of width over height, as a share, up to which the prediction is resized.
MAX_SHAPE_DIFFERENCE = 0.02
MAX_LENGTH_DIFFERENCE = 5  # frames by which two videos may differ without a warning
MIN_OVERLAP = 0.5  # share of the longer video that both must cover


@dataclass(frozen=True)
class VideoPair:
    """A predicted and a true video that show the same moments."""

    pred: Path
    truth: Path
    height: int  # px of the truth; the prediction is resized to it
    width: int
    max_frames: int | None = None  # measure only the first so many frames

    @classmethod
    def open(cls, pred: Path, truth: Path, max_frames: int | None = None) -> VideoPair:
        """The pair. Raises InputRejected where a file is no video or the proportions differ."""
        pred_info, true_info = probe(Path(pred)), probe(Path(truth))
        size = f"{pred_info.width}x{pred_info.height}"
        true_size = f"{true_info.width}x{true_info.height}"
        shape = pred_info.width / pred_info.height
        true_shape = true_info.width / true_info.height
        if abs(shape / true_shape - 1) > MAX_SHAPE_DIFFERENCE:
            raise InputRejected(
                f"{pred} is {size}, {truth} is {true_size}",
                "their proportions differ, so they do not show the same picture",
                "Crop both to the same region first",
            )
        if size != true_size:
            console.info(f"{pred} is {size}: resized to {true_size} of {truth}")
        for info in (pred_info, true_info):
            if info.fps and abs(info.fps - FPS) > 0.01:
                console.info(
                    f"{info.path} has {info.fps:.4g} frames/s: the nearest frame is used for each "
                    f"1/{FPS} s"
                )
        return cls(Path(pred), Path(truth), true_info.height, true_info.width, max_frames)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """True and predicted images uint8 [H, W, 3] of each 1/25 s that both videos cover, both
        from their first frame.
        """
        both = zip(read_frames(self.truth), read_frames(self.pred), strict=False)
        for i, (true, predicted) in enumerate(both):
            if self.max_frames is not None and i >= self.max_frames:
                return
            if predicted.shape != true.shape:
                size = (self.width, self.height)
                resized = Image.fromarray(predicted).resize(size, Image.Resampling.BICUBIC)
                predicted = np.asarray(resized)
            yield true, predicted

    def frames_at_most(self) -> int:
        """Frames at 25 frames/s of the longer video, by the lengths that the files state."""
        return max(math.ceil(probe(path).duration * FPS) for path in (self.pred, self.truth)) + 1

    def image_pairs(self, positions: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """True and predicted images of the frames at `positions` [n], in that order."""
        wanted = set(positions.tolist())
        kept = {}
        for i, pair in enumerate(self.frames()):
            if i in wanted:
                kept[i] = pair
            if len(kept) == len(wanted):
                break
        return [kept[int(i)] for i in positions]


def measure_pair(
    pair: VideoPair,
    sink: Callable[[np.ndarray, np.ndarray], None] | None = None,
    download: bool = False,
) -> Measurement:
    """All figures of the predicted video against the true one.

    Boxes come from the landmarks of the true video. There is no head mask, so "face" (brow to chin)
    replaces "head". Raises InputRejected for videos that overlap by fewer than 8 frames or by less
    than half of the longer one.

    sink: receives each pair of images; download: see `Evaluator`.
    """
    evaluator = Evaluator("cpu", download=download)
    true_count, pred_count = _frame_counts(pair)
    count = min(true_count, pred_count)
    if pair.max_frames:
        count = min(count, pair.max_frames)

    boxes: dict[str, np.ndarray] = {}
    passes = 2 if evaluator.reader else 1
    with Progress("evaluate", passes * count, "steps") as progress:
        # First pass: landmarks, from which the boxes come.
        if evaluator.reader:
            for true_block, predicted_block in _blocks(pair.frames()):
                evaluator.add_faces(true_block, predicted_block)
                progress.advance(len(true_block))
            scale = min(pair.height, pair.width) / LANDMARK_SIDE
            points = evaluator.landmarks("true").points * scale
            boxes = region_boxes(points, pair.height, pair.width)

        # Second pass: image fidelity.
        for i, (true, predicted) in enumerate(pair.frames()):
            use_free_cores()
            evaluator.add_frame(predicted, true, {name: box[i] for name, box in boxes.items()})
            if sink:
                sink(true, predicted)
            progress.advance(1, f"whole-frame PSNR {evaluator.mean_psnr():.2f} dB")

    result = evaluator.measurement()
    figures = {
        "pred": str(pair.pred),
        "truth": str(pair.truth),
        "frames": count,
        "seconds": count / FPS,
        "first_frame": 0,
        "frames_of_each": {"pred": pred_count, "truth": true_count},
        "width": pair.width,
        "height": pair.height,
        "target": f"the true video at {pair.width}x{pair.height} px",
        "averaging": "each figure per frame, then the mean",
        **result.figures,
        "speech": _phoneme_figures(pair, result, count),
    }
    return Measurement(figures, result.series, result.boxes, result.landmarks)


def pair_audio(pair: VideoPair, count: int) -> np.ndarray | None:
    """Audio float32 [640 count] at 16 kHz of the prediction, else of the truth; None where neither
    has audio.
    """
    samples = count * SAMPLES_PER_FRAME
    for path in (pair.pred, pair.truth):
        try:
            audio = read_audio(path)[:samples]
        except InputRejected:
            continue
        return np.pad(audio, (0, samples - len(audio)))
    return None


def _frame_counts(pair: VideoPair) -> tuple[int, int]:
    """Frames of the truth and of the prediction at 25 frames/s. Raises InputRejected where they
    overlap too little.
    """
    true_count = sum(1 for _ in read_frames(pair.truth))
    pred_count = sum(1 for _ in read_frames(pair.pred))
    shorter, longer = sorted((true_count, pred_count))
    found = f"{pair.pred} has {pred_count} frames, {pair.truth} has {true_count}"
    if shorter < MIN_FRAMES or shorter < MIN_OVERLAP * longer:
        raise InputRejected(
            found,
            f"at {FPS} frames/s; they overlap too little to be compared",
            "Cut both to the same stretch first",
        )
    if longer - shorter > MAX_LENGTH_DIFFERENCE:
        console.warn(f"{found}: the first {shorter} are compared")
    return true_count, pred_count


def _blocks(
    frames: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs in blocks of BLOCK_FRAMES, uint8 [B, H, W, 3] each."""
    true: list[np.ndarray] = []
    predicted: list[np.ndarray] = []
    for true_image, predicted_image in frames:
        true.append(true_image)
        predicted.append(predicted_image)
        if len(true) == BLOCK_FRAMES:
            yield np.stack(true), np.stack(predicted)
            true, predicted = [], []
    if true:
        yield np.stack(true), np.stack(predicted)


def _phoneme_figures(pair: VideoPair, result: Measurement, count: int) -> dict[str, Any] | None:
    """`mouth_figures` of both mouths; the range of the true mouth defines closed."""
    audio = pair_audio(pair, count)
    if audio is None or "aperture.true" not in result.series:
        return None
    mouth = MouthMeasures.from_aperture(result.series["aperture.true"])
    if mouth is None:
        return None
    events = recognised_events(audio)
    return {
        key: mouth_figures(result.series[f"aperture.{key}"], events, mouth)
        for key in ("rendered", "true")
    }
