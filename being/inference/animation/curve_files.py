"""Curve files: the values of expressions for every frame, as CSV or JSON."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being.conventions import FPS
from being.errors import InputRejected
from being.reading.content import Unreadable, read_text, reason
from being.reading.structured import parse_json
from being.reading.tables import read_rows

TIME = "time"  # the column of seconds, where rows are not frames
VALUE_MAX = 1e6  # of a time or an expression


@dataclass(frozen=True)
class Curves:
    """Values of expressions over time."""

    time: np.ndarray  # float [R], s, rising
    columns: Mapping[str, np.ndarray]  # by expression name, float [R]

    def at_frames(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Values float [stop - start] of the frames `start` to `stop`, by expression name.

        They are linear between the rows; after the last row its values hold.
        """
        at = np.arange(start, stop) / FPS
        return {name: np.interp(at, self.time, column) for name, column in self.columns.items()}


def read_curves(path: Path) -> Curves:
    """The curves in a file.

    CSV has a row of names and then a row of numbers for each frame; JSON has an object of name to
    list. With a column `time` (s, rising) rows are placed by it, else row i is frame i. Raises
    InputRejected naming what is wrong.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            columns = _parse_json(read_text(path, encoding="utf-8-sig"))
        else:
            columns = _parse_csv(path)
    except (OSError, ValueError, OverflowError, Unreadable) as error:
        raise InputRejected(
            f"the curves {path} cannot be read",
            reason(error),
            "Give a CSV with a row of names and a row of numbers for each frame, or a JSON object "
            "of name to list",
        ) from error

    time = columns.pop(TIME, None)
    if time is None:
        time = np.arange(len(next(iter(columns.values()), []))) / FPS
    if fault := _find_fault(time, columns):
        raise InputRejected(
            f"the curves {path} cannot be used", f"they have {fault}", "Correct the file"
        )
    return Curves(time, columns)


def _find_fault(time: np.ndarray, columns: Mapping[str, np.ndarray]) -> str:
    """What is wrong with the values of a file, empty if nothing is."""
    if not columns:
        return "no curve"
    if not len(time):
        return "no rows"
    if any(len(column) != len(time) for column in columns.values()):
        return "columns of different lengths"
    if not all((np.abs(column) <= VALUE_MAX).all() for column in (time, *columns.values())):
        return f"values that are not finite, or beyond {VALUE_MAX:g}"
    if (np.diff(time) <= 0).any():
        return "times that do not rise"
    return ""


def _parse_csv(path: Path) -> dict[str, np.ndarray]:
    rows = read_rows(path)
    names = [name.strip() for name in next(rows, [])]
    if not names:
        raise ValueError("it is empty")
    if len(set(names)) != len(names) or not all(names):
        raise ValueError(f"its first row must hold different names, it holds {', '.join(names)}")
    numbers: list[array[float]] = []
    for k, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(f"row {k + 2} has {len(row)} cells, the first has {len(names)}")
        numbers.append(array("d", map(float, row)))
    values = np.array(numbers, np.float64).reshape(-1, len(names))
    return {name: values[:, k] for k, name in enumerate(names)}


def _parse_json(text: str) -> dict[str, np.ndarray]:
    data: Any = parse_json(text)
    if not isinstance(data, dict):
        raise ValueError("it is not an object of name to list")
    columns = {}
    for name, values in data.items():
        if not isinstance(values, list) or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in values
        ):
            raise ValueError(f"'{name}' is not a list of numbers")
        columns[name] = np.array(values, np.float64)
    return columns
