"""Action units of a clip from its landmarks and blendshapes: the `au.csv` that the family's readers
know from OpenFace.

Every unit is the mean of what the blendshape network says of it and of a distance between landmarks
in the head frame, where both exist, so that one covers for the other: the network answers next to
nothing for cheekSquint and eyeWide, and its eyeBlink reaches only 0.3 on some people's full blinks,
where the lids themselves are seen to meet. The mapping follows the definitions of the Facial Action
Coding System (Ekman, Friesen and Hager 2002) and of the ARKit units.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.face.canonical_mesh import canonical_mesh
from being.face.landmarks import Landmarks
from being.face.smoothing import fill
from being.face.topology import BLENDSHAPE_NAMES, RIGID

AU_MAX = 5.0  # OpenFace intensities run from 0 to 5
BLINK_CLOSED = 2.0  # the family clips AU45 to [0, 2] and halves it, so a closed eye is written as 2
BLINK_UNIT = "AU45"
CLOSED_RATIO = (
    0.05,
    0.35,
)  # lid distance of a shut eye over that of the open one: what landmarks make of it
CLOSED_PERCENTILE = 0.3  # of a clip's lid distances: its deepest blinks
BLINKING = 0.3  # closure from which a frame, with its neighbours, counts as part of a blink
SEEN_MIN = 50  # frames with a face from which the head's turns can be told from the expression
# residuals in deviations from which a frame counts less in that fit: expressions are outliers
RESIDUAL_TAIL = 2.0
RIDGE = 1.0  # frames' worth of belief that the head's turns change nothing

# Landmarks of the distances, the person's right side first. Heights are measured in the head frame.
UPPER_LID, LOWER_LID = (159, 160, 158, 386, 387, 385), (145, 144, 153, 374, 373, 380)
EYE_CORNERS = ((33, 133), (263, 362))  # outer, inner
BROW_INNER = (55, 107, 65, 66, 285, 336, 295, 296)
BROW_OUTER = (46, 53, 70, 63, 276, 283, 300, 293)
CHEEKS = (50, 205, 117, 101, 280, 425, 346, 330)
JAW = (152, 148, 377, 175, 171, 396, 17, 84, 314)  # chin and the lower lip's edge
LIP_GAPS = ((13, 14), (82, 87), (312, 317))  # inner edge of the lips, upper and lower


@dataclass(frozen=True)
class Unit:
    """How one action unit is read: each part runs from the person's neutral face to `full`, which
    is intensity 5.
    """

    name: str
    shapes: tuple[str, ...] = ()  # blendshapes, averaged over the sides
    shape_full: float = 1.0  # value of that average
    distance: str = ""  # a key of `_distances`
    distance_full: float = (
        1.0  # cm (of a head of the canonical mesh's size); negative: a shorter distance means more
    )
    neutral: float = (
        25.0  # percentile of the clip that is the neutral face: units rest most of the time
    )
    turned: bool = True  # the head's turns leak into it and are taken out
    # of the upper face: landmarks there jump while the lids are shut, so blinks are bridged
    upper: bool = False
    window: int = 5  # frames of the smoothing polynomial


def _sides(name: str) -> tuple[str, str]:
    return f"{name}Left", f"{name}Right"


UNITS = (
    Unit(
        "AU01", ("browInnerUp",), 0.9, "inner brows", 0.8, window=9, upper=True
    ),  # inner brow raiser
    Unit(
        "AU02", _sides("browOuterUp"), 0.8, "outer brows", 0.8, window=9, upper=True
    ),  # outer brow raiser
    Unit(
        "AU04", _sides("browDown"), 0.8, "inner brows", -0.6, window=9, upper=True
    ),  # brow lowerer
    Unit(
        "AU05", distance="upper lids", distance_full=0.35, neutral=50.0, upper=True
    ),  # upper lid raiser
    Unit("AU06", distance="cheeks", distance_full=0.6, window=9, upper=True),  # cheek raiser
    Unit("AU07", _sides("eyeSquint"), 0.7, upper=True),  # lid tightener
    Unit("AU12", _sides("mouthSmile"), 0.9),  # lip corner puller
    Unit("AU14", _sides("mouthDimple"), 0.4),  # dimpler
    Unit("AU15", _sides("mouthFrown"), 0.4),  # lip corner depressor
    Unit("AU17", ("mouthShrugLower",), 0.8),  # chin raiser
    Unit("AU20", _sides("mouthStretch"), 0.5),  # lip stretcher
    Unit(
        "AU23", _sides("mouthPress"), 0.8
    ),  # lip tightener (with AU24, which the network does not tell from it)
    Unit("AU25", distance="lip gap", distance_full=1.6, neutral=5.0, turned=False),  # lips part
    Unit("AU26", ("jawOpen",), 0.7, "jaw", -2.0, neutral=5.0),  # jaw drop
)
NAMES = (*(unit.name for unit in UNITS), BLINK_UNIT)


def action_units(
    landmarks: Landmarks, segments: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Intensities float32 [F, 15] in 0..5 of the units NAMES, relative to the person's own neutral
    face.

    segments: frame ranges [start, stop) between cuts; nothing is smoothed or bridged across their
    ends. By default one. Frames without a face are bridged inside their segment, zero where a
    segment shows none. AU45 is the closure of the lids against the person's own open eye, 2 when
    shut (the family's readers clip it there). The units are smoothed by centred polynomials
    (Savitzky and Golay 1964), so nothing comes late; AU45 is not: lids shut within two frames, and
    its noise is 1 % of a blink (measured on three clips), so a filter would only open eyes that are
    seen to be shut.
    """
    count, found = len(landmarks), landmarks.found
    values = np.zeros((count, len(NAMES)), np.float32)
    if not found.any():
        return values
    lengths, turns = _distances(landmarks.points[found])
    shut = closure(lengths["lids"])
    course = _turns(turns)
    measured = np.stack(
        [
            *(_intensity(unit, landmarks.blendshapes[found], lengths, course) for unit in UNITS),
            BLINK_CLOSED * shut,
        ],
        1,
    )
    spread, steady = np.zeros((count, len(NAMES))), np.zeros(count, bool)
    spread[found] = measured
    steady[found] = np.convolve(shut > BLINKING, np.ones(3), "same") == 0
    upper = [k for k, unit in enumerate(UNITS) if unit.upper]
    for start, stop in segments or [(0, count)]:
        if found[start:stop].any():
            filled = fill(spread[start:stop], found[start:stop])
            filled[:, upper] = fill(filled[:, upper], steady[start:stop])
            for k, unit in enumerate(UNITS):
                filled[:, k] = _smooth(filled[:, k], unit.window)
            values[start:stop] = filled
    return np.clip(values, 0, [*[AU_MAX] * len(UNITS), BLINK_CLOSED]).astype(np.float32)


