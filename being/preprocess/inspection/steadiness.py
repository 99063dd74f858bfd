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
# The thumbnails of a clip are compared in blocks with their median.
BLOCK = 12  # px of a thumbnail, side
BLOCK_SEEN = 0.75  # share of a block that must be background
STILL_SAMPLES = 48  # samples that give the median
LOCAL = 8.0  # px, deviation of the blur that takes shadows and local light out of a difference
# Levels, deviation in a block from which it shows another picture. Still blocks of the measured
# clips have up to 1.6 (95 % of them) and 3.0 (99.9 %); blocks with an edge that moves by 2 px, 5 to
# 35. The lower bound is enough where one motion of the camera explains the change.
CHANGED, SLIGHTLY = 4.0, 2.0
# Share of the seen blocks, beyond the person and in all. A fold of the curtain that moves behind
# one measured person reaches 0.035 beyond (95 % of the samples), arms and hair reach 0.14 in all.
FEW, MOST = 0.05, 0.2
# Of the face's width: how far hair reaches beside the box of the head, and arms beside the box of
# the shoulders.
HAIR_REACH, ARM_REACH = 0.35, 1.5
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


@dataclass(frozen=True)
class BackgroundChange:
    """Whether the background of one sample differs from the usual one."""

    counts: bool
    slight: bool  # it differs a little, or more
    mask: np.ndarray  # bool [h, w]: the background, without what hangs together with the person


def check_camera(
    samples: list[SampledFrame], still: MeanBackground, scale: float, times: np.ndarray
) -> Finding:
    """Whether the background stands still over the kept samples that have a thumbnail.

    Hair, shoulders and arms that move in front of it do not count.
    """
    median = median_background(samples, scale)
    changes = [background_change(sample, median, still.seen, scale) for sample in samples]
    changed = np.array([change.counts for change in changes])
    still_finding = Finding("camera", "ok", "the background stands still")
    if np.mean([change.slight for change in changes]) <= SELDOM:
        return still_finding

    # A moving camera shifts the whole background.
    middle = len(samples) // 2
    shifts = np.array(
        [
            background_shift(samples[middle], sample, changes[middle].mask & change.mask)
            for sample, change in zip(samples, changes, strict=True)
        ]
    )
    measured = np.isfinite(shifts)
    far = float(np.percentile(shifts[measured], 90)) if measured.mean() > OFTEN else 0.0
    if far > MOVING:
        return Finding(
            "camera",
            "warning",
            f"the camera moves, by up to {far:.1%} of the picture's width",
            (),
            "Put the camera on a tripod: a moving background is blurred behind the avatar",
        )
    if changed.mean() <= SELDOM:
        return still_finding
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


