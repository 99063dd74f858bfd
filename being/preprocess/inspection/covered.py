"""Whether something covers the mouth or the eyes: a microphone, a hand, dark glasses.

The landmark networks draw a mouth and eyes where they are hidden too, so the colours are judged, in
small pictures of the face (`face_patch`). Lips differ from the skin of cheeks and nose by 13 to 31
units of CIELAB in the eight measured faces, and are at least 0.74 times as red. A hand has the
colour of skin (3 units), a microphone is grey (0.01 times as red).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from being.face.topology import INNER_LIPS, OUTER_LIPS
from being.preprocess.inspection.face_patch import PATCH, patch_map
from being.preprocess.inspection.findings import OFTEN, Finding, TimeRanges
from being.preprocess.inspection.measurements import SampledFrame
from being.preprocess.inspection.sync import COVERED_FIX

COVERED_CHECK = "mouth and eyes"
# Rows and columns of the patch.
MOUTH = np.s_[42:62, 18:46]
EYES = (np.s_[12:26, 6:29], np.s_[12:26, 35:58])
SKIN = (np.s_[30:42, 10:20], np.s_[30:42, 44:54], np.s_[24:36, 28:36])
# Red (a of CIELAB) of lips over that of the skin, under which they are no lips; the least red of a
# skin with which that can be told (there is none in a grey picture).
LIPS_RED, SKIN_RED = 0.35, 5.0
# Correlation with the usual picture of the part, under which it may be covered. A hand gives 0.0;
# a mouth has 0.2 or more when it opens, so its colour counts too.
LIKE_USUAL = 0.4
# Change of the lips' colour against the skin over its usual size, from which they are covered: 0.32
# at most in the measured faces, 0.85 under a hand.
LIPS_CHANGE = 0.6
# The same for an eye, and the mean difference to the usual picture in CIELAB units from which it is
# covered: a blink has 0.56 and 10, the least correlation in the measured clips was 0.35.
EYE_LIKE_USUAL, EYE_CHANGE = 0.25, 8.0
# Dark glasses: pixels darker and greyer than these shares of the skin, and how many of them around
# the eyes: eyes and brows are 0.1 to 0.4.
DARK, GREY, DARK_SHARE = 0.45, 0.6, 0.65
EYES_FIX = (
    "Record again without dark glasses and with nothing before the eyes: gaze and blinks cannot be "
    "learnt"
)


@dataclass(frozen=True)
class Covered:
    """Samples in which something covers the mouth or the eyes."""

    # numbers of source frames
    mouth: frozenset[int] = frozenset()
    eyes: frozenset[int] = frozenset()
    # share of the samples with a face
    mouth_share: float = 0.0
    eyes_share: float = 0.0

    @property
    def to_cut(self) -> frozenset[int]:
        """The frames to cut away: of the parts that can be seen most of the time."""
        mouth = self.mouth if self.mouth_share <= OFTEN else frozenset()
        eyes = self.eyes if self.eyes_share <= OFTEN else frozenset()
        return mouth | eyes


@dataclass(frozen=True)
class _Look:
    """Colours of one face, CIELAB."""

    patch: np.ndarray  # float32 [64, 64, 3]
    skin: np.ndarray  # float32 [3]
    lips: np.ndarray  # float32 [3], less those of the skin


def find_covered(samples: list[SampledFrame]) -> Covered:
    """The samples in which mouth or eyes are covered."""
    faces = [sample for sample in samples if sample.patch is not None]
    if not faces:
        return Covered()
    looks = [_look(sample) for sample in faces]
    usual = np.median([look.patch for look in looks], 0)
    usual_lips = np.median([look.lips for look in looks], 0)
    mouth = frozenset(
        sample.number
        for sample, look in zip(faces, looks, strict=True)
        if _mouth_covered(look, usual, usual_lips)
    )
    eyes = frozenset(
        sample.number
        for sample, look in zip(faces, looks, strict=True)
        if _eyes_covered(look, usual)
    )
    return Covered(mouth, eyes, len(mouth) / len(faces), len(eyes) / len(faces))


def check_covered(covered: Covered, cut: TimeRanges) -> Finding:
    """The finding "mouth and eyes". cut: the time ranges that are cut away, s."""
    always = [
        (
            f"something covers the mouth in {covered.mouth_share:.0%} of the inspected frames",
            COVERED_FIX,
            covered.mouth_share,
        ),
        (
            f"dark glasses or something else cover the eyes in {covered.eyes_share:.0%} of the "
            "inspected frames",
            EYES_FIX,
            covered.eyes_share,
        ),
    ]
    found = [(what, fix) for what, fix, share in always if share > OFTEN]
    if cut:
        parts = " and ".join(
            name
            for name, numbers in (("mouth", covered.mouth), ("eyes", covered.eyes))
            if numbers & covered.to_cut
        )
        seconds = sum(stop - start for start, stop in cut)
        what = f"a hand or something else covers the {parts} for {seconds:.1f} s"
        found.append((what, "these parts are cut away"))
    if not found:
        return Finding(COVERED_CHECK, "ok", "nothing covers the mouth or the eyes")
    whats, fixes = zip(*found, strict=True)
    return Finding(COVERED_CHECK, "warning", "; ".join(whats), cut, ". ".join(fixes))


def _look(sample: SampledFrame) -> _Look:
    assert sample.patch is not None, sample.number
    patch = cv2.cvtColor(sample.patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    skin = np.median(np.concatenate([patch[zone].reshape(-1, 3) for zone in SKIN]), 0)

    # The lips lie between their outer and inner edge.
    matrix = patch_map(sample.points)
    points = sample.points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    lips = np.zeros((PATCH, PATCH), np.uint8)
    for edge, value in ((OUTER_LIPS, 1), (INNER_LIPS, 0)):
        cv2.fillPoly(lips, [points[edge].round().astype(np.int32)], value)
    colour = np.median(patch[lips > 0], 0) if lips.any() else skin
    return _Look(patch, skin, colour - skin)


def _mouth_covered(look: _Look, usual: np.ndarray, usual_lips: np.ndarray) -> bool:
    # By something of another colour, all the time or not.
    red = look.skin[1]
    if red > SKIN_RED and red + look.lips[1] < LIPS_RED * red:
        return True

    # By something like skin, unlike the usual mouth.
    change = np.linalg.norm(look.lips - usual_lips)
    unlike = _correlation(look.patch[MOUTH], usual[MOUTH]) < LIKE_USUAL
    return bool(unlike and change > LIPS_CHANGE * np.linalg.norm(usual_lips))


def _eyes_covered(look: _Look, usual: np.ndarray) -> bool:
    # By dark glasses.
    around = np.concatenate([look.patch[zone].reshape(-1, 3) for zone in EYES])
    chroma, skin_chroma = np.hypot(*around[:, 1:].T), np.hypot(*look.skin[1:])
    dark = (around[:, 0] < DARK * look.skin[0]) & (chroma < GREY * skin_chroma)
    if dark.mean() > DARK_SHARE:
        return True

    # Either eye by something else.
    return any(
        _correlation(look.patch[zone], usual[zone]) < EYE_LIKE_USUAL
        and np.linalg.norm(look.patch[zone] - usual[zone], axis=-1).mean() > EYE_CHANGE
        for zone in EYES
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of the lightness of two pictures [h, w, 3] CIELAB."""
    a, b = (picture[..., 0] - picture[..., 0].mean() for picture in (one, other))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-6))
