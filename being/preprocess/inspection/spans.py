"""Which frames of a clip can be used: stretches between cuts that show one face, and those with the
same framing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from being.preprocess.inspection.scan import Scan, View

GAP = 0.5  # s without a new picture that end a stretch
BLACK, FLAT = 16.0, 6.0  # levels: mean and deviation of a black frame
STILL, STILL_SECONDS = (
    0.03,
    1.0,
)  # change in levels, and how long it must last: the picture has stopped
AWAY_SECONDS = 0.25  # a face missing for longer is cut away
STRETCH_SECONDS = 1.0  # shortest stretch worth keeping

Span = tuple[int, int]  # source frames [start, stop)


@dataclass(frozen=True)
class Spans:
    """Stretches of source frames that can be used, and what was left out for which reason."""

    usable: list[Span]
    black: list[Span]
    still: list[Span]
    faceless: list[Span]
    second: list[Span]
    gaps: list[int]  # first frames after a gap in time


def find_spans(scan: Scan, times: np.ndarray) -> Spans:
    """The usable stretches of a clip, in order. times: float64 [n] s, rising."""
    gaps = (np.flatnonzero(np.diff(times) > GAP) + 1).tolist()
    bounds = sorted({0, *scan.cuts, *scan.resized, *gaps, len(times)})
    shots = list(zip(bounds[:-1], bounds[1:], strict=True))
    black = runs((scan.light < BLACK) & (scan.contrast < FLAT))
    still = [
        span
        for span in runs((scan.change < STILL) & (np.arange(len(times)) > 0))
        if _length(span, times) > STILL_SECONDS
    ]
    faceless = _bad_views(
        scan.views, shots, times, lambda view: bool(np.isnan(view.points[0, 0])), edges=True
    )
    second = _bad_views(scan.views, shots, times, lambda view: view.second is not None, edges=False)
    good = np.ones(len(times), bool)
    for start, stop in (*black, *still, *faceless, *second):
        good[start:stop] = False
    usable = [(a + start, a + stop) for a, b in shots for start, stop in runs(good[a:b])]
    return Spans(
        [span for span in usable if _length(span, times) >= STRETCH_SECONDS],
        black,
        still,
        faceless,
        second,
        gaps,
    )


def same_framing(spans: list[Span], alike: Callable[[int, int], bool]) -> list[int]:
    """Numbers of the stretches of the largest group with one framing. alike(i, j): whether
    stretches i and j have it.

    Each group is gathered round its longest stretch.
    """
    left = sorted(range(len(spans)), key=lambda i: spans[i][0] - spans[i][1])
    best: list[int] = []
    while left:
        group = [left[0], *(i for i in left[1:] if alike(left[0], i))]
        left = [i for i in left if i not in group]
        if _frames(spans, group) > _frames(spans, best):
            best = group
    return sorted(best)


def runs(flags: np.ndarray) -> list[Span]:
    """Stretches [start, stop) in which flags bool [n] are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _bad_views(
    views: list[View],
    shots: list[Span],
    times: np.ndarray,
    bad: Callable[[View], bool],
    edges: bool,
) -> list[Span]:
    """Stretches about which nothing good is known, from the good view before to the good one after.

    A short lapse is forgiven; edges: not at the edges of a shot.
    """
    found = []
    judged = views if edges else [view for view in views if view.faces >= 0]
    for start, stop in shots:
        inside = [view for view in judged if start <= view.frame < stop]
        for first, last in runs(np.array([bad(view) for view in inside], bool)):
            at_edge = first == 0 or last == len(inside)
            lasts = times[inside[last - 1].frame] - times[inside[first].frame]
            if lasts > AWAY_SECONDS or (edges and at_edge):
                found.append(
                    (
                        inside[first - 1].frame + 1 if first else start,
                        inside[last].frame if last < len(inside) else stop,
                    )
                )
    return found


def _length(span: Span, times: np.ndarray) -> float:
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return float(times[span[1] - 1] - times[span[0]]) + step


def _frames(spans: list[Span], group: list[int]) -> int:
    return sum(spans[i][1] - spans[i][0] for i in group)
