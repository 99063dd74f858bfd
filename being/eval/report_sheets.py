"""The two image sheets of a report: frames of best, median and worst PSNR; the worst frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from being.eval.evaluator import Measurement
from being.report.frame_grid import frame_grid

DIFFERENCE_GAIN = 4  # absolute differences are shown brightened by this factor
WORST_COUNT = 3  # worst frames of each kind
WORST_GAP = 5  # frames by which two worst frames of one kind are at least apart
WORST_CELL = 224  # px: height of an image
# True and rendered images at positions [n] of the measured frames.
ImagePairs = Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]


def psnr_sheet(measurement: Measurement, image_pairs: ImagePairs, frames: np.ndarray) -> np.ndarray:
    """A sheet uint8 [H, W, 3]: the frames of best, median and worst PSNR; rows: true, rendered,
    brightened difference.

    frames: int [F], the numbers of the measured frames. The PSNR is that of the head, of the face
    without a head mask, or of the whole frame without either.
    """
    scores = _frame_scores(measurement)
    order = np.argsort(-scores, kind="stable")
    positions = np.array([order[0], order[len(order) // 2], order[-1]])
    true, rendered = zip(*image_pairs(positions), strict=True)
    differences = [
        np.clip(np.abs(a.astype(np.int16) - b) * DIFFERENCE_GAIN, 0, 255).astype(np.uint8)
        for a, b in zip(true, rendered, strict=True)
    ]
    titles = [
        f"{word} {frames[k]} ({scores[k]:.1f} dB)"
        for word, k in zip(("best", "median", "worst"), positions, strict=True)
    ]
    labels = [f"true: {', '.join(titles)}", "rendered", f"difference x {DIFFERENCE_GAIN}"]
    return frame_grid([true, rendered, differences], labels)


def worst_frames_sheet(
    measurement: Measurement, image_pairs: ImagePairs, frames: np.ndarray
) -> np.ndarray:
    """A sheet uint8 [H, W, 3]: the frames of lowest PSNR, then those of largest LMD; rows: true,
    rendered, and their mouths enlarged.
    """
    # Choose the frames.
    scores = _frame_scores(measurement)
    distances = measurement.series.get("lmd", np.full(len(frames), np.nan))
    by_score = _lowest_apart(scores)
    by_distance = _lowest_apart(np.where(np.isfinite(distances), -distances, np.inf))
    by_distance = [k for k in by_distance if np.isfinite(distances[k])]
    positions = np.array(by_score + by_distance)

    # Whole frames.
    pairs = image_pairs(positions)
    true, rendered = [a for a, _ in pairs], [b for _, b in pairs]
    titles = [f"{frames[k]} ({scores[k]:.1f} dB)" for k in by_score]
    titles += [f"{frames[k]} (LMD {distances[k]:.1f} px)" for k in by_distance]
    rows, labels = [true, rendered], [f"true: {', '.join(titles)}", "rendered"]

    # Mouths, where each of the frames has a mouth box.
    boxes = measurement.boxes.get("mouth")
    if boxes is not None and all(boxes[k].any() for k in positions):
        for images, label in ((true, "true mouths"), (rendered, "rendered mouths")):
            cut = [_cut(image, boxes[k]) for image, k in zip(images, positions, strict=True)]
            rows.append(cut)
            labels.append(label)
    return frame_grid(rows, labels, WORST_CELL)


def _frame_scores(measurement: Measurement) -> np.ndarray:
    """PSNR float [F] of the head, else of the face, else of the whole frame."""
    scores = measurement.series["whole.psnr"]
    for key in ("face.psnr", "head.psnr"):
        if key in measurement.series:
            own = measurement.series[key]
            scores = np.where(np.isfinite(own), own, scores)
    return scores


def _lowest_apart(values: np.ndarray) -> list[int]:
    """Positions of the WORST_COUNT lowest values, lowest first, that are WORST_GAP apart."""
    chosen: list[int] = []
    for k in np.argsort(values, kind="stable").tolist():
        if len(chosen) < WORST_COUNT and all(abs(k - other) >= WORST_GAP for other in chosen):
            chosen.append(k)
    return chosen


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box of an image, resized to the size of the image."""
    top, bottom, left, right = box.tolist()
    part = Image.fromarray(image[top:bottom, left:right])
    return np.asarray(part.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC))
