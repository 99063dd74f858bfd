"""Facial action units of a clip from its landmarks and blendshapes, written as `au.csv`.

The file has the layout of OpenFace, which the GaussianTalker family of systems reads. An action
unit is the mean of two measurements where both exist: blendshapes, and a distance between landmarks
in the head frame. Each covers for the weakness of the other. The blendshape network gives almost
nothing for cheekSquint and eyeWide. Its eyeBlink reaches only 0.3 on some people's full blinks, in
which the landmarks show that the lids meet. The mapping follows the definitions of the Facial
Action Coding System (Ekman, Friesen and Hager 2002) and of the ARKit blendshapes.
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
from being.face.smoothing import interpolate_missing
from being.face.topology import BLENDSHAPE_NAMES, RIGID

AU_MAX = 5.0  # OpenFace intensities run from 0 to 5
BLINK_UNIT = "AU45"
# Value of AU45 for a closed eye: readers of the family clip AU45 to [0, 2] and halve it.
AU45_CLOSED = 2.0
# Allowed ratio of the lid distance of a closed eye to that of the open eye, in landmarks.
CLOSED_RATIO = (0.05, 0.35)
CLOSED_PERCENTILE = 0.3  # of a clip's lid distances: its deepest blinks
BLINK_MIN = 0.3  # lid closure from which a frame and its two neighbours count as part of a blink
FRAMES_MIN = 50  # frames with a face from which head rotation can be separated from expression
# Residual, in standard deviations, from which a frame counts less in that regression: expressions
# are its outliers.
RESIDUAL_TAIL = 2.0
RIDGE = 1.0  # strength of the prior that head rotation changes nothing, in frames

# Landmarks of the distances, the person's right side first. Heights are measured in the head frame.
UPPER_LID, LOWER_LID = (159, 160, 158, 386, 387, 385), (145, 144, 153, 374, 373, 380)
EYE_CORNERS = ((33, 133), (263, 362))  # outer, inner
BROW_INNER = (55, 107, 65, 66, 285, 336, 295, 296)
BROW_OUTER = (46, 53, 70, 63, 276, 283, 300, 293)
CHEEKS = (50, 205, 117, 101, 280, 425, 346, 330)
JAW = (152, 148, 377, 175, 171, 396, 17, 84, 314)  # chin and the lower lip's edge
LIP_GAPS = ((13, 14), (82, 87), (312, 317))  # inner edge of the lips, upper and lower


@dataclass(frozen=True)
class ActionUnit:
    """How one action unit is measured.

    Each measurement is linear: the person's neutral face is intensity 0, and the neutral value
    plus `blendshape_full` or `distance_full` is intensity 5.
    """

    name: str
    # Blendshapes whose mean is measured: one, or those of the left and the right side.
    blendshapes: tuple[str, ...] = ()
    blendshape_full: float = 1.0
    # A key of `_distances`; "" for none.
    distance: str = ""
    # cm, of a head of the canonical mesh's size; negative where a shorter distance means more.
    distance_full: float = 1.0
    # Percentile of the clip that is the neutral face. Most units are at rest most of the time.
    neutral_percentile: float = 25.0
    # Head rotation changes the measurement, so its effect is removed by regression.
    remove_rotation: bool = True
    # The unit is of the upper face. Landmarks there jump while the lids are closed, so the frames
    # of blinks are interpolated.
    upper_face: bool = False
    window: int = 5  # frames of the smoothing polynomial


def _sides(name: str) -> tuple[str, str]:
    """The blendshapes of both sides of the face."""
    return f"{name}Left", f"{name}Right"


ACTION_UNITS = (
    # Inner brow raiser.
    ActionUnit("AU01", ("browInnerUp",), 0.9, "inner brows", 0.8, window=9, upper_face=True),
    # Outer brow raiser.
    ActionUnit("AU02", _sides("browOuterUp"), 0.8, "outer brows", 0.8, window=9, upper_face=True),
    # Brow lowerer.
    ActionUnit("AU04", _sides("browDown"), 0.8, "inner brows", -0.6, window=9, upper_face=True),
    # Upper lid raiser.
    ActionUnit(
        "AU05",
        distance="upper lids",
        distance_full=0.35,
        neutral_percentile=50.0,
        upper_face=True,
    ),
    # Cheek raiser.
    ActionUnit("AU06", distance="cheeks", distance_full=0.6, window=9, upper_face=True),
    # Lid tightener.
    ActionUnit("AU07", _sides("eyeSquint"), 0.7, upper_face=True),
    # Lip corner puller.
    ActionUnit("AU12", _sides("mouthSmile"), 0.9),
    # Dimpler.
    ActionUnit("AU14", _sides("mouthDimple"), 0.4),
    # Lip corner depressor.
    ActionUnit("AU15", _sides("mouthFrown"), 0.4),
    # Chin raiser.
    ActionUnit("AU17", ("mouthShrugLower",), 0.8),
    # Lip stretcher.
    ActionUnit("AU20", _sides("mouthStretch"), 0.5),
    # Lip tightener, together with AU24: the network does not separate the two.
    ActionUnit("AU23", _sides("mouthPress"), 0.8),
    # Lips part.
    ActionUnit(
        "AU25",
        distance="lip gap",
        distance_full=1.6,
        neutral_percentile=5.0,
        remove_rotation=False,
    ),
    # Jaw drop.
    ActionUnit("AU26", ("jawOpen",), 0.7, "jaw", -2.0, neutral_percentile=5.0),
)
AU_NAMES = (*(unit.name for unit in ACTION_UNITS), BLINK_UNIT)


def action_units(
    landmarks: Landmarks, segments: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Intensities float32 [F, 15] in 0..5 of the units AU_NAMES, relative to the neutral face.

    The neutral face is the person's own, measured over the clip. AU45 is the closure of the lids
    relative to the person's open eye: 2 when closed, where readers of the family clip it.

    segments: frame ranges [start, stop) between cuts, by default one. Nothing is smoothed or
    interpolated across their ends. Frames without a face are interpolated within their segment;
    they are zero where a segment shows no face.

    The units are smoothed by centred polynomials (Savitzky and Golay 1964), so they have no delay.
    AU45 is not smoothed. Lids close within two frames, and the noise of AU45 is 1 % of a blink
    (measured on three clips), so a filter would only open eyes that are closed.
    """
    count, found = len(landmarks), landmarks.found
    values = np.zeros((count, len(AU_NAMES)), np.float32)
    if not found.any():
        return values

    # Intensities of the frames with a face.
    distances, rotation = _distances(landmarks.points[found])
    closure = lid_closure(distances["lids"])
    regressors = _rotation_regressors(rotation)
    blendshapes = landmarks.blendshapes[found]
    columns = [_intensity(unit, blendshapes, distances, regressors) for unit in ACTION_UNITS]
    measured = np.stack([*columns, AU45_CLOSED * closure], 1)

    # The same for all frames, and which of them are clear of a blink.
    measured_of_all = np.zeros((count, len(AU_NAMES)))
    measured_of_all[found] = measured
    no_blink = np.zeros(count, bool)
    no_blink[found] = np.convolve(closure > BLINK_MIN, np.ones(3), "same") == 0

    # Interpolate and smooth each segment by itself.
    upper = [k for k, unit in enumerate(ACTION_UNITS) if unit.upper_face]
    for start, stop in segments or [(0, count)]:
        if not found[start:stop].any():
            continue
        filled = interpolate_missing(measured_of_all[start:stop], found[start:stop])
        filled[:, upper] = interpolate_missing(filled[:, upper], no_blink[start:stop])
        for k, unit in enumerate(ACTION_UNITS):
            filled[:, k] = _smooth(filled[:, k], unit.window)
        values[start:stop] = filled

    limits = [*[AU_MAX] * len(ACTION_UNITS), AU45_CLOSED]
    return np.clip(values, 0, limits).astype(np.float32)


