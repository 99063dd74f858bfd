"""Which parts of a picture are measured, and what each box is."""

from __future__ import annotations

import numpy as np

from being.data.clip import BROWS, EYES, LIPS, landmark_boxes
from being.face.topology import FACE_OVAL

WHOLE = "the whole frame"
HEAD = "box of the head mask grown by a tenth"
REGIONS: dict[
    str, tuple[str, tuple[int, ...], tuple[float, float], bool]
] = {  # what, points, half sides, square
    "face": (
        "box of the face oval, brow to chin, grown by a tenth",
        tuple(FACE_OVAL.tolist()),
        (0.55, 0.55),
        False,
    ),
    "mouth": ("square round the lips, 1.2 times their width", LIPS, (0.6, 0.6), True),
    "eyes": ("box round both eyes", EYES, (1.0, 0.6), False),
    "brows": ("box round both brows", BROWS, (1.0, 0.55), False),
}


def region_boxes(points: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    """Boxes int64 [F, 4] (top, bottom, left, right; the ends exclusive) of each region of REGIONS
    in px, zeros where there is no face.

    points: float [F, 478, 3] px of the true pictures [height, width]. All boxes of a region have
    one size, that of the 95th percentile of its landmarks' extent, and are cut where they leave the
    picture.
    """
    found = {}
    for name, (_, which, half, square) in REGIONS.items():
        boxes = landmark_boxes(points, which, max(height, width), half, square)
        found[name] = np.minimum(boxes, [height, height, width, width])
    return found
