"""The saved result of a clip's inspection, for the later steps and for a resumed run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.files import write_json
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.microphone import Recording
from being.preprocess.inspection.picture import ClipInspection
from being.reading.structured import read_json


@dataclass(frozen=True)
class InspectionRecord:
    """How a clip becomes a dataset, and the findings."""

    # left, top, side, px of the upright source picture
    crop: tuple[int, int, int]
    # px, side of the dataset's pictures
    size: int
    # number of frames of the dataset
    frames: int
    # [start, stop) in frames
    segments: tuple[tuple[int, int], ...]
    # where each segment starts in the source, s from its first picture
    segment_starts: tuple[float, ...]
    # consecutive source frames: the first and how many
    source_runs: tuple[tuple[int, int], ...]
    # length of the source, s
    source_seconds: float
    findings: tuple[Finding, ...]
    # frames of the dataset that show the picture of a neighbour
    repeated: tuple[int, ...] = ()
    # the separate recording that the audio comes from
    recording: Recording | None = None

    @classmethod
    def from_inspection(cls, inspection: ClipInspection) -> InspectionRecord:
        """The part of an inspection that is saved."""
        return cls(
            inspection.crop,
            inspection.size,
            inspection.frames,
            tuple((int(a), int(b)) for a, b in inspection.segments),
            tuple(float(start) for start in inspection.segment_starts),
            consecutive_runs(inspection.source_frames),
            float(inspection.info.duration),
            inspection.findings,
            inspection.repeated,
            inspection.recording,
        )

    @classmethod
    def read(cls, path: Path) -> InspectionRecord:
        """The record that `write` wrote."""
        value = read_json(path)
        findings = [{**finding, "at": _pairs(finding["at"])} for finding in value.pop("findings")]
        left, top, side = value.pop("crop")
        recording = value.pop("recording")
        return cls(
            (left, top, side),
            segments=_pairs(value.pop("segments")),
            segment_starts=tuple(value.pop("segment_starts")),
            repeated=tuple(value.pop("repeated")),
            recording=None if recording is None else Recording.from_json(recording),
            source_runs=_pairs(value.pop("source_runs")),
            findings=tuple(Finding(**finding) for finding in findings),
            **value,
        )

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_json(path, asdict(self))

    @property
    def frame_times(self) -> np.ndarray:
        """The time of each frame in the source, float64 [F], s from its first picture."""
        times = [
            start + np.arange(stop - first) / FPS
            for start, (first, stop) in zip(self.segment_starts, self.segments, strict=True)
        ]
        return np.concatenate(times)


def consecutive_runs(numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Runs of consecutive numbers in int [n], each as (first, how many)."""
    edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
    return tuple(
        (int(numbers[a]), b - a) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a
    )


def _pairs(value: list[list]) -> tuple:
    return tuple((first, second) for first, second in value)