def lid_closure(lids: np.ndarray) -> np.ndarray:
    """Closure of the eyes float [F] from lid distances [F]: 0 open, 1 closed.

    Noise can make it a little larger or smaller than that.
    Open is the clip's median distance. Closed is the distance in its deepest blinks, limited to
    the range that landmarks of closed eyes have (`CLOSED_RATIO`).
    """
    open_eye = float(np.median(lids))
    closed = np.clip(np.percentile(lids, CLOSED_PERCENTILE) / open_eye, *CLOSED_RATIO) * open_eye
    return (open_eye - lids) / (open_eye - closed)


def head_frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks without head pose, float64 [F, 478, 3] in cm, and the rotations [F, 3, 3].

    points: float [F, 478, 3] px. The similarity that maps the rigid points onto the canonical mesh
    (Umeyama 1991); the landmark network's depth is accurate enough for it. Axes: x right, y up, z
    out of the face; image direction = rotation @ head direction.
    """
    assert points.ndim == 3 and points.shape[1:] == (478, 3), points.shape
    upright = points.astype(np.float64) * [1, -1, -1]
    model = canonical_mesh()[0][RIGID].astype(np.float64)
    seen = upright[:, RIGID]
    seen_mean, model_mean = seen.mean(1, keepdims=True), model.mean(0)

    # Rotation from the singular value decomposition of the covariance, without a reflection.
    left, singular, right = np.linalg.svd(
        np.einsum("fni,nj->fij", seen - seen_mean, model - model_mean)
    )
    sign = np.ones((len(points), 3))
    sign[:, 2] = np.sign(np.linalg.det(left @ right))
    rotation = (left * sign[:, None]) @ right

    scale = (singular * sign).sum(1) / ((seen - seen_mean) ** 2).sum((1, 2))
    return (upright - seen_mean) @ rotation * scale[:, None, None] + model_mean, rotation


def write_action_units(
    path: Path, landmarks: Landmarks, segments: Sequence[Sequence[int]] | None = None
) -> None:
    """Write the action units of a clip as `au.csv`: one row a frame, intensities 0 to 5."""
    names = [f"{name}_r" for name in AU_NAMES]
    write_au_table(path, names, action_units(landmarks, segments), landmarks.confidence)


def write_au_table(
    path: Path, names: Sequence[str], values: np.ndarray, confidence: np.ndarray
) -> None:
    """Write values [F, K] of the columns `names` in the layout of an OpenFace csv.

    confidence: [F] in 0..1, 0 for a frame without a face. Column names and values begin with a
    space, as OpenFace writes them.
    """
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        header = ["timestamp", "confidence", "success", *names]
        table.writerow(["frame", *(f" {name}" for name in header)])
        for i, (row, sure) in enumerate(zip(values, confidence, strict=True)):
            cells = [f" {i / FPS:.3f}", f" {sure:.3f}", f" {int(sure > 0)}"]
            table.writerow([i + 1, *cells, *(f" {value:.4f}" for value in row)])


def _distances(points: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Distances and heights by name, each [F] in cm of the head frame, and rotations [F, 3, 3].

    points: float [F, 478, 3] px. "lids" is a ratio: the lid distance over the eye's width.
    """
    head, rotation = head_frame(points)

    def height(which: Sequence[int]) -> np.ndarray:
        return head[:, list(which), 1].mean(1)

    def between(upper: Sequence[int], lower: Sequence[int]) -> np.ndarray:
        return np.linalg.norm(head[:, list(upper), :2] - head[:, list(lower), :2], axis=-1).mean(1)

    # Three lid points a side.
    lid_ratios = []
    for side, (outer, inner) in enumerate(EYE_CORNERS):
        first, stop = 3 * side, 3 * side + 3
        distance = between(UPPER_LID[first:stop], LOWER_LID[first:stop])
        eye_width = np.linalg.norm(head[:, outer] - head[:, inner], axis=-1)
        lid_ratios.append(distance / eye_width)

    corners = height([corner for eye in EYE_CORNERS for corner in eye])
    distances = {
        "lids": np.mean(lid_ratios, 0),
        "upper lids": height(UPPER_LID) - corners,
        "inner brows": height(BROW_INNER),
        "outer brows": height(BROW_OUTER),
        "cheeks": height(CHEEKS),
        "jaw": height(JAW),
        "lip gap": between(*zip(*LIP_GAPS, strict=True)),
    }
    return distances, rotation


