"""The audio and the mouth measures of a dataset's real footage: what avatars are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from being.data.dataset import Dataset
from being.eval.mouth_figures import MouthMeasures, mouth_figures
from being.eval.speech_events import recognised_events
from being.face.landmarks import lip_aperture


def frames_audio(dataset: Dataset, frames: np.ndarray) -> np.ndarray:
    """Audio float32 [640 n] at 16 kHz of `frames` int [n], one after the other."""
    return dataset.audio().reshape(dataset.frames, -1)[frames].reshape(-1)


def footage_mouth(dataset: Dataset) -> MouthMeasures | None:
    """Range and speed of the real mouth over the whole clip; None without enough faces."""
    return MouthMeasures.from_aperture(lip_aperture(dataset.landmarks), dataset.bounds[:, 0])


def footage_figures(dataset: Dataset) -> dict[str, Any] | None:
    """`mouth_figures` of the real footage over the whole clip; None without enough faces."""
    mouth = footage_mouth(dataset)
    if mouth is None:
        return None
    events = recognised_events(dataset.audio())
    return mouth_figures(lip_aperture(dataset.landmarks), events, mouth, dataset.bounds[:, 0])
