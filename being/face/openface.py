"""Reading of OpenFace's csv of action units, validated and mapped to the dataset's frames."""

from __future__ import annotations

import re
from array import array
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.errors import InputRejected
from being.face.action_units import AU_MAX, BLINK_UNIT, write_au_table
from being.face.smoothing import interpolate_missing
from being.reading.content import Unreadable, reason
from being.reading.tables import read_rows

COLUMN = re.compile(r"AU\d\d_[rc]")  # intensities (r) and presences (c)
OTHER_COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success")
VALUE_MAX = 1e9  # of a time or a frame number
SUCCESS_MIN = 0.5  # share of the rows in which OpenFace must have found the face
RANGE_SLACK = 0.01  # of intensities, for rounding
SPAN_SLACK_S = 0.2  # by which the table's duration may differ from the clip's
HOW_TO_MAKE = "Run OpenFace's FeatureExtraction on this very video, and give its csv as it is"

# Column names [K], values float32 [F, K], confidence float32 [F].
ActionUnitTable = tuple[list[str], np.ndarray, np.ndarray]


def read_openface(
    path: Path, frames: int, seconds: float, times: np.ndarray | None = None
) -> ActionUnitTable:
    """Names [K] (`AU01_r`, ...), values float32 [F, K] and confidence float32 [F] of all frames.

    path: a csv of OpenFace 2, with or without spaces before its column names. frames: F of the
    dataset. seconds: duration of the source clip. times: float [F], the time of each frame of the
    dataset in the source clip, s from its first frame; by default frame / 25.

    A table of F rows is taken row by row (the rule of the family). A table of any other length is
    mapped to the frames by time, if it lasts as long as the clip; OpenFace makes such a table from
    a source of 30 frames/s. Rows without success are interpolated from their neighbours and get
    confidence 0. Raises InputRejected.
    """
    path = Path(path)
    names, columns = read_openface_columns(path)
    rows = len(columns["frame"])
    wanted = [name for name in names if COLUMN.fullmatch(name)]
    if f"{BLINK_UNIT}_r" not in wanted:
        raise InputRejected(
            f"{path} has no column {BLINK_UNIT}_r",
            f"it has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            "Let OpenFace write action units: FeatureExtraction -aus -f VIDEO",
        )
    row_of_frame = _rows_of_frames(path, columns, frames, seconds, times)

    # Values outside 0 to 5 are no intensities of OpenFace.
    values = np.stack([columns[name] for name in wanted], 1)
    low, high = values.min(0), values.max(0)
    worst = int(np.argmax(np.maximum(high - AU_MAX, -low)))
    if low[worst] < -RANGE_SLACK or high[worst] > AU_MAX + RANGE_SLACK:
        raise InputRejected(
            f"{path}: {wanted[worst]} runs from {low[worst]:.2f} to {high[worst]:.2f}",
            f"OpenFace's intensities run from 0 to {AU_MAX:.0f}",
            HOW_TO_MAKE,
        )

    # Most rows must show the face; the others are interpolated.
    success = columns.get("success", np.ones(rows)) > 0.5
    if success.mean() < SUCCESS_MIN:
        raise InputRejected(
            f"{path}: OpenFace found the face in {int(success.sum())} of {rows} rows",
            fix=HOW_TO_MAKE,
        )
    confidence = np.where(success, np.clip(columns.get("confidence", np.ones(rows)), 0, 1), 0)
    values = np.clip(interpolate_missing(values, success), 0, AU_MAX)
    return (
        wanted,
        values[row_of_frame].astype(np.float32),
        confidence[row_of_frame].astype(np.float32),
    )


def write_openface(path: Path, table: ActionUnitTable) -> None:
    """Write a table of `read_openface` as the dataset's `au.csv`."""
    write_au_table(path, *table)


