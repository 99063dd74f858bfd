"""Curve files: an expression's values for every frame, as CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being.conventions import FPS
from being.errors import InputRejected

TIME = "time"  # a column of seconds, where the rows are not the frames
BYTES_MAX = 256 << 20


@dataclass(frozen=True)
class Curves:
    """Courses of expressions."""

    time: np.ndarray  # float [R], s, rising
    columns: Mapping[str, np.ndarray]  # by expression name, float [R]

    def between(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Values float [stop - start] by expression name, of these frames; beyond the end the last
        ones hold.
        """
        at = np.arange(start, stop) / FPS
        return {name: np.interp(at, self.time, column) for name, column in self.columns.items()}


def read_curves(path: Path) -> Curves:
    """The curves in a file.

    CSV has a row of names and a row of numbers a frame; JSON has an object of name to list. With a
    column `time` (s, rising) rows are placed by it and read in between, else row i is frame i.
    Raises InputRejected naming what is wrong.
    """
    path = Path(path)
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ValueError(f"it is {path.stat().st_size >> 20} MiB large")
        text = path.read_text(encoding="utf-8-sig")
        columns = _json(text) if path.suffix.lower() == ".json" else _csv(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InputRejected(
            f"the curves {path} cannot be read",
            str(error).splitlines()[0] if str(error) else "",
            "Give a CSV with a row of names and a row of numbers for each frame, or a JSON object of "
            "name to list",
        ) from error
    time = columns.pop(TIME, None)
    if time is None:
        time = np.arange(len(next(iter(columns.values()), []))) / FPS
    finite = all(np.isfinite(column).all() for column in (time, *columns.values()))
    wrong = (
        "no curve"
        if not columns
        else "no rows"
        if not len(time)
        else "columns of several lengths"
        if any(len(column) != len(time) for column in columns.values())
        else "values that are not finite"
        if not finite
        else "times that do not rise"
        if (np.diff(time) <= 0).any()
        else ""
    )
    if wrong:
        raise InputRejected(f"the curves {path} will not do", f"they have {wrong}", "Mend the file")
    return Curves(time, columns)


def _csv(text: str) -> dict[str, np.ndarray]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if not rows:
        raise ValueError("it is empty")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) != len(names) or not all(names):
        raise ValueError(f"its first row must hold different names, it holds {', '.join(names)}")
    for k, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(f"row {k + 1} has {len(row)} cells, the first has {len(names)}")
    values = np.array([[float(cell) for cell in row] for row in rows[1:]]).reshape(-1, len(names))
    return {name: values[:, k] for k, name in enumerate(names)}


def _json(text: str) -> dict[str, np.ndarray]:
    data: Any = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("it is no object of name to list")
    columns = {}
    for name, values in data.items():
        if not isinstance(values, list) or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in values
        ):
            raise ValueError(f"'{name}' is no list of numbers")
        columns[name] = np.array(values, np.float64)
    return columns
