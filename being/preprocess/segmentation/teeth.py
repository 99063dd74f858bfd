"""Teeth inside the lips for every frame: light and no redder than the person's skin, steady in
time.

TalkingGaussian and InsTaG take theirs from EasyPortrait (`teeth_mask/%d.npy`, bool [H, W]); a
folder of those beside the video is used instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from being.errors import InputRejected
from being.face.topology import INNER_LIPS, LIP_LOWER, LIP_UPPER, RIGID
from being.preprocess.segmentation.jawline import Face, similarity

OPEN = 0.008  # of the face height: lips nearer than this show no teeth
LEARN_FRAMES = 24
# Against the skin, in Lab of 8 bits: half-way values of two soft steps, and their widths.
LIGHT, LIGHT_SOFT = 0.6, 0.06  # of the skin's lightness
RED, RED_SOFT = -2.0, 3.0  # redness over the skin's
MARGIN_PX = 8  # round the lips


def teeth_masks(
    frames: Sequence[np.ndarray],
    points: np.ndarray,
    segments: Sequence[Sequence[int]] | None = None,
) -> Iterator[np.ndarray]:
    """Masks uint8 [H, W], 255 on teeth, of all frames in order; empty where the lips are closed or
    no face is.

    frames: uint8 [H, W, 3] RGB each; points: float32 [F, 478, 2 or 3] px, NaN where no face;
    segments: (start, stop) without a cut in between (the whole clip by default). Scores of the
    frames before and after, laid on the frame by the rigid landmarks (teeth do not move in the
    head), count half as much as its own.
    """
    points = points[..., :2]
    faces = np.isfinite(points).all((1, 2))
    if not faces.any():
        yield from (np.zeros(frames[i].shape[:2], np.uint8) for i in range(len(frames)))
        return
    skin = _skin(frames, points, np.flatnonzero(faces))
    edges = {edge for segment in segments or [(0, len(frames))] for edge in segment}
    size = frames[0].shape[:2]
    scores: dict[int, np.ndarray | None] = {}
    for i in range(len(points)):
        for j in (i, i + 1):
            if j < len(points) and j not in scores:
                scores[j] = _score(frames, points[j], skin, j) if faces[j] else None
        yield (
            _steady(i, scores, points, edges) if scores[i] is not None else np.zeros(size, np.uint8)
        )
        scores.pop(i - 1, None)


def read_teeth(folder: Path, i: int, height: int, width: int) -> np.ndarray:
    """Mask uint8 [H, W], 255 on teeth, from `i`.npy (bool [H, W]) of an EasyPortrait folder. Raises
    InputRejected.
    """
    path = folder / f"{i}.npy"
    try:
        mask = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputRejected(
            f"{path} cannot be read", str(error), "Remove the folder, or make it again"
        ) from error
    if mask.shape != (height, width) or mask.dtype.kind not in "bu":
        raise InputRejected(
            f"{path} does not fit the frames",
            f"it is {mask.dtype} {list(mask.shape)}, not bool [{height}, {width}]",
            "Remove the folder, or make its masks from these frames",
        )
    return (mask > 0).astype(np.uint8) * 255


def _skin(frames: Sequence[np.ndarray], points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Median Lab colour float [3] of the cheeks over the clip."""
    seen = []
    for i in found[np.unique(np.linspace(0, len(found) - 1, LEARN_FRAMES).round().astype(int))]:
        face, (height, width) = Face.of(points[i]), frames[int(i)].shape[:2]
        across, down = face.coordinates(height, width)
        cheeks = (
            face.oval(height, width)
            & (np.abs(down) < 0.15 * face.height)
            & (np.abs(across) > 0.15 * face.width)
        )
        seen.append(_lab(frames[int(i)][cheeks & (np.abs(across) < 0.35 * face.width)][None])[0])
    return np.median(np.concatenate(seen), 0)


def _score(
    frames: Sequence[np.ndarray], at: np.ndarray, skin: np.ndarray, i: int
) -> np.ndarray | None:
    """How much each pixel is a tooth, float32 [H, W] in [0, 1]; None where the lips are closed."""
    if np.hypot(*(at[LIP_UPPER] - at[LIP_LOWER])) < OPEN * Face.of(at).height:
        return None
    frame = frames[i]
    lips = at[INNER_LIPS]
    low = np.maximum(np.floor(lips.min(0)).astype(int) - MARGIN_PX, 0)
    high = np.ceil(lips.max(0)).astype(int) + MARGIN_PX
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    score = np.zeros(frame.shape[:2], np.float32)
    part = score[box]
    if not part.size:
        return None
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [((lips - low) * 16).round().astype(np.int32)], (255,), cv2.LINE_AA, 4)
    lab = cv2.blur(_lab(frame[box]), (3, 3))
    light = 1 / (1 + np.exp((LIGHT - lab[..., 0] / max(skin[0], 1.0)) / LIGHT_SOFT))
    pale = 1 / (1 + np.exp((lab[..., 1] - skin[1] - RED) / RED_SOFT))
    part[:] = light * pale * (inside / 255)
    return score


def _steady(
    i: int, scores: dict[int, np.ndarray | None], points: np.ndarray, edges: set[int]
) -> np.ndarray:
    own = scores[i]
    assert own is not None
    total, weight = own * 2, 2.0
    for j in (i - 1, i + 1):
        other = None if max(i, j) in edges else scores.get(j)
        if other is not None:
            matrix = similarity(points[j][RIGID], points[i][RIGID])
            total, weight = total + cv2.warpAffine(other, matrix, own.shape[::-1]), weight + 1
    return ((total > weight / 2) & (own > 0)).astype(np.uint8) * 255


def _lab(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