def median_background(samples: list[SampledFrame], scale: float) -> np.ndarray:
    """The median picture float32 [h, w] behind the person, in the light of the middle sample.

    0 where no background is seen. What passes in few samples leaves no trace in it.
    """
    picked = np.linspace(0, len(samples) - 1, min(STILL_SAMPLES, len(samples))).round().astype(int)
    middle = samples[picked[len(picked) // 2]]
    first, first_mask = _blurred(middle), background_mask(middle, scale)
    layers = []
    for i in picked:
        behind, picture = background_mask(samples[i], scale), _blurred(samples[i])
        gain = _gain(picture, first, behind & first_mask)
        layers.append(np.where(behind, picture * gain, np.nan).astype(np.float32))

    # NaN is sorted to the end.
    stack = np.sort(np.stack(layers), axis=0)
    count = np.isfinite(stack).sum(0)
    median = np.take_along_axis(stack, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    return np.where(count > 0, median, np.float32(0))


def background_change(
    sample: SampledFrame, median: np.ndarray, seen: np.ndarray, scale: float
) -> BackgroundChange:
    """What differs between the background of a sample and the median background.

    median: float32 [h, w]. seen: bool [h, w], where the background is often seen.
    """
    # The difference; brightness and soft shadows are taken out.
    behind = background_mask(sample, scale)
    mask = behind & seen
    picture = _blurred(sample)
    difference = np.where(mask, picture * _gain(picture, median, mask) - median, 0)
    light = _blur(difference, LOCAL) / np.maximum(_blur(mask, LOCAL), 1e-3)
    detail = np.where(mask, difference - light, 0)

    # Its deviation in each block.
    covered = _block_means(mask)
    known = covered > BLOCK_SEEN
    if not known.any() or mask.mean() < SEEN_MIN:
        return BackgroundChange(False, False, mask)
    deviation = np.where(known, np.sqrt(_block_means(detail**2) / np.maximum(covered, 1e-3)), 0)

    # Changed blocks, without those of the person.
    person = _block_means(~behind) > 1 - BLOCK_SEEN
    near = _block_means(person_reach(sample, scale)) > 0.5
    own = _blocks_of_person(deviation > CHANGED, person, near)
    own_slightly = _blocks_of_person(deviation > SLIGHTLY, person, near)
    few = FEW * known.sum()
    return BackgroundChange(
        bool(((deviation > CHANGED) & ~own).sum() > few),
        bool(((deviation > SLIGHTLY) & ~own_slightly).sum() > few),
        mask & ~_block_pixels(own, mask),
    )


def person_reach(sample: SampledFrame, scale: float) -> np.ndarray:
    """bool [h, w] of a thumbnail: where the hair and the arms of the person can be."""
    face = sample.points[:MESH_POINTS, :2] * scale
    low, high = face.min(0), face.max(0)
    width = high[0] - low[0]
    reach = np.zeros(_thumbnail(sample).shape, bool)
    for aside, top in ((0.3 + HAIR_REACH, low[1]), (1.5 + ARM_REACH, (low[1] + high[1]) / 2)):
        left, right = max(0, int(low[0] - aside * width)), max(0, int(high[0] + aside * width))
        reach[max(0, int(top)) :, left:right] = True
    return reach


def _blocks_of_person(changed: np.ndarray, person: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The changed blocks that are hair, shoulders and arms.

    They hang together with the person and lie within reach; none where most of the picture has
    changed. All are bool [rows, columns]: changed; person, behind whom nothing is seen; near,
    within reach.
    """
    if changed.sum() > MOST * (~person).sum():
        return np.zeros_like(changed)
    body = cv2.dilate(person.astype(np.uint8), np.ones((3, 3))) > 0
    _, parts = cv2.connectedComponents((changed | body).astype(np.uint8), connectivity=8)
    return changed & near & np.isin(parts, np.unique(parts[body]))


def background_shift(one: SampledFrame, other: SampledFrame, mask: np.ndarray) -> float:
    """Largest shift of the background between two samples, over the picture's width.

    mask: bool [h, w] of the thumbnails, the background in both. NaN where the shift cannot be
    measured, or where most of the background does not take part.
    """
    # Corners of the background in one light, followed there and back; those that return are kept.
    here, there = _thumbnail(one), _thumbnail(other)
    there = np.clip(there * _gain(there, here, mask), 0, 255).astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(here, 100, 0.05, 5, mask=mask.astype(np.uint8))
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

    # The motion of the camera that explains most of them, at the corners of the picture.
    motion, inside = cv2.estimateAffinePartial2D(
        corners[kept], ahead[kept], ransacReprojThreshold=1.0
    )
    if motion is None or inside.sum() < max(SHIFT_TRACKS, OFTEN * len(corners)):
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


def _blur(values: np.ndarray, deviation: float) -> np.ndarray:
    """`values` [h, w] blurred, float32."""
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), deviation)


def _block_means(values: np.ndarray) -> np.ndarray:
    """Means float [rows, columns] of whole blocks of `values` [h, w]."""
    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    whole = values[: rows * BLOCK, : columns * BLOCK]
    return whole.reshape(rows, BLOCK, columns, BLOCK).mean((1, 3))


def _block_pixels(blocks: np.ndarray, like: np.ndarray) -> np.ndarray:
    """bool [h, w] in the size of `like`: the pixels of `blocks` bool [rows, columns]."""
    pixels = np.zeros(like.shape, bool)
    large = blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)
    pixels[: large.shape[0], : large.shape[1]] = large
    return pixels
