"""Looks at a face for tests of what is seen and heard: made up with a known mouth, or taken from a real clip."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from being import media
from being.preprocess.facemap import EYE_LEFT, EYE_OUTER_LEFT, EYE_OUTER_RIGHT, EYE_RIGHT, LIP_LOWER, LIP_UPPER
from being.preprocess.landmarks import POINTS
from being.preprocess.look import Look

EYES_APART = 100.0  # px


def made_up(times: np.ndarray, aperture: np.ndarray, eyes: np.ndarray | float = 0.3) -> Look:
    """A look at times float [n], s, with lip aperture [n] (over the eyes' distance) and eye opening (over width)."""
    points = np.zeros((len(times), POINTS, 3), np.float32)
    points[:, EYE_OUTER_LEFT, 0] = EYES_APART
    points[:, LIP_UPPER] = (EYES_APART / 2, 80, 0)
    points[:, LIP_LOWER] = points[:, LIP_UPPER]
    points[:, LIP_LOWER, 1] += (EYES_APART * aperture).astype(np.float32)
    height = np.broadcast_to(np.asarray(eyes, np.float32), times.shape) * 30
    for eye, outer, inwards in ((EYE_RIGHT, 0.0, 1), (EYE_LEFT, EYES_APART, -1)):
        for k, index in enumerate(eye):
            points[:, index, 0] = outer + inwards * 30 * (k if k <= 8 else 16 - k) / 8
            points[:, index, 1] = height / 2 * np.sign((8 - k) * (k > 0)) * (k != 8)
    assert points[0, EYE_OUTER_RIGHT, 0] == 0
    return Look(np.asarray(times, np.float64), points, None, np.ones(len(times), np.int64))


def look_at(video: Path, seconds: float) -> Look:
    """Landmarks of the first seconds of a real clip at its own rate, copies of frames left out."""
    from needs import had

    from being.preprocess.landmarks import FaceLandmarker

    frames: list[np.ndarray] = []
    times: list[float] = []
    rate = round(media.probe(video).fps)
    for number, frame in enumerate(islice(media.read_frames(video, rate), round(rate * seconds))):
        if not frames or np.abs(frame.astype(np.int16) - frames[-1]).mean() > 0.05:
            frames.append(frame)
            times.append(number / rate)
    seen = had(lambda: FaceLandmarker(workers=1)).track(frames)
    return Look(np.array(times), seen.points, seen.blendshapes, np.full(len(times), -1))
