"""Teeth masks of all frames, by colour inside the lips and averaged over time.

TalkingGaussian and InsTaG take theirs from EasyPortrait (`teeth_mask/%d.npy`, bool [H, W]). A
folder of those beside the video is used instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from being.errors import InputRejected
from being.face.topology import INNER_LIPS, LIP_LOWER, LIP_UPPER, RIGID
from being.preprocess.segmentation.jawline import FaceAxes, fit_similarity
from being.reading.arrays import load_array

OPEN_MIN = 0.008  # of the face height: lips nearer to each other than this show no teeth
SKIN_FRAMES = 24  # frames from which the colour of the skin is measured
# Teeth are light and no redder than the person's skin. Two soft steps in 8-bit Lab, each with its
# half-way value and its width.
LIGHT, LIGHT_SOFT = 0.6, 0.06  # lightness, as a share of the skin's
RED, RED_SOFT = -2.0, 3.0  # redness, above the skin's
MARGIN_PX = 8  # around the lips


def teeth_masks(
    frames: Sequence[np.ndarray],
    points: np.ndarray,
    segments: Sequence[Sequence[int]] | None = None,
) -> Iterator[np.ndarray]:
    """Masks uint8 [H, W] of all frames in order, 255 on teeth.

    A mask is empty where the lips are closed or no face was found.

    frames: uint8 [H, W, 3] RGB each. points: float32 [F, 478, 2 or 3] px, NaN where no face was
    found. segments: (start, stop) frames without a cut, the whole clip by default. The scores of
    the frames before and after count half as much as the frame's own. They are moved onto the frame
    by the rigid landmarks, because teeth do not move in the head.
    """
    points = points[..., :2]
    has_face = np.isfinite(points).all((1, 2))
    if not has_face.any():
        for i in range(len(frames)):
            yield np.zeros(frames[i].shape[:2], np.uint8)
        return
    skin = _skin_colour(frames, points, np.flatnonzero(has_face))
    cuts = {edge for segment in segments or [(0, len(frames))] for edge in segment}
    size = frames[0].shape[:2]

    # Only the scores of a frame and its two neighbours are kept.
    scores: dict[int, np.ndarray | None] = {}
    for i in range(len(points)):
        for j in (i, i + 1):
            if j < len(points) and j not in scores:
                scores[j] = _score(frames, points[j], skin, j) if has_face[j] else None
        if scores[i] is None:
            yield np.zeros(size, np.uint8)
        else:
            yield _averaged_mask(i, scores, points, cuts)
        scores.pop(i - 1, None)


def read_teeth(folder: Path, i: int, height: int, width: int) -> np.ndarray:
    """Mask uint8 [H, W], 255 on teeth, from `i`.npy (bool [H, W]) of an EasyPortrait folder.

    Raises InputRejected for a file that cannot be read or has another shape or type.
    """
    path = folder / f"{i}.npy"
    mask = load_array(path, "Remove the folder, or make it again", mapped=True)
    if mask.shape != (height, width) or mask.dtype.kind not in "bu":
        raise InputRejected(
            f"{path} does not fit the frames",
            f"it is {mask.dtype} {list(mask.shape)}, not bool [{height}, {width}]",
            "Remove the folder, or make its masks from these frames",
        )
    return (mask > 0).astype(np.uint8) * 255


def _skin_colour(frames: Sequence[np.ndarray], points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Median Lab colour float [3] of the cheeks over the clip.

    found: int, the frames with a face.
    """
    colours = []
    steps = np.unique(np.linspace(0, len(found) - 1, SKIN_FRAMES).round().astype(int))
    for i in found[steps]:
        face, (height, width) = FaceAxes.from_landmarks(points[i]), frames[int(i)].shape[:2]
        across, down = face.coordinates(height, width)
        cheeks = face.oval(height, width) & (np.abs(down) < 0.15 * face.height)
        cheeks &= np.abs(across) > 0.15 * face.width
        cheeks &= np.abs(across) < 0.35 * face.width
        colours.append(_lab(frames[int(i)][cheeks][None])[0])
    return np.median(np.concatenate(colours), 0)


def _score(
    frames: Sequence[np.ndarray], position: np.ndarray, skin: np.ndarray, i: int
) -> np.ndarray | None:
    """How much each pixel is a tooth, float32 [H, W] in [0, 1]; None where the lips are closed.

    position: landmarks [478, 2] px. skin: Lab colour [3].
    """
    opening = np.hypot(*(position[LIP_UPPER] - position[LIP_LOWER]))
    if opening < OPEN_MIN * FaceAxes.from_landmarks(position).height:
        return None

    # Only the box of the lips is computed.
    frame = frames[i]
    lips = position[INNER_LIPS]
    low = np.maximum(np.floor(lips.min(0)).astype(int) - MARGIN_PX, 0)
    high = np.ceil(lips.max(0)).astype(int) + MARGIN_PX
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    score = np.zeros(frame.shape[:2], np.float32)
    part = score[box]
    if not part.size:
        return None

    # Light and pale pixels inside the lips.
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [((lips - low) * 16).round().astype(np.int32)], (255,), cv2.LINE_AA, 4)
    lab = cv2.blur(_lab(frame[box]), (3, 3))
    light = 1 / (1 + np.exp((LIGHT - lab[..., 0] / max(skin[0], 1.0)) / LIGHT_SOFT))
    pale = 1 / (1 + np.exp((lab[..., 1] - skin[1] - RED) / RED_SOFT))
    part[:] = light * pale * (inside / 255)
    return score


def _averaged_mask(
    i: int, scores: dict[int, np.ndarray | None], points: np.ndarray, cuts: set[int]
) -> np.ndarray:
    """Mask uint8 [H, W] of frame i from its score and those of its neighbours, not across cuts."""
    own = scores[i]
    assert own is not None
    total, weight = own * 2, 2.0
    for j in (i - 1, i + 1):
        other = None if max(i, j) in cuts else scores.get(j)
        if other is not None:
            matrix = fit_similarity(points[j][RIGID], points[i][RIGID])
            total, weight = total + cv2.warpAffine(other, matrix, own.shape[::-1]), weight + 1
    return ((total > weight / 2) & (own > 0)).astype(np.uint8) * 255


def _lab(image: np.ndarray) -> np.ndarray:
    """Lab colours float32 [H, W, 3] in the 8-bit scale of an image uint8 [H, W, 3] RGB."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
