"""Measurements of a clip at the face: what moves elsewhere in the picture does not count.

A speaker in the corner of a screen recording fills little of the picture. The mean change of the
picture then says nothing of the person, and a slide that changes is no cut.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from being.preprocess.inspection.crop import face_boxes, head_square
from being.preprocess.inspection.cuts import is_isolated
from being.preprocess.inspection.measurements import ClipMeasurements, SampledFrame

# Share of the picture that the square around the head fills, under which only the square counts.
SMALL = 0.3
# Margin around the face, of its size, in which its motion is measured.
FACE_MARGIN = 0.25

# Change around the face at a cut, levels. A key frame after a slide changes it by less.
CUT_LEVELS = 5.0

Region = tuple[int, int, int]  # left, top, side, px of the upright source picture


def small_region(measured: ClipMeasurements) -> Region | None:
    """The square around the head where it is a small part of the picture, else None."""
    points = [sample.points for sample in measured.samples if not np.isnan(sample.points[0, 0])]
    if not points:
        return None
    width, height = measured.info.width, measured.info.height
    region = head_square(width, height, face_boxes(np.stack(points)))
    return region if region[2] ** 2 < SMALL * width * height else None


def measured_at_face(measured: ClipMeasurements) -> ClipMeasurements:
    """The measurements with the change and the cuts around the face alone.

    The change of the light is measured over whole pictures, so it is NaN.
    """
    change = face_change(measured)
    return replace(
        measured,
        change=change,
        light_change=np.full_like(measured.light_change, np.nan),
        cuts=[at for at in measured.cuts if change[at] > CUT_LEVELS and is_isolated(change, at)],
    )


def face_change(measured: ClipMeasurements) -> np.ndarray:
    """float32 [n], mean difference of each frame to the frame before in levels, around the face.

    The face is where the nearest sampled frame shows it; without any, the whole picture counts.
    """
    faces = [sample for sample in measured.samples if not np.isnan(sample.points[0, 0])]
    if not faces:
        return measured.change
    numbers = np.array([sample.number for sample in faces])
    middles = (numbers[1:] + numbers[:-1]) / 2
    nearest = np.searchsorted(middles, np.arange(len(measured.change)))
    boxes = face_boxes(np.stack([sample.points for sample in faces]))
    margin = FACE_MARGIN * (boxes[:, 2:] - boxes[:, :2])
    return _change_in_boxes(
        measured, nearest, np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)
    )


def samples_in_region(
    samples: list[SampledFrame], region: Region, scale: float
) -> list[SampledFrame]:
    """The samples with points and thumbnails of the square `region` alone.

    scale: px of a thumbnail over px of the source picture.
    """
    left, top, side = region
    x, y, size = (round(value * scale) for value in region)
    offset = np.array([left, top, 0], np.float32)
    return [
        replace(
            sample,
            points=sample.points - offset,
            thumbnail=None
            if sample.thumbnail is None
            else np.ascontiguousarray(sample.thumbnail[y : y + size, x : x + size]),
        )
        for sample in samples
    ]


def _change_in_boxes(
    measured: ClipMeasurements, which: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    """Mean change float32 [n] of each frame in its box, levels.

    which: int [n], ascending, the box of each frame. boxes: float [m, 4] px of the source picture.
    """
    rows, columns = measured.block_change.shape[1:]
    to_blocks = np.array([columns / measured.info.width, rows / measured.info.height] * 2)
    change = np.zeros(len(which), np.float32)
    borders = np.searchsorted(which, np.arange(len(boxes) + 1))
    for box, start, stop in zip(boxes * to_blocks, borders[:-1], borders[1:], strict=True):
        left, top = np.clip(np.floor(box[:2]).astype(int), 0, [columns - 1, rows - 1])
        right, bottom = np.clip(np.ceil(box[2:]).astype(int), [left + 1, top + 1], [columns, rows])
        inside = measured.block_change[start:stop, top:bottom, left:right]
        change[start:stop] = inside.mean((1, 2), dtype=np.float32)
    return change
