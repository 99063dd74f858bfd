"""Face samples for tests: synthetic ones with known lips and lids, and those of a real clip."""

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
from being.preprocess.inspection.face_samples import FaceSamples

EYE_DISTANCE, EYE_WIDTH = 100.0, 30.0  # px
COPY_MAX = 0.05  # levels, mean change from which a frame is no copy of the frame before


def synthetic_face_samples(
    times: np.ndarray,
    aperture: np.ndarray,
    eyes: np.ndarray | float = 0.3,
    face: np.ndarray | None = None,
) -> FaceSamples:
    """Samples at times float [n], s, with this lip aperture and eye opening.

    aperture: [n], over the distance of the eyes. eyes: opening over width, [n] or one for all.
    face: points [n, 478, 3] px whose lips and lids are moved; by default only eyes and lips are
    set.
    """
    points = np.zeros((len(times), POINTS, 3), np.float32)
    if face is None:
        points[:, EYE_OUTER_LEFT, 0] = EYE_DISTANCE
        points[:, EYE_RIGHT[8], 0] = EYE_WIDTH
        points[:, EYE_LEFT[8], 0] = EYE_DISTANCE - EYE_WIDTH
        points[:, LIP_UPPER] = (EYE_DISTANCE / 2, 80, 0)
    else:
        points[:] = face

    # The lower lip, under the upper one.
    distance = np.linalg.norm(
        points[:, EYE_OUTER_LEFT, :2] - points[:, EYE_OUTER_RIGHT, :2], axis=1
    )
    points[:, LIP_LOWER] = points[:, LIP_UPPER]
    points[:, LIP_LOWER, 1] += distance * aperture

    # The lids, along the line from corner to corner.
    for eye in (EYE_RIGHT, EYE_LEFT):
        outer, inner = points[:, eye[0]], points[:, eye[8]]
        height = np.linalg.norm((inner - outer)[:, :2], axis=1) * eyes
        for k in (*range(1, 8), *range(9, 16)):
            along = (k if k < 8 else 16 - k) / 8
            points[:, eye[k]] = outer + along * (inner - outer)
            points[:, eye[k], 1] += height / 2 * (1 if k > 8 else -1)
    return FaceSamples(np.asarray(times, np.float64), points, None, np.ones(len(times), np.int64))


def clip_face_samples(video: Path, seconds: float) -> FaceSamples:
    """Landmarks of the first seconds of a real clip at its own rate, without copies of frames."""
    from needs import load_or_skip

    from being.face.landmarks import FaceLandmarker

    frames: list[np.ndarray] = []
    times: list[float] = []
    rate = round(media.probe(video).fps)
    for number, frame in enumerate(islice(media.read_frames(video, rate), round(rate * seconds))):
        if not frames or np.abs(frame.astype(np.int16) - frames[-1]).mean() > COPY_MAX:
            frames.append(frame)
            times.append(number / rate)
    landmarks = load_or_skip(lambda: FaceLandmarker(workers=1)).track(frames)
    return FaceSamples(
        np.array(times), landmarks.points, landmarks.blendshapes, np.full(len(times), -1)
    )