def _intensity(
    unit: ActionUnit,
    blendshapes: np.ndarray,
    distances: dict[str, np.ndarray],
    regressors: np.ndarray,
) -> np.ndarray:
    """Intensity [F] of one unit, about 0 to 5, not yet clipped or smoothed."""
    parts = []
    if unit.blendshapes:
        columns = [BLENDSHAPE_NAMES.index(name) for name in unit.blendshapes]
        parts.append(blendshapes[:, columns].mean(1) / unit.blendshape_full)
    if unit.distance:
        parts.append(distances[unit.distance] / unit.distance_full)
    if unit.remove_rotation:
        parts = [_regress_out(part, regressors) for part in parts]
    signal = np.mean(parts, axis=0)
    return AU_MAX * (signal - np.percentile(signal, unit.neutral_percentile))


def _rotation_regressors(rotation: np.ndarray) -> np.ndarray:
    """Regressors of the head rotation, centred, [F, 5]: yaw, pitch, roll, yaw^2 and pitch^2.

    The angles are entries of the rotation matrices [F, 3, 3], relative to their median.
    """
    yaw, pitch, roll = (
        angle - np.median(angle)
        for angle in (rotation[:, 0, 2], rotation[:, 1, 2], rotation[:, 1, 0])
    )
    columns = np.stack([yaw, pitch, roll, yaw**2, pitch**2], 1)
    return columns - columns.mean(0)


def _regress_out(signal: np.ndarray, regressors: np.ndarray) -> np.ndarray:
    """`signal` [F] minus the part that `regressors` [F, P] explain, by robust ridge regression.

    Clips with fewer than FRAMES_MIN frames are returned unchanged.
    """
    if len(signal) < FRAMES_MIN:
        return signal
    columns = regressors / (regressors.std(0) + 1e-9)
    weight, explained = np.ones(len(signal)), np.zeros(len(signal))
    for _ in range(8):
        centre = np.average(signal, weights=weight)
        weighted = (columns * weight[:, None]).T
        normal = weighted @ columns + RIDGE * np.eye(columns.shape[1])
        explained = columns @ np.linalg.solve(normal, weighted @ (signal - centre))
        # Cauchy weights by the residual: frames with an expression count less.
        residual = signal - centre - explained
        deviation = 1.4826 * np.median(np.abs(residual)) + 1e-9
        weight = 1 / (1 + (residual / (RESIDUAL_TAIL * deviation)) ** 2)
    return signal - explained


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """`values` [F] smoothed by a centred cubic over `window` frames; unchanged if F < window."""
    from scipy.signal import savgol_filter

    return savgol_filter(values, window, 3) if len(values) >= window else values
