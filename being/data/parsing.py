"""The parts of a picture (background, head, neck, torso) as labels and in the family's colours."""

from __future__ import annotations

import numpy as np

from being.conventions import PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO

BACKGROUND, HEAD, NECK, TORSO = range(4)
LABEL_COLOURS = np.array([PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO], np.uint8)
# Other members of the family also paint these; both belong to the head.
PARSING_HAIR, PARSING_MOUTH = (0, 0, 0), (100, 100, 100)


def encode_parsing(labels: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] in the family's palette, uint8 [H, W, 3] RGB."""
    return LABEL_COLOURS[labels]


def decode_parsing(picture: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] of a picture uint8 [H, W, 3] RGB in the palette of any member of the
    family.
    """
    code = picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    labels = np.full(picture.shape[:2], BACKGROUND, np.uint8)
    for colour, label in (
        (PARSING_HEAD, HEAD),
        (PARSING_HAIR, HEAD),
        (PARSING_MOUTH, HEAD),
        (PARSING_NECK, NECK),
        (PARSING_TORSO, TORSO),
    ):
        labels[code == (colour[0] << 16 | colour[1] << 8 | colour[2])] = label
    return labels
