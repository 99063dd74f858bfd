"""Usable stretches of a clip: one face, no cut inside, one framing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from being.preprocess.inspection.measurements import ClipMeasurements, SampledFrame

GAP = 0.5  # s without a new picture that end a stretch
# Levels: mean and deviation under which a frame is black.
BLACK, FLAT = 16.0, 6.0
# Change in levels, and how long it must last in s: the picture has stopped.
STILL, STILL_SECONDS = 0.03, 1.0
AWAY_SECONDS = 0.25  # a face missing for longer is cut away
STRETCH_SECONDS = 1.0  # shortest stretch worth keeping

Span = tuple[int, int]  # source frames [start, stop)


@dataclass(frozen=True)
class Spans:
    """The usable stretches of source frames, and what is left out for which reason."""

    usable: list[Span]
    black: list[Span]
    still: list[Span]
    faceless: list[Span]
    second_person: list[Span]
    covered: list[Span]  # mouth or eyes
    gaps: list[int]  # first frames after a gap in time


def find_spans(
    measured: ClipMeasurements,
    times: np.ndarray,
    face_change: np.ndarray,
    covered: frozenset[int] = frozenset(),
) -> Spans:
    """The usable stretches of a clip, in order.

    times: float64 [n] s, ascending. face_change: float32 [n], mean difference to the frame before
    around the face, levels. covered: sampled frames in which mouth or eyes are covered.
    """
    # Shots: between cuts, changes of size and gaps in time.
    gaps = (np.flatnonzero(np.diff(times) > GAP) + 1).tolist()
    bounds = sorted({0, *measured.cuts, *measured.resized, *gaps, len(times)})
    shots = list(zip(bounds[:-1], bounds[1:], strict=True))

    # What cannot be used inside a shot.
    black = true_runs((measured.brightness < BLACK) & (measured.contrast < FLAT))
    unchanged = (face_change < STILL) & (np.arange(len(times)) > 0)
    still = [span for span in true_runs(unchanged) if _seconds(span, times) > STILL_SECONDS]
    faceless = _bad_stretches(measured.samples, shots, times, _has_no_face, edges=True)
    counted = [sample for sample in measured.samples if sample.face_count >= 0]
    second = _bad_stretches(counted, shots, times, _has_second_face, edges=False)
    hidden = _bad_stretches(
        measured.samples, shots, times, lambda sample: sample.number in covered, edges=False
    )

    # What remains, where it is long enough.
    good = np.ones(len(times), bool)
    for start, stop in (*black, *still, *faceless, *second, *hidden):
        good[start:stop] = False
    parts = [(a + start, a + stop) for a, b in shots for start, stop in true_runs(good[a:b])]
    usable = [span for span in parts if _seconds(span, times) >= STRETCH_SECONDS]
    return Spans(usable, black, still, faceless, second, hidden, gaps)


def largest_framing_group(spans: list[Span], alike: Callable[[int, int], bool]) -> list[int]:
    """Indices of the stretches in the largest group with one framing.

    alike(i, j): whether stretches i and j have one framing. Each group is gathered around its
    longest stretch.
    """
    left = sorted(range(len(spans)), key=lambda i: spans[i][0] - spans[i][1])
    best: list[int] = []
    while left:
        group = [left[0], *(i for i in left[1:] if alike(left[0], i))]
        left = [i for i in left if i not in group]
        if _frames(spans, group) > _frames(spans, best):
            best = group
    return sorted(best)


def true_runs(flags: np.ndarray) -> list[Span]:
    """The stretches [start, stop) in which flags bool [n] are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _has_no_face(sample: SampledFrame) -> bool:
    return bool(np.isnan(sample.points[0, 0]))


def _has_second_face(sample: SampledFrame) -> bool:
    return sample.second_face is not None


def _bad_stretches(
    samples: list[SampledFrame],
    shots: list[Span],
    times: np.ndarray,
    bad: Callable[[SampledFrame], bool],
    edges: bool,
) -> list[Span]:
    """The stretches around bad samples, from the good sample before to the good sample after.

    A lapse up to AWAY_SECONDS is allowed; with `edges`, not at the edges of a shot.
    """
    found = []
    for start, stop in shots:
        inside = [sample for sample in samples if start <= sample.number < stop]
        for first, last in true_runs(np.array([bad(sample) for sample in inside], bool)):
            at_edge = first == 0 or last == len(inside)
            lasts = times[inside[last - 1].number] - times[inside[first].number]
            if lasts > AWAY_SECONDS or (edges and at_edge):
                begin = inside[first - 1].number + 1 if first else start
                end = inside[last].number if last < len(inside) else stop
                found.append((begin, end))
    return found


def _seconds(span: Span, times: np.ndarray) -> float:
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return float(times[span[1] - 1] - times[span[0]]) + step


def _frames(spans: list[Span], group: list[int]) -> int:
    return sum(spans[i][1] - spans[i][0] for i in group)
