"""Face parsing labels (background, head, neck, torso) and their colours in the parsing images."""

from __future__ import annotations

import numpy as np

from being.conventions import PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO

BACKGROUND, HEAD, NECK, TORSO = range(4)
LABEL_COLOURS = np.array([PARSING_BACKGROUND, PARSING_HEAD, PARSING_NECK, PARSING_TORSO], np.uint8)
# Other systems of the family also use these two colours; both belong to the head.
PARSING_HAIR, PARSING_MOUTH = (0, 0, 0), (100, 100, 100)


def encode_parsing(labels: np.ndarray) -> np.ndarray:
    """Parsing image uint8 [H, W, 3] RGB of labels uint8 [H, W]."""
    return LABEL_COLOURS[labels]


def decode_parsing(image: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] of a parsing image uint8 [H, W, 3] RGB of any system of the family.

    Pixels of an unknown colour are background.
    """
    code = image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])
    labels = np.full(image.shape[:2], BACKGROUND, np.uint8)
    for colour, label in (
        (PARSING_HEAD, HEAD),
        (PARSING_HAIR, HEAD),
        (PARSING_MOUTH, HEAD),
        (PARSING_NECK, NECK),
        (PARSING_TORSO, TORSO),
    ):
        labels[code == (colour[0] << 16 | colour[1] << 8 | colour[2])] = label
    return labels
