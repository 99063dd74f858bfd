"""Looks at a face for tests of what is seen and heard: made up with a known mouth, or taken from a
real clip.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from being import media
from being.face.landmarks import POINTS
from being.face.topology import (
    EYE_LEFT,
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    EYE_RIGHT,
    LIP_LOWER,
    LIP_UPPER,
)
from being.preprocess.inspection.face_samples import Look

EYES_APART, EYE_WIDE = 100.0, 30.0  # px


def made_up(
    times: np.ndarray,
    aperture: np.ndarray,
    eyes: np.ndarray | float = 0.3,
    face: np.ndarray | None = None,
) -> Look:
    """A look at times float [n], s, with lip aperture [n] (over the eyes' distance) and eye opening
    (over width).

    face: points [n, 478, 3] px whose lips and lids are moved; by default only eyes and lips have a
    place.
    """
    points = np.zeros((len(times), POINTS, 3), np.float32)
    if face is None:
        points[:, EYE_OUTER_LEFT, 0] = EYES_APART
        points[:, EYE_RIGHT[8], 0], points[:, EYE_LEFT[8], 0] = EYE_WIDE, EYES_APART - EYE_WIDE
        points[:, LIP_UPPER] = (EYES_APART / 2, 80, 0)
    else:
        points[:] = face
    apart = np.linalg.norm(points[:, EYE_OUTER_LEFT, :2] - points[:, EYE_OUTER_RIGHT, :2], axis=1)
    points[:, LIP_LOWER] = points[:, LIP_UPPER]
    points[:, LIP_LOWER, 1] += apart * aperture
    for eye in (EYE_RIGHT, EYE_LEFT):
        outer, inner = points[:, eye[0]], points[:, eye[8]]
        height = np.linalg.norm((inner - outer)[:, :2], axis=1) * eyes
        for k in (*range(1, 8), *range(9, 16)):
            along = (k if k < 8 else 16 - k) / 8
            points[:, eye[k]] = outer + along * (inner - outer)
            points[:, eye[k], 1] += height / 2 * (1 if k > 8 else -1)
    return Look(np.asarray(times, np.float64), points, None, np.ones(len(times), np.int64))


def look_at(video: Path, seconds: float) -> Look:
    """Landmarks of the first seconds of a real clip at its own rate, copies of frames left out."""
    from needs import had

    from being.face.landmarks import FaceLandmarker

    frames: list[np.ndarray] = []
    times: list[float] = []
    rate = round(media.probe(video).fps)
    for number, frame in enumerate(islice(media.read_frames(video, rate), round(rate * seconds))):
        if not frames or np.abs(frame.astype(np.int16) - frames[-1]).mean() > 0.05:
            frames.append(frame)
            times.append(number / rate)
    seen = had(lambda: FaceLandmarker(workers=1)).track(frames)
    return Look(np.array(times), seen.points, seen.blendshapes, np.full(len(times), -1))
