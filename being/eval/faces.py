"""Faces of pictures, followed from frame to frame: landmarks in px at 512, and lengths read from
them.

Frames are followed (each frame's face region comes from the frame before) rather than looked for
afresh, and pictures under 512 px are enlarged first. Against following the 512 px original, on 252
frames of a real clip at 256 px: followed and enlarged correlation of the lip aperture 0.9996,
followed 0.9989, looked for afresh 0.9934; on a second clip 0.9991, 0.9986, 0.9864. Renders and true
frames are followed apart: a region taken from the true landmarks would move with the true jaw.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from being.face.landmarks import CHUNK, FaceLandmarker, Landmarks
from being.face.topology import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, IBUG_68, RIGID

SIDE = 512  # px: the shorter side of a picture as the landmarks are given
# frames handed to the landmarker at once; it starts afresh after as many, so blocks change nothing
BLOCK = CHUNK
MOUTH_CORNERS = (61, 291)
LIP_POINTS = IBUG_68[48:]  # the 20 lip points of the 68, those that the published LMD is taken of


class FaceReader:
    """Follows the face of picture sequences; raises EnvironmentFault when the landmark networks
    cannot be had.
    """

    def __init__(self) -> None:
        self._landmarkers = [FaceLandmarker(workers=1)]

    def read(self, *sequences: np.ndarray) -> list[Landmarks]:
        """Landmarks of each sequence uint8 [F, H, W, 3] RGB of successive frames, in px of a
        picture whose shorter side is 512. Sequences are read side by side."""
        for pictures in sequences:
            assert pictures.ndim == 4 and pictures.dtype == np.uint8, (
                pictures.shape,
                pictures.dtype,
            )
        while len(self._landmarkers) < len(sequences):
            self._landmarkers.append(self._landmarkers[0].twin())
        with ThreadPoolExecutor(len(sequences)) as pool:
            return list(pool.map(_follow, self._landmarkers, sequences))


def _follow(landmarker: FaceLandmarker, pictures: np.ndarray) -> Landmarks:
    found = landmarker.track(_Enlarged(pictures))  # type: ignore[arg-type]
    short = min(pictures.shape[1:3])
    scale = SIDE / short if short > SIDE else 1.0
    return Landmarks(found.points * np.float32(scale), found.blendshapes, found.confidence)


class _Enlarged:
    """A sequence of pictures, enlarged one by one when asked for."""

    def __init__(self, pictures: np.ndarray):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> np.ndarray:
        picture = self.pictures[i]
        if min(picture.shape[:2]) >= SIDE:
            return picture
        factor = SIDE / min(picture.shape[:2])
        side = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
        return np.asarray(Image.fromarray(picture).resize(side, Image.Resampling.BICUBIC))


def joined(parts: list[Landmarks]) -> Landmarks:
    """Landmarks of sequences one after the other."""
    return Landmarks(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("points", "blendshapes", "confidence")
        )
    )


def lip_width(points: np.ndarray) -> np.ndarray:
    """Lip width float32 [F]: distance of the mouth's corners over the outer-eye distance; NaN where
    there is no face.

    points: float [F, 478, 2 or 3] px.
    """

    def apart(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=-1)

    return (
        apart(*MOUTH_CORNERS) / np.maximum(apart(EYE_OUTER_RIGHT, EYE_OUTER_LEFT), 1e-6)
    ).astype(np.float32)


def landmark_distance(true: np.ndarray, made: np.ndarray) -> np.ndarray:
    """LMD float64 [F], px: mean distance of the 20 lip landmarks after each picture's own mean is
    taken away, so that a shifted mouth of the right shape has none (Chen et al. 2018, ECCV;
    translation removed as the family does).

    true, made: float [F, 478, 2 or 3] px of the same size; NaN where either face is missing.
    """
    one, other = (points[:, LIP_POINTS, :2].astype(np.float64) for points in (true, made))
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    return np.linalg.norm(one - other, axis=-1).mean(1)


def jitter(points: np.ndarray, segment: np.ndarray | None = None) -> np.ndarray:
    """How far the rigid landmarks leave the straight line through their neighbours in time, float64
    [F] px: the mean length of their second difference; NaN at the ends, beside missed faces and
    across breaks.

    points: float [F, 478, 2 or 3] px; segment: int [F], which of the clip's segments a frame lies
    in.
    """
    rigid, found = points[:, RIGID, :2].astype(np.float64), np.full(len(points), np.nan)
    if len(points) >= 3:
        found[1:-1] = np.linalg.norm(rigid[2:] - 2 * rigid[1:-1] + rigid[:-2], axis=-1).mean(1)
        if segment is not None:
            found[1:-1][segment[2:] != segment[:-2]] = np.nan
    return found