def read_openface_columns(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """All column names without spaces, and the numbers [N] of each column that `being` uses.

    The column `frame` is always present; it counts 0, 1, ... Raises InputRejected for a file that
    is no table of action units, or is of several faces, or skips frames.
    """
    names, used, table = _read_table(path)

    # All used values must be finite numbers.
    fits = np.abs(table) <= VALUE_MAX
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        raise InputRejected(
            f"{path} holds values that are not finite",
            f"{names[used[column]]} in row {row + 1}",
            HOW_TO_MAKE,
        )

    # One face, and every frame once.
    columns = {names[k]: table[:, i] for i, k in enumerate(used)}
    columns.setdefault("frame", np.arange(1.0, len(table) + 1))
    several_faces = len(np.unique(columns.get("face_id", [0]))) > 1
    if several_faces or len(np.unique(columns["frame"])) < len(table):
        raise InputRejected(
            f"{path} holds several rows for one frame",
            "that is a table of several faces",
            HOW_TO_MAKE,
        )
    columns["frame"] = columns["frame"] - columns["frame"][0]
    if not np.array_equal(columns["frame"], np.arange(len(table))):
        raise InputRejected(
            f"{path} skips frames",
            f"its frame column runs over {int(columns['frame'][-1]) + 1} "
            f"frames in {len(table)} rows",
            HOW_TO_MAKE,
        )
    return names, columns


def _read_table(path: Path) -> tuple[list[str], list[int], np.ndarray]:
    """Names of all columns without spaces, numbers of the used ones, and their values [N, K]."""
    rows = read_rows(path)
    try:
        names = [name.strip() for name in next(rows, [])]
        used = [
            k for k, name in enumerate(names) if COLUMN.fullmatch(name) or name in OTHER_COLUMNS
        ]
        if not names:
            raise Unreadable("it is empty")
        if not any(COLUMN.fullmatch(names[k]) for k in used):
            raise InputRejected(
                f"{path} is not a table of action units",
                "no column is named like AU45_r",
                HOW_TO_MAKE,
            )

        # Only the numbers of the used columns are kept: the others are a hundred times as many.
        values: list[array[float]] = []
        for row in rows:
            if len(row) < len(names):
                raise InputRejected(
                    f"{path} is cut off",
                    f"row {len(values) + 1} has {len(row)} of {len(names)} values",
                    HOW_TO_MAKE,
                )
            values.append(array("d", [float(row[k]) for k in used]))
    except ValueError as error:
        raise InputRejected(
            f"{path} holds a value that is not a number", reason(error), HOW_TO_MAKE
        ) from error
    except (OSError, Unreadable) as error:
        raise InputRejected(
            f"{path} cannot be read as a table of action units", reason(error), HOW_TO_MAKE
        ) from error
    if not values:
        raise InputRejected(f"{path} is cut off", "it has no rows", HOW_TO_MAKE)
    return names, used, np.array(values)


def _rows_of_frames(
    path: Path,
    columns: dict[str, np.ndarray],
    frames: int,
    seconds: float,
    times: np.ndarray | None,
) -> np.ndarray:
    """The row of the table for every frame, int64 [F]: the same number, or the nearest in time."""
    rows = len(columns["frame"])
    if rows == frames:
        return np.arange(frames)
    times = np.arange(frames) / FPS if times is None else np.asarray(times, np.float64)
    assert times.shape == (frames,), times.shape
    stamps = columns.get("timestamp")
    if stamps is None:
        raise InputRejected(
            f"{path} has {rows} rows for {frames} frames",
            "it has no timestamps that map its rows to the frames",
            HOW_TO_MAKE,
        )

    # The table must last as long as the clip.
    step = float(np.median(np.diff(stamps))) if rows > 1 else 0.0
    span = float(stamps[-1] - stamps[0]) + step
    if step <= 0 or (np.diff(stamps) <= 0).any() or abs(span - seconds) > SPAN_SLACK_S:
        rate = f" at {1 / step:.4g} rows/s" if step > 0 else ""
        raise InputRejected(
            f"{path} does not belong to this clip",
            f"its {rows} rows{rate} last {span:.2f} s, the "
            f"clip's {frames} frames at {FPS} frames/s come from {seconds:.2f} s",
            HOW_TO_MAKE,
        )
    return np.searchsorted(stamps[:-1] + np.diff(stamps) / 2, times + stamps[0], "right")
