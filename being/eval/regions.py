"""The regions of a frame that are measured: face, mouth, eyes, brows, and their boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.data.clip import EYE_BOX_POINTS, LIP_BOX_POINTS, landmark_boxes
from being.face.topology import BROWS, FACE_OVAL

WHOLE = "the whole frame"
HEAD = "box of the head mask, enlarged by a tenth"


@dataclass(frozen=True)
class Region:
    """A box around some landmarks."""

    description: str
    landmarks: tuple[int, ...]
    half_sides: tuple[float, float]  # half height and half width, in extents of the landmarks
    square: bool


REGIONS = {
    "face": Region(
        "box of the face oval, brow to chin, enlarged by a tenth",
        tuple(FACE_OVAL.tolist()),
        (0.55, 0.55),
        False,
    ),
    "mouth": Region(
        "square around the lips, 1.2 times their width", LIP_BOX_POINTS, (0.6, 0.6), True
    ),
    "eyes": Region("box around both eyes", EYE_BOX_POINTS, (1.0, 0.6), False),
    "brows": Region("box around both brows", tuple(BROWS.tolist()), (1.0, 0.55), False),
}


def region_boxes(points: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    """Boxes int64 [F, 4] in px of each region of REGIONS: top, bottom, left, right, the ends
    exclusive; zeros where no face was found.

    All boxes of a region have one size: the 95th percentile of the extent of its landmarks. They
    are cut at the border of the image.

    points: float [F, 478, 3] px of the true images [height, width].
    """
    boxes = {}
    for name, region in REGIONS.items():
        found = landmark_boxes(
            points, region.landmarks, max(height, width), region.half_sides, region.square
        )
        boxes[name] = np.minimum(found, [height, height, width, width])
    return boxes
