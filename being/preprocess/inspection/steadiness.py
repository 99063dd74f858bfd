"""Checks whether camera, light and sharpness of a clip stay the same."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.preprocess.inspection.crop import MESH_POINTS
from being.preprocess.inspection.findings import OFTEN, SELDOM, Finding, TimeRanges
from being.preprocess.inspection.measurements import SampledFrame

SEEN_MIN = 0.02  # share of the picture in which two backgrounds must both be seen to be compared
SEEN_IN = 0.3  # share of a stretch's samples in which a pixel must be background
# Levels, 95th percentile: the same framings of the measured clips differ by up to 3.2, other
# framings by 5.2 or more.
DIFFERENCE_MAX = 4.2
FACE_STEP = 0.08  # step of the face's size (natural logarithm) that is another framing
SHIFT_TRACKS = 12  # corners that must be followed to measure a shift of the camera
# Of the width: a shift of the background that is a moving camera (0.8 px of 256, 1.5 px of 512).
MOVING = 0.003
LIGHT_RANGE = 0.12  # range of the brightness
COLOUR_RANGE = 0.12  # range of the face's red over blue; turns of the head give up to 0.07
# Levels, deviation of the light from frame to frame: 0.06 to 0.09 in the measured clips.
FLICKER = 0.7
BLURRED = 0.5  # sharpness of a face blurred by 2.3 px at 512; sharp faces have 0.9 to 2
BLURRED_MOMENT = 0.55  # of the clip's own sharpness


@dataclass(frozen=True)
class MeanBackground:
    """The mean picture behind the person over some samples."""

    mean: np.ndarray  # float32 [h, w], levels
    seen: np.ndarray  # bool [h, w]
    face: float  # median size of the face, px of the source picture


def check_camera(
    samples: list[SampledFrame], still: MeanBackground, scale: float, times: np.ndarray
) -> Finding:
    """Whether the background stands still over the kept samples that have a thumbnail."""
    middle = samples[len(samples) // 2]
    shifts = np.array([background_shift(middle, sample, scale) for sample in samples])
    changed = np.array([background_changed(sample, still, scale) for sample in samples])
    measured = np.isfinite(shifts)
    far = float(np.percentile(shifts[measured], 90)) if measured.mean() > OFTEN else 0.0
    if changed.mean() <= SELDOM:
        return Finding("camera", "ok", "the background stands still")
    if far > MOVING:
        return Finding(
            "camera",
            "warning",
            f"the camera moves, by up to {far:.1%} of the picture's width",
            (),
            "Put the camera on a tripod: a moving background is blurred behind the avatar",
        )
    return Finding(
        "camera",
        "warning",
        f"the background changes in {changed.mean():.0%} of the inspected frames",
        _moments([s for s, now in zip(samples, changed, strict=True) if now], times),
        "Record in front of a still background: what moves there is blurred behind the avatar",
    )


def check_light(
    samples: list[SampledFrame],
    still: MeanBackground,
    scale: float,
    light_change: np.ndarray,
    times: np.ndarray,
) -> Finding:
    """Whether brightness and colour stay the same over the kept samples, without flicker.

    light_change: float32 [n] of the kept frames, levels.
    """
    # Brightness of the background, or of the face where too little background is seen.
    brightness = background_brightness(samples, still, scale)
    skin = np.stack([sample.skin for sample in samples])
    warmth = skin[:, 0] / np.maximum(skin[:, 2], 1.0)
    if np.isfinite(brightness).mean() < OFTEN:
        brightness = skin.mean(1) / skin.mean()
    light_range = _spread(brightness[np.isfinite(brightness)])
    colour_range = _spread(warmth / np.median(warmth))
    flicker = float(np.nanstd(light_change)) if np.isfinite(light_change).any() else 0.0

    if flicker > FLICKER:
        return Finding(
            "light",
            "warning",
            f"the light flickers, by {flicker:.1f} levels from frame to frame",
            (),
            "Use daylight or lamps that do not flicker, or a shutter of 1/50 or 1/60 s",
        )
    if light_range > LIGHT_RANGE or colour_range > COLOUR_RANGE:
        what = f"the colours change by {colour_range:.0%}"
        if light_range > LIGHT_RANGE:
            what = f"the light changes by {light_range:.0%}"
        extremes = [samples[int(np.nanargmin(brightness))], samples[int(np.nanargmax(brightness))]]
        return Finding(
            "light",
            "warning",
            what,
            _moments(extremes, times),
            "Lock exposure and white balance, and keep out moving light",
        )
    return Finding(
        "light",
        "ok",
        f"light within {light_range:.0%}, colours within {colour_range:.0%}, "
        f"flicker {flicker:.2f} levels",
    )


def check_sharpness(samples: list[SampledFrame], times: np.ndarray) -> Finding:
    """Whether the face is blurred: out of focus throughout, or at moments."""
    sharpness = np.array([sample.sharpness for sample in samples])
    usual = float(np.nanmedian(sharpness)) if np.isfinite(sharpness).any() else 0.0
    if usual < BLURRED:
        return Finding(
            "sharpness",
            "warning",
            f"the face is blurred (sharpness {usual:.2f}, sharp faces have 0.9 or more)",
            (),
            "Focus on the face, use more light and a higher bit rate",
        )
    blurred = [sample for sample in samples if sample.sharpness < BLURRED_MOMENT * usual]
    if len(blurred) > SELDOM * len(samples):
        return Finding(
            "sharpness",
            "warning",
            f"the face is blurred in {len(blurred) / len(samples):.0%} of the inspected frames",
            _moments(blurred, times),
            "More light and a shorter shutter keep motion sharp",
        )
    return Finding("sharpness", "ok", f"sharpness of the face {usual:.2f}")


def mean_background(samples: list[SampledFrame], scale: float) -> MeanBackground:
    """The mean background of samples with a face and a thumbnail, in the light of the first.

    scale: px of a thumbnail over px of the source picture.
    """
    first, first_mask = _blurred(samples[0]), background_mask(samples[0], scale)
    total, times = np.zeros_like(first), np.zeros_like(first)
    for sample in samples:
        behind, picture = background_mask(sample, scale), _blurred(sample)
        total += np.where(behind, picture * _gain(picture, first, behind & first_mask), 0)
        times += behind
    sizes = [np.ptp(sample.points[:MESH_POINTS, :2], axis=0).max() for sample in samples]
    return MeanBackground(
        total / np.maximum(times, 1),
        times >= max(1.0, SEEN_IN * len(samples)),
        float(np.median(sizes)),
    )


def background_mask(sample: SampledFrame, scale: float) -> np.ndarray:
    """bool [h, w] of a thumbnail: outside generous boxes around the head and the shoulders."""
    face = sample.points[:MESH_POINTS, :2] * scale
    low, high = face.min(0), face.max(0)
    width, height = high - low
    behind = np.ones(_thumbnail(sample).shape, bool)

    # The head, with hair.
    left, right = max(0, int(low[0] - 0.3 * width)), max(0, int(high[0] + 0.3 * width))
    behind[max(0, int(low[1] - 0.75 * height)) :, left:right] = False

    # The shoulders.
    left, right = max(0, int(low[0] - 1.5 * width)), max(0, int(high[0] + 1.5 * width))
    behind[max(0, int(high[1] - 0.25 * height)) :, left:right] = False
    return behind


def background_difference(one: MeanBackground, other: MeanBackground) -> float:
    """95th percentile of the difference of two backgrounds in levels, with the light matched.

    NaN where too little of both is seen.
    """
    both = one.seen & other.seen
    if both.mean() < SEEN_MIN:
        return float("nan")
    difference = (one.mean - other.mean * _gain(other.mean, one.mean, both))[both]
    return float(np.percentile(np.abs(difference - np.median(difference)), 95))


def same_framing(one: MeanBackground, other: MeanBackground) -> bool:
    """Whether two stretches have one framing: the same background, a face of the same size."""
    same_size = abs(np.log(one.face / other.face)) < FACE_STEP
    return bool(same_size and not background_difference(one, other) > DIFFERENCE_MAX)


def background_changed(sample: SampledFrame, still: MeanBackground, scale: float) -> bool:
    """Whether the background of a sample differs from the mean background of its stretch."""
    own = MeanBackground(_blurred(sample), background_mask(sample, scale), still.face)
    return background_difference(own, still) > DIFFERENCE_MAX


def background_shift(one: SampledFrame, other: SampledFrame, scale: float) -> float:
    """Largest shift of the background between two samples, over the picture's width.

    NaN where it cannot be measured.
    """
    # Corners of the background, followed there and back; the ones that return are kept.
    mask = (background_mask(one, scale) & background_mask(other, scale)).astype(np.uint8)
    here, there = _thumbnail(one), _thumbnail(other)
    corners = cv2.goodFeaturesToTrack(here, 100, 0.05, 5, mask=mask)
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

    # The motion of the camera that explains them, at the corners of the picture.
    motion, inside = cv2.estimateAffinePartial2D(
        corners[kept], ahead[kept], ransacReprojThreshold=1.0
    )
    if motion is None or inside.sum() < SHIFT_TRACKS:
        return float("nan")
    height, width = here.shape
    edges = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    return float(np.linalg.norm(edges @ motion.T - edges[:, :2], axis=1).max()) / width


def background_brightness(
    samples: list[SampledFrame], still: MeanBackground, scale: float
) -> np.ndarray:
    """Brightness float64 [n] of each sample's background over the mean of its stretch.

    NaN where too little is seen.
    """
    brightness = []
    for sample in samples:
        both = background_mask(sample, scale) & still.seen
        usual = float(still.mean[both].mean()) if both.mean() > SEEN_MIN else 0.0
        own = float(_thumbnail(sample)[both].mean()) / usual if usual > 1 else float("nan")
        brightness.append(own)
    return np.array(brightness)


def _moments(samples: list[SampledFrame], times: np.ndarray) -> TimeRanges:
    moments = [float(times[sample.number]) for sample in samples]
    return tuple((moment, moment) for moment in moments)


def _spread(values: np.ndarray) -> float:
    """97th less 3rd percentile; 0 without values."""
    return float(np.subtract(*np.percentile(values, [97, 3]))) if len(values) else 0.0


def _gain(picture: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Brightness of `other` over that of `picture` in the pixels `where` bool [h, w]."""
    if not where.any():
        return 1.0
    return float(np.clip((np.median(other[where]) + 1) / (np.median(picture[where]) + 1), 0.5, 2.0))


def _thumbnail(sample: SampledFrame) -> np.ndarray:
    assert sample.thumbnail is not None, sample.number
    return sample.thumbnail


def _blurred(sample: SampledFrame) -> np.ndarray:
    return cv2.GaussianBlur(_thumbnail(sample), (0, 0), 1.0).astype(np.float32)
