"""OpenFace's own `au.csv` of a clip, checked and laid onto the dataset's frames."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.errors import InputRejected
from being.face.action_units import AU_MAX, BLINK_UNIT, write_table
from being.face.smoothing import fill

COLUMN = re.compile(r"AU\d\d_[rc]")  # intensities and presences
ROWS_MAX = 1_000_000
SUCCESS_MIN = 0.5  # share of the rows in which OpenFace must have found the face
RANGE_SLACK = 0.01  # of intensities, for rounding
SPAN_SLACK_S = 0.2  # by which the table's time may differ from the clip's
HOW = "Run OpenFace's FeatureExtraction on this very video, and give its csv as it is"

Table = tuple[list[str], np.ndarray, np.ndarray]


def read_openface(
    path: Path, frames: int, seconds: float, times: np.ndarray | None = None
) -> Table:
    """Names [K] (`AU01_r`, ...), values float32 [F, K] and confidence float32 [F] of the dataset's
    frames.

    path: a csv of OpenFace 2, with or without blanks before its column names. frames: F. seconds:
    how long the source clip is. times: float [F], where in the source clip each frame of the
    dataset lies, s from its first picture; by default frame / 25. As many rows as frames are taken
    one for one (the family's rule); any other number is laid onto the frames by time, if the table
    lasts as long as the clip: OpenFace on a 30 frames/s source makes such a table. Rows without
    success are bridged from their neighbours, confidence 0. Raises InputRejected.
    """
    path = Path(path)
    names, columns = read_columns(path)
    rows = len(columns["frame"])
    wanted = [name for name in names if COLUMN.fullmatch(name)]
    if f"{BLINK_UNIT}_r" not in wanted:
        raise InputRejected(
            f"{path} has no column {BLINK_UNIT}_r",
            f"it has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            "Let OpenFace write action units: FeatureExtraction -aus -f VIDEO",
        )
    index = _rows_of_frames(path, columns, frames, seconds, times)
    values = np.stack([columns[name] for name in wanted], 1)
    low, high = values.min(0), values.max(0)
    worst = int(np.argmax(np.maximum(high - AU_MAX, -low)))
    if low[worst] < -RANGE_SLACK or high[worst] > AU_MAX + RANGE_SLACK:
        raise InputRejected(
            f"{path}: {wanted[worst]} runs from {low[worst]:.2f} to {high[worst]:.2f}",
            f"OpenFace's intensities run from 0 to {AU_MAX:.0f}",
            HOW,
        )
    success = columns.get("success", np.ones(rows)) > 0.5
    if success.mean() < SUCCESS_MIN:
        raise InputRejected(
            f"{path}: OpenFace found the face in {int(success.sum())} of {rows} rows", fix=HOW
        )
    confidence = np.where(success, np.clip(columns.get("confidence", np.ones(rows)), 0, 1), 0)
    values = np.clip(fill(values, success), 0, AU_MAX)
    return wanted, values[index].astype(np.float32), confidence[index].astype(np.float32)


def write_openface(path: Path, table: Table) -> None:
    """Write a table of `read_openface` as the dataset's `au.csv`."""
    write_table(path, *table)


def read_columns(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Column names without blanks, and the numbers [N] under each that is read; `frame` counts from
    0, ascending.

    Raises InputRejected for a file that is no table of action units, or of several faces, or skips
    frames.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = (
                row for row, _ in zip(csv.reader(file), range(ROWS_MAX), strict=False) if row
            )
    except (OSError, ValueError, csv.Error) as error:
        why = (
            "it is empty"
            if isinstance(error, ValueError) and "unpack" in str(error)
            else str(error)
        )
        raise InputRejected(
            f"{path} cannot be read as a table of action units", why, HOW
        ) from error
    names = [name.strip() for name in header]
    read = [
        k
        for k, name in enumerate(names)
        if COLUMN.fullmatch(name)
        or name in ("frame", "face_id", "timestamp", "confidence", "success")
    ]
    if not any(COLUMN.fullmatch(names[k]) for k in read):
        raise InputRejected(
            f"{path} is not a table of action units", "no column is named like AU45_r", HOW
        )
    uneven = [
        f"row {i + 1} has {len(row)} of {len(names)} values"
        for i, row in enumerate(rows)
        if len(row) < len(names)
    ]
    if not rows or uneven:
        raise InputRejected(f"{path} is cut off", uneven[0] if uneven else "it has no rows", HOW)
    try:
        table = np.array([[float(row[k]) for k in read] for row in rows])
    except ValueError as error:
        raise InputRejected(f"{path} holds something that is no number", str(error), HOW) from error
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise InputRejected(
            f"{path} holds values that are not finite",
            f"{names[read[column]]} in row {row + 1}",
            HOW,
        )
    columns = {names[k]: table[:, i] for i, k in enumerate(read)}
    columns.setdefault("frame", np.arange(1.0, len(rows) + 1))
    if len(np.unique(columns.get("face_id", [0]))) > 1 or len(np.unique(columns["frame"])) < len(
        rows
    ):
        raise InputRejected(
            f"{path} holds several rows for one frame", "that is a table of several faces", HOW
        )
    columns["frame"] = columns["frame"] - columns["frame"][0]
    if not np.array_equal(columns["frame"], np.arange(len(rows))):
        raise InputRejected(
            f"{path} skips frames",
            f"its frame column runs over {int(columns['frame'][-1]) + 1} "
            f"frames in {len(rows)} rows",
            HOW,
        )
    return names, columns


def _rows_of_frames(
    path: Path,
    columns: dict[str, np.ndarray],
    frames: int,
    seconds: float,
    times: np.ndarray | None,
) -> np.ndarray:
    """The row int64 [F] of every frame."""
    rows = len(columns["frame"])
    if rows == frames:
        return np.arange(frames)
    times = np.arange(frames) / FPS if times is None else np.asarray(times, np.float64)
    assert times.shape == (frames,), times.shape
    stamps = columns.get("timestamp")
    if stamps is None:
        raise InputRejected(
            f"{path} has {rows} rows for {frames} frames", "and no timestamps to place them by", HOW
        )
    step = float(np.median(np.diff(stamps))) if rows > 1 else 0.0
    span = float(stamps[-1] - stamps[0]) + step
    if step <= 0 or (np.diff(stamps) <= 0).any() or abs(span - seconds) > SPAN_SLACK_S:
        rate = f" at {1 / step:.4g} rows/s" if step > 0 else ""
        raise InputRejected(
            f"{path} does not belong to this clip",
            f"its {rows} rows{rate} last {span:.2f} s, the "
            f"clip's {frames} frames at {FPS} frames/s come from {seconds:.2f} s",
            HOW,
        )
    return np.searchsorted(stamps[:-1] + np.diff(stamps) / 2, times + stamps[0], "right")
