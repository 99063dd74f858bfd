"""The 19 classes of CelebAMask-HQ, and how they merge to background, head, neck and torso."""

from __future__ import annotations

import numpy as np

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO

# The 19 classes of CelebAMask-HQ in the order of the family's BiSeNet
# (zllrunning/face-parsing.PyTorch).
CELEBAMASK = (
    "background",
    "skin",
    "l_brow",
    "r_brow",
    "l_eye",
    "r_eye",
    "eye_g",
    "l_ear",
    "r_ear",
    "ear_r",
    "nose",
    "mouth",
    "u_lip",
    "l_lip",
    "neck",
    "neck_l",
    "cloth",
    "hair",
    "hat",
)
# The part of each class; all other classes belong to the head.
_PART = {"background": BACKGROUND, "neck": NECK, "neck_l": NECK, "cloth": TORSO}


def merge_classes(scores: np.ndarray, classes: list[int]) -> np.ndarray:
    """Probabilities float32 [4, h, w] of background, head, neck, torso.

    scores: float [C, h, w] of C classes: logits, or probabilities that sum to 1. classes: the part
    of each class.
    """
    parts = np.zeros((4, *scores.shape[1:]), np.float32)
    for share, part in zip(probabilities(scores), classes, strict=True):
        parts[part] += share
    return parts


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Probabilities float32 [C, h, w] of scores float [C, h, w].

    The softmax over C, unless the scores are probabilities already.
    """
    scores = scores.astype(np.float32)
    if scores.min() >= 0 and np.abs(scores.sum(0) - 1).max() < 1e-2:
        return scores
    scores = np.exp(scores - scores.max(0))
    return scores / scores.sum(0)


def part_of_classes(names: list[str]) -> list[int]:
    """The part (BACKGROUND, HEAD, NECK or TORSO) of each CelebAMask-HQ class name.

    Raises ValueError for names that are not these 19.
    """
    strange = sorted(set(names) ^ set(CELEBAMASK))
    if strange or len(names) != len(CELEBAMASK):
        raise ValueError(
            f"its classes are not the 19 of CelebAMask-HQ: {', '.join(strange[:6]) or 'some twice'}"
        )
    return [_PART.get(name, HEAD) for name in names]
