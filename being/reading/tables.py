"""Rows of CSV files that are not trusted, read one after the other."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from being.reading.content import Unreadable, check_regular, reason

FILE_MAX = 2 << 30  # bytes: OpenFace writes 10 MB a minute
LINE_MAX = 1 << 20  # characters
COLUMNS_MAX = 10_000
ROWS_MAX = 1_000_000


def read_rows(path: Path, encoding: str = "utf-8-sig") -> Iterator[list[str]]:
    """The rows of a CSV file that are not empty. Raises Unreadable, OSError."""
    check_regular(path, FILE_MAX)
    with open(path, newline="", encoding=encoding) as file:
        yield from rows_of_lines(_lines(file))


def rows_of_lines(lines: Iterator[str]) -> Iterator[list[str]]:
    """The rows of CSV lines that are not empty. Raises Unreadable."""
    count = 0
    try:
        for row in csv.reader(lines):
            if not row:
                continue
            count += 1
            if count > ROWS_MAX or len(row) > COLUMNS_MAX:
                raise Unreadable(f"it has more than {ROWS_MAX} rows or {COLUMNS_MAX} columns")
            yield row
    except (csv.Error, ValueError) as error:
        raise Unreadable(reason(error)) from error


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines of a text file. Raises Unreadable for a line beyond LINE_MAX."""
    while line := file.readline(LINE_MAX):
        if len(line) == LINE_MAX:
            raise Unreadable(f"it has a line of more than {LINE_MAX} characters")
        yield line
