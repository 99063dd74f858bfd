"""Tables of face capture programs as times and columns: OpenFace and Live Link Face.

Of OpenFace, and of a dataset's `au.csv`, the intensities (`AU12_r`) are read at their timestamps;
rows in which no face was found are left out. Of Live Link Face the ARKit blendshapes are read at
their time codes. Times begin at 0.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from being.conventions import FPS
from being.reading.content import Unreadable

INTENSITY = re.compile(r"AU\d\d_r")
SURE = 0.5  # of OpenFace's success and confidence
TIME_CODE = "timecode"
# Frames a second of a time code, where the codes of the file do not show another rate.
CODE_RATE = 60
CODE_RATES = (24, 25, 30, 48, 50, 60)
DAY_S = 86_400.0
_CODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3})(\.\d+)?")

# Times float [R] in s, columns [R] by name, and the names of columns that are not read.
CaptureTable = tuple[np.ndarray, dict[str, np.ndarray], list[str]]


def capture_reader(
    names: Sequence[str],
) -> Callable[[Sequence[str], Iterator[list[str]]], CaptureTable] | None:
    """What reads a table with these column names; None for one of no capture program."""
    if TIME_CODE in (name.lower() for name in names):
        return read_live_link
    if any(INTENSITY.fullmatch(name) for name in names):
        return read_openface
    return None


def read_openface(names: Sequence[str], rows: Iterator[list[str]]) -> CaptureTable:
    """A table of OpenFace. Raises Unreadable, ValueError."""
    kept = [name for name in names if INTENSITY.fullmatch(name)]
    helpers = ("timestamp", "confidence", "success", "face_id")
    used = [*kept, *(name for name in helpers if name in names)]
    values = _numbers(names, used, rows)
    columns = {name: values[:, k] for k, name in enumerate(used)}
    if len(set(columns.get("face_id", [0]))) > 1:
        raise Unreadable("it holds several faces; let OpenFace's FeatureExtraction make it")
    time = columns.get("timestamp", np.arange(len(values)) / FPS)
    found = np.ones(len(values), bool)
    for name in ("confidence", "success"):
        found &= columns.get(name, np.ones(len(values))) >= SURE
    if len(values) and not found.any():
        raise Unreadable("OpenFace found no face in any of its rows")
    if not np.isfinite(time).all():
        raise Unreadable("its timestamps are not all finite")
    if len(time):
        time = time - time[0]
    time, columns = _rising(time[found], {name: columns[name][found] for name in kept})
    others = [name for name in names if name not in used and name != "frame"]
    return time, columns, others


def read_live_link(names: Sequence[str], rows: Iterator[list[str]]) -> CaptureTable:
    """A table of Live Link Face. Raises Unreadable, ValueError."""
    place = [name.lower() for name in names].index(TIME_CODE)
    codes: list[str] = []

    def without_codes() -> Iterator[list[str]]:
        for row in rows:
            codes.append(row[place] if place < len(row) else "")
            yield row

    used = [name for k, name in enumerate(names) if k != place and name != "BlendShapeCount"]
    values = _numbers(names, used, without_codes())
    columns = {name: values[:, k] for k, name in enumerate(used)}
    time, columns = _rising(code_seconds(codes), columns)
    return time, columns, []


def code_seconds(codes: Sequence[str]) -> np.ndarray:
    """Seconds float [R] of time codes HH:MM:SS:FF.fff after the first one.

    FF are frames at 60 a second; where the codes go on to the next second after fewer, that is
    the rate. Raises Unreadable for a broken code.
    """
    parts = np.zeros((len(codes), 2))  # whole seconds, frames
    for k, code in enumerate(codes):
        found = _CODE.fullmatch(code.strip())
        fields = [int(field) for field in found.groups()[:4]] if found else []
        if not found or fields[0] > 23 or max(fields[1:3]) > 59 or fields[3] >= CODE_RATE:
            raise Unreadable(
                f"row {k + 2} has the time code '{code[:40]}', it must be HH:MM:SS:FF.fff with "
                f"frames below {CODE_RATE}"
            )
        parts[k] = 3600 * fields[0] + 60 * fields[1] + fields[2], fields[3] + float(found[5] or 0)
    if not len(parts):
        return np.zeros(0)
    seconds, frames = parts.T
    next_second = np.diff(seconds) == 1
    last = np.floor(frames[:-1][next_second].max(initial=0)) + 1
    consecutive = next_second.any() and (frames[1:][next_second] < 1).all()
    known = consecutive and last in CODE_RATES and frames.max() < last
    rate = int(last) if known else CODE_RATE
    time = seconds + frames / rate
    # A recording over midnight.
    time += DAY_S * np.cumsum(np.diff(time, prepend=time[0]) < -DAY_S / 2)
    return time - time[0]


def _numbers(names: Sequence[str], used: Sequence[str], rows: Iterator[list[str]]) -> np.ndarray:
    """The used columns float [R, K]. Raises Unreadable, ValueError."""
    places = [names.index(name) for name in used]
    numbers: list[array[float]] = []
    for k, row in enumerate(rows):
        if len(row) < len(names):
            raise Unreadable(f"row {k + 2} has {len(row)} cells, the first has {len(names)}")
        numbers.append(array("d", (float(row[place]) for place in places)))
    return np.array(numbers, np.float64).reshape(len(numbers), len(used))


def _rising(
    time: np.ndarray, columns: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Times and columns without rows of the same time. Raises Unreadable where times go back."""
    steps = np.diff(time, prepend=-np.inf)
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
        raise Unreadable(f"its times go backwards: {time[row]:g} s comes after {time[row - 1]:g} s")
    return time[steps > 0], {name: column[steps > 0] for name, column in columns.items()}
