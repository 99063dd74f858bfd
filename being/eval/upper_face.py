"""Action units and blinks of rendered frames against the true ones, both read from pictures by the
same networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from being.eval.faces import joined
from being.face.action_units import BLINK_CLOSED, BLINK_UNIT, NAMES, action_units
from being.face.landmarks import Landmarks

SHUT = 0.5  # closure of the lids, 0 open to 1 shut, from which a frame belongs to a blink
BLINK_NEAR = 2  # frames by which a rendered blink's deepest frame may be off the true one's
BLINK_GAP = 2  # frames over which lids that part for a moment are still in one blink
UPPER = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", BLINK_UNIT)


def upper_face_figures(
    true: Landmarks, made: Landmarks, segment: np.ndarray | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of action units and blinks (JSON types), and the series [F] behind them, of the same
    frames.

    Units are intensities 0 to 5 as `preprocess.expression` reads them, with one neutral face and
    one open eye for both sequences, so that a face that is stiffer or brighter altogether shows as
    an error. Frames in which either face is missing are left out.
    """
    both = true.found & made.found
    if not both.any():
        return {"action_unit_error": None, "blinks": None}, {}
    count = len(true)
    units = action_units(joined([true, made]), _borders(count, segment))
    one, other = units[:count].astype(np.float64), units[count:].astype(np.float64)
    error = np.abs(one - other)[both]
    column = NAMES.index(BLINK_UNIT)
    series = {
        "closure.true": one[:, column] / BLINK_CLOSED,
        "closure.rendered": other[:, column] / BLINK_CLOSED,
    }
    for key, faces in (("closure.true", true), ("closure.rendered", made)):
        series[key][~faces.found] = np.nan
    shown = [k for k, name in enumerate(NAMES) if name in UPPER]
    blinks, extra = blink_match(series["closure.true"], series["closure.rendered"])
    return {
        "action_unit_error": float(error.mean()),
        "upper_face_error": float(error[:, shown].mean()),
        "units": {
            name: {
                "error": float(error[:, k].mean()),
                "correlation": _pearson(one[both, k], other[both, k]),
            }
            for k, name in enumerate(NAMES)
        },
        "blinks": {
            "true": len(blinks),
            "reproduced": int(sum(blinks)),
            "extra": extra,
            "share": float(np.mean(blinks)) if blinks else None,
        },
    }, series


def blink_match(true: np.ndarray, made: np.ndarray) -> tuple[list[bool], int]:
    """Whether each true blink has a rendered one of its own within BLINK_NEAR frames, and how many
    rendered ones have none; closures float [F], 0 open to 1 shut."""
    wanted, offered, matched = blinks(true), blinks(made), []
    for frame in wanted:
        near = [k for k in offered if abs(k - frame) <= BLINK_NEAR]
        matched.append(bool(near))
        if near:
            offered.remove(min(near, key=lambda k: abs(k - frame)))
    return matched, len(offered)


def blinks(closure: np.ndarray) -> list[int]:
    """The deepest frame of each blink of a series float [F], 0 open to 1 shut; NaN counts as open."""
    inside = np.flatnonzero(np.nan_to_num(closure) >= SHUT)
    groups = (
        np.split(inside, np.flatnonzero(np.diff(inside) > BLINK_GAP) + 1) if len(inside) else []
    )
    return [
        int(round(float(np.mean(group[closure[group] >= closure[group].max() - 1e-6]))))
        for group in groups
    ]


def _borders(count: int, segment: np.ndarray | None) -> list[tuple[int, int]]:
    """Stretches [start, stop) of two sequences of `count` frames one after the other, cut where the
    segment changes.
    """
    cuts = [] if segment is None else (np.flatnonzero(np.diff(segment)) + 1).tolist()
    edges = [0, *cuts, count]
    return [
        (shift + a, shift + b)
        for shift in (0, count)
        for a, b in zip(edges, edges[1:], strict=False)
    ]


def _pearson(one: np.ndarray, other: np.ndarray) -> float | None:
    """Correlation of two series [F]; None where either hardly moves."""
    if len(one) < 2 or min(one.std(), other.std()) < 1e-6:
        return None
    return float(np.corrcoef(one, other)[0, 1])
