"""Curve files: the values of expressions for every frame, as CSV or JSON."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being.conventions import FPS
from being.errors import InputRejected
from being.inference.animation.capture_tables import capture_reader
from being.reading.content import Unreadable, read_text, reason
from being.reading.structured import parse_json
from being.reading.tables import read_rows

TIME = "time"  # the column of seconds, where rows are not frames
VALUE_MAX = 1e6  # of a time or an expression


@dataclass(frozen=True)
class Curves:
    """Values of expressions over time."""

    time: np.ndarray  # float [R], s, rising
    columns: Mapping[str, np.ndarray]  # by name, float [R]
    captured: bool = False  # by another program: columns that nothing can use are no fault
    others: tuple[str, ...] = ()  # columns that are not read
    source: str = ""  # the file, for messages

    def at_frames(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Values float [stop - start] of the frames `start` to `stop`, by name.

        They are linear between the rows; after the last row its values hold.
        """
        at = np.arange(start, stop) / FPS
        return {name: np.interp(at, self.time, column) for name, column in self.columns.items()}


def read_curves(path: Path) -> Curves:
    """The curves in a file.

    CSV has a row of names and then a row of numbers for each frame; JSON has an object of name to
    list. With a column `time` (s, rising) rows are placed by it, else row i is frame i. Tables of
    OpenFace and Live Link Face have their own times (`capture_tables`). Raises InputRejected naming
    what is wrong.
    """
    path = Path(path)
    others: list[str] = []
    captured = False
    try:
        if path.suffix.lower() == ".json":
            columns = _parse_json(read_text(path, encoding="utf-8-sig"))
        else:
            rows = read_rows(path)
            names = [name.strip() for name in next(rows, [])]
            reader = capture_reader(names)
            captured = reader is not None
            if reader is not None:
                _check_names([name for name in names if name], names)
                columns_time, columns, others = reader(names, rows)
                columns[TIME] = columns_time
            else:
                columns = _parse_csv(names, rows)
    except (OSError, ValueError, OverflowError, Unreadable) as error:
        raise InputRejected(
            f"the curves {path} cannot be read",
            reason(error),
            "Give a CSV with a row of names and a row of numbers for each frame, a JSON object of "
            "name to list, or a CSV of OpenFace or Live Link Face",
        ) from error

    time = columns.pop(TIME, None)
    if time is None:
        time = np.arange(len(next(iter(columns.values()), []))) / FPS
    if fault := _find_fault(time, columns):
        raise InputRejected(
            f"the curves {path} cannot be used", f"they have {fault}", "Correct the file"
        )
    return Curves(time, columns, captured, tuple(others), str(path))


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


def _check_names(different: list[str], names: list[str]) -> None:
    """Raise ValueError where the first row lacks names, or `different` ones are the same."""
    if not names:
        raise ValueError("it is empty")
    if len(set(different)) != len(different):
        raise ValueError(f"its first row must hold different names, it holds {', '.join(names)}")


def _parse_csv(names: list[str], rows: Iterator[list[str]]) -> dict[str, np.ndarray]:
    _check_names([*names, *([""] if not all(names) else [])], names)
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
