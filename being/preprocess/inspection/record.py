"""What the look at a clip decided, as a file that a run which goes on reads instead of looking
again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.files import read_json, write_json
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.picture import Preflight


@dataclass(frozen=True)
class Checked:
    """How a clip becomes a dataset, and the findings."""

    crop: tuple[int, int, int]  # left, top, side, px of the upright source picture
    size: int  # px, side of the dataset's pictures
    frames: int
    segments: tuple[tuple[int, int], ...]  # [start, stop) in frames
    starts: tuple[float, ...]  # of each segment in the source, s from its first picture
    runs: tuple[tuple[int, int], ...]  # source frames shown one after the other: first and how many
    source_seconds: float  # length of the source
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, found: Preflight) -> Checked:
        """What is kept of a preflight."""
        return cls(
            found.crop,
            found.size,
            found.frames,
            tuple((int(a), int(b)) for a, b in found.segments),
            tuple(float(start) for start in found.starts),
            runs(found.sources),
            float(found.info.duration),
            found.findings,
        )

    @classmethod
    def read(cls, path: Path) -> Checked:
        """As `write` left it."""
        value = read_json(path)
        value["findings"] = tuple(
            Finding(**{**f, "at": _pairs(f["at"])}) for f in value["findings"]
        )
        left, top, side = value.pop("crop")
        return cls(
            (left, top, side),
            segments=_pairs(value.pop("segments")),
            runs=_pairs(value.pop("runs")),
            starts=tuple(value.pop("starts")),
            **value,
        )

    def write(self, path: Path) -> None:
        """As JSON."""
        write_json(path, asdict(self))

    @property
    def times(self) -> np.ndarray:
        """Where each frame lies in the source, float64 [F], s from its first picture."""
        return np.concatenate(
            [
                start + np.arange(stop - first) / FPS
                for start, (first, stop) in zip(self.starts, self.segments, strict=True)
            ]
        )


def runs(numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Rows of neighbouring numbers in int [n] as (first, how many)."""
    edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
    return tuple(
        (int(numbers[a]), b - a) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a
    )


def _pairs(value: list[list]) -> tuple:
    return tuple((first, second) for first, second in value)
