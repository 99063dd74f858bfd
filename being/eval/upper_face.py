"""Action units, blinks and gaze of rendered frames compared with those of the true frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from being.eval.face_lengths import concatenate_landmarks
from being.face.action_units import AU45_CLOSED, AU_NAMES, BLINK_UNIT, action_units
from being.face.gaze import BLINK_HIDES_GAZE, GAZE_BLENDSHAPES, gaze
from being.face.landmarks import Landmarks

BLINK_START = 0.5  # closure of the lids, 0 open to 1 closed, from which a frame is part of a blink
BLINK_NEAR = 2  # frames by which a rendered blink may be off the true one
BLINK_GAP = 2  # frames for which the lids may part within one blink
GAZE_MOVES = 0.03  # least spread of the true gaze, in blendshapes, for which it is compared
UPPER_FACE_UNITS = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", BLINK_UNIT)


def upper_face_figures(
    true: Landmarks, rendered: Landmarks, segment: np.ndarray | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures of action units, blinks, gaze (JSON types), and the series [F] that they come from.

    Units are intensities from 0 to 5, read as preprocessing reads them. Both sequences share one
    neutral face and one open eye, so a face that is stiffer or brighter as a whole counts as an
    error. Frames in which either face is missing are left out. The gaze is compared where the lids
    are open in both: its correlation, and its spread as a share of the true spread ("motion").

    true, rendered: landmarks of the same frames; segment: int [F], the clip's segment of each
    frame.
    """
    both = true.found & rendered.found
    if not both.any():
        return {"action_unit_error": None, "blinks": None, "gaze": None}, {}

    # Action units of both sequences together, [2 F, units].
    count = len(true)
    units = action_units(concatenate_landmarks([true, rendered]), _stretches(count, segment))
    true_units = units[:count].astype(np.float64)
    rendered_units = units[count:].astype(np.float64)
    error = np.abs(true_units - rendered_units)[both]

    # Closure of the lids; NaN where no face was found.
    column = AU_NAMES.index(BLINK_UNIT)
    series = {
        "closure.true": true_units[:, column] / AU45_CLOSED,
        "closure.rendered": rendered_units[:, column] / AU45_CLOSED,
    }
    series["closure.true"][~true.found] = np.nan
    series["closure.rendered"][~rendered.found] = np.nan

    true_gaze, rendered_gaze = gaze(true.blendshapes), gaze(rendered.blendshapes)
    true_gaze[~(series["closure.true"] < BLINK_HIDES_GAZE)] = np.nan
    rendered_gaze[~(series["closure.rendered"] < BLINK_HIDES_GAZE)] = np.nan
    for k, name in enumerate(GAZE_BLENDSHAPES):
        series |= {f"{name}.true": true_gaze[:, k], f"{name}.rendered": rendered_gaze[:, k]}

    matched, extra = match_blinks(series["closure.true"], series["closure.rendered"])
    upper = [k for k, name in enumerate(AU_NAMES) if name in UPPER_FACE_UNITS]
    return {
        "action_unit_error": float(error.mean()),
        "upper_face_error": float(error[:, upper].mean()),
        "units": {
            name: {
                "error": float(error[:, k].mean()),
                "correlation": _pearson(true_units[both, k], rendered_units[both, k]),
            }
            for k, name in enumerate(AU_NAMES)
        },
        "blinks": {
            "true": len(matched),
            "reproduced": int(sum(matched)),
            "extra": extra,
            "share": float(np.mean(matched)) if matched else None,
        },
        "gaze": {
            name: _gaze_figures(true_gaze[:, k], rendered_gaze[:, k])
            for k, name in enumerate(GAZE_BLENDSHAPES)
        },
    }, series


def _gaze_figures(true: np.ndarray, rendered: np.ndarray) -> dict[str, float | None]:
    """Correlation and motion of one direction of the gaze, float [F]; NaN: not measured."""
    both = np.isfinite(true) & np.isfinite(rendered)
    true, rendered = true[both], rendered[both]
    moves = len(true) > 1 and true.std() >= GAZE_MOVES
    return {
        "correlation": _pearson(true, rendered) if moves else None,
        "motion": float(rendered.std() / true.std()) if moves else None,
    }


def match_blinks(true: np.ndarray, rendered: np.ndarray) -> tuple[list[bool], int]:
    """Whether each true blink has a rendered one of its own within BLINK_NEAR frames, and the
    number of rendered blinks without a true one.

    true, rendered: closure of the lids, float [F], 0 open to 1 closed.
    """
    unmatched = find_blinks(rendered)
    matched = []
    for frame in find_blinks(true):
        near = [k for k in unmatched if abs(k - frame) <= BLINK_NEAR]
        matched.append(bool(near))
        if near:
            unmatched.remove(min(near, key=lambda k: abs(k - frame)))
    return matched, len(unmatched)


def find_blinks(closure: np.ndarray) -> list[int]:
    """The most closed frame of each blink in a series float [F], 0 open to 1 closed; NaN counts as
    open.
    """
    closed = np.flatnonzero(np.nan_to_num(closure) >= BLINK_START)
    if not len(closed):
        return []
    blinks = np.split(closed, np.flatnonzero(np.diff(closed) > BLINK_GAP) + 1)
    frames = []
    for blink in blinks:
        deepest = blink[closure[blink] >= closure[blink].max() - 1e-6]
        frames.append(int(round(float(np.mean(deepest)))))
    return frames


def _stretches(count: int, segment: np.ndarray | None) -> list[tuple[int, int]]:
    """Stretches [start, stop) of two sequences of `count` frames, one after the other, cut where
    the segment changes.
    """
    cuts = [] if segment is None else (np.flatnonzero(np.diff(segment)) + 1).tolist()
    edges = [0, *cuts, count]
    return [
        (offset + start, offset + stop)
        for offset in (0, count)
        for start, stop in zip(edges, edges[1:], strict=False)
    ]


def _pearson(one: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson correlation of two series [F]; None where either hardly moves."""
    if len(one) < 2 or min(one.std(), other.std()) < 1e-6:
        return None
    return float(np.corrcoef(one, other)[0, 1])