def closure(lids: np.ndarray) -> np.ndarray:
    """Closure of the eyes float [F], 0 open to 1 shut (a little beyond for noise), from their lid
    distances [F].

    Open is the clip's median; shut is its deepest blink, within what landmarks make of shut eyes.
    """
    open_eye = float(np.median(lids))
    shut = np.clip(np.percentile(lids, CLOSED_PERCENTILE) / open_eye, *CLOSED_RATIO) * open_eye
    return (open_eye - lids) / (open_eye - shut)


def head_frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks float64 [F, 478, 3] without head pose, in cm of the canonical head, and rotations
    [F, 3, 3].

    points: float [F, 478, 3] px. The similarity that lays the rigid points onto the canonical mesh
    (Umeyama 1991); the landmark network's depth is good enough for it. x right, y up, z out of the
    face; picture = rotation @ head.
    """
    assert points.ndim == 3 and points.shape[1:] == (478, 3), points.shape
    upright = points.astype(np.float64) * [1, -1, -1]
    model = canonical_mesh()[0][RIGID].astype(np.float64)
    seen = upright[:, RIGID]
    middle, model_middle = seen.mean(1, keepdims=True), model.mean(0)
    left, stretch, right = np.linalg.svd(
        np.einsum("fni,nj->fij", seen - middle, model - model_middle)
    )
    handed = np.ones((len(points), 3))
    handed[:, 2] = np.sign(np.linalg.det(left @ right))
    rotation = (left * handed[:, None]) @ right
    scale = (stretch * handed).sum(1) / ((seen - middle) ** 2).sum((1, 2))
    return (upright - middle) @ rotation * scale[:, None, None] + model_middle, rotation


def write_au(
    path: Path, landmarks: Landmarks, segments: Sequence[Sequence[int]] | None = None
) -> None:
    """Write `au.csv`: OpenFace's column names (which begin with a space), one row a frame,
    intensities 0 to 5.
    """
    write_table(
        path,
        [f"{name}_r" for name in NAMES],
        action_units(landmarks, segments),
        landmarks.confidence,
    )


def write_table(
    path: Path, names: Sequence[str], values: np.ndarray, confidence: np.ndarray
) -> None:
    """Write columns `names` with values [F, K] and the face's confidence [F] as OpenFace lays its
    file out.
    """
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["frame", *(f" {name}" for name in ("timestamp", "confidence", "success", *names))]
        )
        for i, (row, sure) in enumerate(zip(values, confidence, strict=True)):
            table.writerow(
                [
                    i + 1,
                    f" {i / FPS:.3f}",
                    f" {sure:.3f}",
                    f" {int(sure > 0)}",
                    *(f" {v:.4f}" for v in row),
                ]
            )


def _distances(points: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Distances and heights [F] in the head frame, cm (lids: over the eye's width), and the head's
    rotations.
    """
    head, rotation = head_frame(points)

    def height(which: Sequence[int]) -> np.ndarray:
        return head[:, list(which), 1].mean(1)

    def between(upper: Sequence[int], lower: Sequence[int]) -> np.ndarray:
        return np.linalg.norm(head[:, list(upper), :2] - head[:, list(lower), :2], axis=-1).mean(1)

    sides = [
        between(UPPER_LID[3 * s : 3 * s + 3], LOWER_LID[3 * s : 3 * s + 3])
        / np.linalg.norm(head[:, outer] - head[:, inner], axis=-1)
        for s, (outer, inner) in enumerate(EYE_CORNERS)
    ]
    corners = height([corner for eye in EYE_CORNERS for corner in eye])
    return {
        "lids": np.mean(sides, 0),
        "upper lids": height(UPPER_LID) - corners,
        "inner brows": height(BROW_INNER),
        "outer brows": height(BROW_OUTER),
        "cheeks": height(CHEEKS),
        "jaw": height(JAW),
        "lip gap": between(*zip(*LIP_GAPS, strict=True)),
    }, rotation


