"""How steady a clip is: one framing, a camera that stands still, light that stays, a sharp face."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.preprocess.inspection.crop import MESH_POINTS
from being.preprocess.inspection.scan import View

SEEN_MIN = 0.02  # share of the picture in which two backgrounds must both be seen to be compared
SEEN_IN = 0.3  # share of a stretch's views in which a pixel must be background
# levels, 95th percentile: same framings of the shared clips differ by up to 3.2, others by 5.2 or
# more
OFF_PLATE = 4.2
FACE_STEP = 0.08  # step of the face's size (natural logarithm) that is another framing
SHIFT_TRACKS = 12  # corners that must be followed to tell a shift of the camera


@dataclass(frozen=True)
class Backdrop:
    """Mean picture behind the person over some views."""

    mean: np.ndarray  # float32 [h, w], levels
    seen: np.ndarray  # bool [h, w]
    face: float  # median size of the face, px of the source picture


def backdrop(views: list[View], scale: float) -> Backdrop:
    """What is behind the person in `views` (samples with a face), in the light of the first.

    scale: px of a small picture over source px.
    """
    first, lit = _soft(views[0]), behind_person(views[0], scale)
    total, times = np.zeros_like(first), np.zeros_like(first)
    for view in views:
        behind, picture = behind_person(view, scale), _soft(view)
        total += np.where(behind, picture * _gain(picture, first, behind & lit), 0)
        times += behind
    sizes = [np.ptp(view.points[:MESH_POINTS, :2], axis=0).max() for view in views]
    return Backdrop(
        total / np.maximum(times, 1),
        times >= max(1.0, SEEN_IN * len(views)),
        float(np.median(sizes)),
    )


def behind_person(view: View, scale: float) -> np.ndarray:
    """bool [h, w] of a small picture: outside of generous boxes round head and shoulders."""
    face = view.points[:MESH_POINTS, :2] * scale
    low, high = face.min(0), face.max(0)
    width, height = high - low
    behind = np.ones(_small(view).shape, bool)
    left, right = max(0, int(low[0] - 0.3 * width)), max(0, int(high[0] + 0.3 * width))
    behind[max(0, int(low[1] - 0.75 * height)) :, left:right] = False
    left, right = max(0, int(low[0] - 1.5 * width)), max(0, int(high[0] + 1.5 * width))
    behind[max(0, int(high[1] - 0.25 * height)) :, left:right] = False
    return behind


def off_by(one: Backdrop, other: Backdrop) -> float:
    """95th percentile of the difference of two backgrounds in levels, light taken out; NaN where
    neither is seen.
    """
    both = one.seen & other.seen
    if both.mean() < SEEN_MIN:
        return float("nan")
    difference = (one.mean - other.mean * _gain(other.mean, one.mean, both))[both]
    return float(np.percentile(np.abs(difference - np.median(difference)), 95))


def same_frame(one: Backdrop, other: Backdrop) -> bool:
    """Whether two stretches have one framing: the same background, and a face of the same size."""
    off = off_by(one, other)
    return abs(np.log(one.face / other.face)) < FACE_STEP and not off > OFF_PLATE


def moved(view: View, still: Backdrop, scale: float) -> bool:
    """Whether the background of a view is not that of its stretch."""
    off = off_by(Backdrop(_soft(view), behind_person(view, scale), still.face), still)
    return off > OFF_PLATE


def shift_between(one: View, other: View, scale: float) -> float:
    """How far the background moves at most between two views, over the picture's width; NaN where
    none can be told.
    """
    behind = (behind_person(one, scale) & behind_person(other, scale)).astype(np.uint8)
    here, there = _small(one), _small(other)
    corners = cv2.goodFeaturesToTrack(here, 100, 0.05, 5, mask=behind)
    if corners is None or len(corners) < SHIFT_TRACKS:
        return float("nan")
    ahead, _, _ = cv2.calcOpticalFlowPyrLK(
        here, there, corners, corners.copy(), winSize=(15, 15), maxLevel=3
    )
    back, _, _ = cv2.calcOpticalFlowPyrLK(
        there, here, ahead, ahead.copy(), winSize=(15, 15), maxLevel=3
    )
    kept = np.linalg.norm(back - corners, axis=2).ravel() < 0.5
    if kept.sum() < SHIFT_TRACKS:
        return float("nan")
    turn, inside = cv2.estimateAffinePartial2D(
        corners[kept], ahead[kept], ransacReprojThreshold=1.0
    )
    if turn is None or inside.sum() < SHIFT_TRACKS:
        return float("nan")
    height, width = here.shape
    edges = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    return float(np.linalg.norm(edges @ turn.T - edges[:, :2], axis=1).max()) / width


def backdrop_light(views: list[View], still: Backdrop, scale: float) -> np.ndarray:
    """Light float64 [n] on the background of each view over its stretch's mean; NaN where too
    little is seen.
    """
    light = []
    for view in views:
        both = behind_person(view, scale) & still.seen
        lit = float(still.mean[both].mean()) if both.mean() > SEEN_MIN else 0.0
        light.append(float(_small(view)[both].mean()) / lit if lit > 1 else float("nan"))
    return np.array(light)


def _gain(picture: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Light of `other` over that of `picture` in the pixels `where` bool [h, w]."""
    if not where.any():
        return 1.0
    return float(np.clip((np.median(other[where]) + 1) / (np.median(picture[where]) + 1), 0.5, 2.0))


def _small(view: View) -> np.ndarray:
    assert view.small is not None, view.frame
    return view.small


def _soft(view: View) -> np.ndarray:
    return cv2.GaussianBlur(_small(view), (0, 0), 1.0).astype(np.float32)
