"""The direction of the eyes against the head, from blendshapes."""

from __future__ import annotations

import numpy as np

from being.face.topology import BLENDSHAPE_NAMES

# Each direction: blendshapes that are added, and blendshapes that are subtracted.
GAZE_BLENDSHAPES = {
    "gaze_right": (  # of the image
        ("eyeLookOutLeft", "eyeLookInRight"),
        ("eyeLookInLeft", "eyeLookOutRight"),
    ),
    "gaze_up": (
        ("eyeLookUpLeft", "eyeLookUpRight"),
        ("eyeLookDownLeft", "eyeLookDownRight"),
    ),
}
BLINK_HIDES_GAZE = 0.3  # closure of the lids above which the gaze cannot be measured


def gaze(blendshapes: np.ndarray) -> np.ndarray:
    """Gaze to the right of the image and up, float64 [F, 2], -2 to 2; 0 is straight ahead.

    blendshapes: float [F, 52] in the order of BLENDSHAPE_NAMES.
    """
    sides = [
        [blendshapes[:, [BLENDSHAPE_NAMES.index(name) for name in names]].sum(1) for names in both]
        for both in GAZE_BLENDSHAPES.values()
    ]
    return np.stack([plus - minus for plus, minus in sides], 1).astype(np.float64)