def _intensity(
    unit: Unit, blendshapes: np.ndarray, lengths: dict[str, np.ndarray], course: np.ndarray
) -> np.ndarray:
    """Intensity [F] of one unit, about 0 to 5, not yet clipped or smoothed."""
    parts = []
    if unit.shapes:
        columns = [BLENDSHAPE_NAMES.index(name) for name in unit.shapes]
        parts.append(blendshapes[:, columns].mean(1) / unit.shape_full)
    if unit.distance:
        parts.append(lengths[unit.distance] / unit.distance_full)
    signal = np.mean([_without(part, course) if unit.turned else part for part in parts], axis=0)
    return AU_MAX * (signal - np.percentile(signal, unit.neutral))


def _turns(rotation: np.ndarray) -> np.ndarray:
    """What leaks into a unit though it is none of it, [F, 5], centred: the head's turns, and
    squares of two of them.
    """
    yaw, pitch, roll = (
        angle - np.median(angle)
        for angle in (rotation[:, 0, 2], rotation[:, 1, 2], rotation[:, 1, 0])
    )
    course = np.stack([yaw, pitch, roll, yaw**2, pitch**2], 1)
    return course - course.mean(0)


def _without(signal: np.ndarray, course: np.ndarray) -> np.ndarray:
    """`signal` [F] less what the columns of `course` [F, P] explain of it by robust ridge
    regression.
    """
    if len(signal) < SEEN_MIN:
        return signal
    columns = course / (course.std(0) + 1e-9)
    weight, explained = np.ones(len(signal)), np.zeros(len(signal))
    for _ in range(8):
        centre = np.average(signal, weights=weight)
        normal = (columns * weight[:, None]).T @ columns + RIDGE * np.eye(columns.shape[1])
        explained = columns @ np.linalg.solve(
            normal, (columns * weight[:, None]).T @ (signal - centre)
        )
        rest = signal - centre - explained
        deviation = 1.4826 * np.median(np.abs(rest)) + 1e-9
        weight = 1 / (1 + (rest / (RESIDUAL_TAIL * deviation)) ** 2)
    return signal - explained


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """values [F] smoothed by a centred cubic over `window` frames; left as they are where there are
    fewer.
    """
    from scipy.signal import savgol_filter

    return savgol_filter(values, window, 3) if len(values) >= window else values
