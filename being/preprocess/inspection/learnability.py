"""Is there enough in a clip to learn a talking head from, and if not, what the avatar will lack and
what to record.

Figures behind the bounds: 40 s of speech with 11 of 12 sound classes (address 50 s) trained to a
lip correlation of 0.85 with the truth on unheard speech, 20 s with 10 classes (news 21 s) to 0.62
(docs/measurements.md). `python scripts/measure/speech.py VIDEO` prints the findings of sound and
speech of a clip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from being.audio.phonemes import CLASSES, Heard
from being.conventions import FPS
from being.face.landmarks import MESH_POINTS, lip_aperture
from being.face.topology import EYE_LEFT, EYE_RIGHT, RIGID
from being.preprocess.inspection.face_samples import Look
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.sync import RUN_GAP

OFTEN = 5  # times a sound class must be heard
CLASSES_ENOUGH = 9  # of 12, heard often
SPEECH_SOME, SPEECH_ENOUGH = (
    10.0,
    30.0,
)  # s: under the first lips cannot be learnt, from the second they can
CLASS_NAMES = ("p/b/m", "f/v", "t/d/n/l", "s/z", "sh/ch", "k/g/h", "r", "w/u", "o", "a", "e", "i/j")
WORDS = 5  # sounds in a row
# Sounds in a row that come again, within 250 sounds: at most 0.25 in nine recordings of varied
# speech in five languages and a voice reading different sentences, 0.62 to 1 when a phrase of
# theirs is repeated (each time at another pace and loudness, with noise) or a voice says one
# sentence again and again.
REPEATED = 0.45
REPEATED_WITHIN = 250
OPEN, CLOSED = 0.05, 0.015  # lip aperture over the distance of the outer eye corners
OPEN_LEAST, CLOSED_LEAST = 0.1, 0.02  # share of the frames
WIDE_LEAST = 0.06  # lip aperture that the widest hundredth of frames must reach
TURN_LEAST, TURN_MOST = 8.0, 70.0  # degrees between the outermost tenths of yaw
EYE_CLOSED = 0.5  # of the usual height of the open eye
BLINKS_LEAST = 3  # in the clip, as many as the part that was watched lets expect
READ_ALOUD = "reading aloud, any newspaper page will do"


def forecast(
    heard: Heard, look: Look, frames: int, segments: Sequence[tuple[int, int]]
) -> tuple[Finding, ...]:
    """The findings "speech", "mouth", "head turns", "blinks", and "forecast": what the avatar will
    lack.

    heard: of the sound that goes with the dataset, sample 0 at frame 0; look: at the same clip;
    frames: of the dataset; segments: (start, stop) in frames, the parts used. No finding is a
    rejection: a poor clip makes a poor avatar.
    """
    parts = [(start / FPS, stop / FPS) for start, stop in segments] or [(0.0, frames / FPS)]
    found = (
        _speech(heard, parts),
        _mouth(look),
        _turns(look),
        _blinks(look, sum(stop - start for start, stop in parts)),
    )
    lacks = [lack for _, lack in found if lack]
    if not lacks:
        said = "nothing is seen that the avatar will lack, but what was never recorded: other light, other expressions"
        return (*(finding for finding, _ in found), Finding("forecast", "ok", said))
    said = "the avatar will lack: " + "; ".join(lacks)
    fixes = " ".join(dict.fromkeys(finding.fix + "." for finding, lack in found if lack))
    return (
        *(finding for finding, _ in found),
        Finding("forecast", "warning", said, (), fixes.rstrip(".")),
    )


def repeated_share(kinds: np.ndarray) -> float:
    """Share 0..1 of runs of five sounds that come again within 250 sounds. kinds: int [n], classes
    in order.
    """
    shares = []
    for part in np.array_split(kinds, max(1, round(len(kinds) / REPEATED_WITHIN))):
        runs = Counter(zip(*(part[k:].tolist() for k in range(WORDS)), strict=False))
        shares.append(sum(n for n in runs.values() if n > 1) / max(1, sum(runs.values())))
    return float(np.mean(shares))


def _speech(heard: Heard, parts: list[tuple[float, float]]) -> tuple[Finding, str]:
    seconds = sum(
        max(0.0, min(stop, b) - max(start, a)) for start, stop in heard.speech for a, b in parts
    )
    used = np.zeros(len(heard.times), bool)
    for a, b in parts:
        used |= (heard.times >= a) & (heard.times < b)
    kinds = heard.kinds[used]
    counts = np.bincount(kinds, minlength=len(CLASSES))
    rare = [
        f"{CLASS_NAMES[k]} {counts[k]} times"
        for k in np.argsort(counts, kind="stable")
        if counts[k] < OFTEN
    ]
    said = (
        f"{seconds:.0f} s of speech, {len(CLASSES) - len(rare)} of {len(CLASSES)} sound classes heard at least "
        f"{OFTEN} times" + (": " + ", ".join(rare) if rare else "")
    )
    share = repeated_share(kinds)
    if share > REPEATED and len(kinds) >= 2 * WORDS:
        said += f"; it is the same words again and again ({share:.0%} of the sounds come in a row heard before)"
        return (
            Finding(
                "speech", "warning", said, (), f"Record a minute of varied speech: {READ_ALOUD}"
            ),
            "lips for anything but these few words: one phrase cannot teach them",
        )
    if seconds < SPEECH_SOME:
        return (
            Finding("speech", "warning", said, (), f"Record a minute or more of {READ_ALOUD}"),
            f"lips that follow speech: {seconds:.0f} s cannot teach them",
        )
    if seconds < SPEECH_ENOUGH:
        return (
            Finding(
                "speech",
                "warning",
                said,
                (),
                f"Record a further half minute to a minute of {READ_ALOUD}",
            ),
            f"sure lips: after {seconds:.0f} s of speech they move in time, but with wrong shapes now and then",
        )
    if len(CLASSES) - len(rare) < CLASSES_ENOUGH:
        return (
            Finding("speech", "warning", said, (), f"Record a further minute of {READ_ALOUD}"),
            "the mouth shapes of "
            + ", ".join(CLASS_NAMES[k] for k in np.flatnonzero(counts < OFTEN)),
        )
    return Finding("speech", "ok", said), ""


def _mouth(look: Look) -> tuple[Finding, str]:
    aperture = lip_aperture(look.points[look.found])
    if not len(aperture):
        return Finding("mouth", "warning", "no face was seen", (), "Show the face"), "a mouth"
    opened, closed, wide = (
        np.mean(aperture > OPEN),
        np.mean(aperture < CLOSED),
        np.percentile(aperture, 99),
    )
    said = f"open in {opened:.0%} and closed in {closed:.0%} of {len(aperture)} frames looked at"
    if wide < WIDE_LEAST or opened < OPEN_LEAST:
        return (
            Finding(
                "mouth",
                "warning",
                f"{said}; it hardly opens",
                (),
                "Speak up and open the mouth well for some sentences",
            ),
            "teeth and the inside of the mouth, which are hardly seen",
        )
    if closed < CLOSED_LEAST:
        return (
            Finding(
                "mouth",
                "warning",
                f"{said}; the lips hardly close",
                (),
                "Pause now and then with closed lips",
            ),
            "closed lips when nothing is said",
        )
    return Finding("mouth", "ok", said), ""


def _turns(look: Look) -> tuple[Finding, str]:
    angles = head_angles(look.points[look.found])
    if not len(angles):
        return Finding("head turns", "warning", "no face was seen", (), "Show the face"), "a head"
    yaw, pitch = np.percentile(angles[:, 0], (5, 95)), np.percentile(angles[:, 1], (5, 95))
    said = f"{np.ptp(yaw):.0f} degrees from side to side and {np.ptp(pitch):.0f} up and down, about"
    if np.ptp(yaw) < TURN_LEAST:
        return (
            Finding(
                "head turns",
                "warning",
                f"{said}: the head hardly turns",
                (),
                "Turn the head a little to both sides while speaking, about 15 degrees each way",
            ),
            "a true shape seen from the side: it will look right in the poses of the clip and flat beyond",
        )
    if np.ptp(yaw) > TURN_MOST:
        return (
            Finding(
                "head turns",
                "warning",
                f"{said}: the face is often seen from the side",
                (),
                "Look towards the camera while speaking, within 30 degrees to either side",
            ),
            "sharpness: few frames share a view",
        )
    return Finding("head turns", "ok", said), ""


def _blinks(look: Look, seconds: float) -> tuple[Finding, str]:
    moments, watched = blinks(look)
    if not watched:
        return Finding("blinks", "ok", "too few frames in a row to count blinks"), ""
    expected = len(moments) * max(1.0, seconds / watched)
    said = f"{len(moments)} in the {watched:.0f} s looked at frame by frame"
    said += f", so about {expected:.0f} in the clip" if moments else ""
    at = tuple((moment, moment) for moment in moments)
    if expected < BLINKS_LEAST:
        return (
            Finding(
                "blinks", "warning", said, at, "Blink naturally, some ten times, while recording"
            ),
            "sure blinks: closed eyes are hardly seen",
        )
    return Finding("blinks", "ok", said, at), ""


def head_angles(points: np.ndarray) -> np.ndarray:
    """Yaw and pitch float64 [n, 2] in degrees of faces, float32 [n, 478, 3] px, finite: good to a
    few degrees.

    The rotation that brings the canonical mesh's rigid points nearest to the landmarks with their
    depth (Umeyama 1991). Yaw is positive when the nose points to the right of the picture, pitch
    when it points up.
    """
    from being.face.canonical_mesh import canonical_mesh

    model = canonical_mesh()[0][RIGID].astype(np.float64)
    seen = points[:, RIGID].astype(np.float64) * [1, -1, -1]
    model, seen = model - model.mean(0), seen - seen.mean(1, keepdims=True)
    left, _, right = np.linalg.svd(np.einsum("nki,kj->nij", seen, model))
    side = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= side[:, None]
    nose = (left @ right)[:, :, 2]  # where the face's z axis points
    return np.degrees(
        np.stack([np.arctan2(nose[:, 0], nose[:, 2]), np.arcsin(np.clip(nose[:, 1], -1, 1))], 1)
    )


def blinks(look: Look) -> tuple[list[float], float]:
    """Moments of blinks, s, in frames in a row, and how many seconds of these there are."""
    found = look.found
    times, opening = look.times[found], eye_opening(look.points[found])
    if len(times) < 2:
        return [], 0.0
    closed = opening < EYE_CLOSED * np.percentile(opening, 75)
    moments, watched = [], 0.0
    for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > RUN_GAP) + 1):
        if len(part) < FPS:
            continue
        watched += float(times[part[-1]] - times[part[0]])
        edges = np.flatnonzero(
            np.diff(np.concatenate([[False], closed[part], [False]]).astype(np.int8))
        )
        moments += [float(times[part[(a + b - 1) // 2]]) for a, b in edges.reshape(-1, 2).tolist()]
    return moments, watched


def eye_opening(points: np.ndarray) -> np.ndarray:
    """Height over width of the eyes, mean of both, float32 [n]; points: float32 [n, 478, 3] px."""
    assert points.shape[1] >= MESH_POINTS, points.shape
    ratios = []
    for eye in (EYE_RIGHT, EYE_LEFT):
        outline = points[:, eye, :2]
        width = np.linalg.norm(outline[:, 0] - outline[:, 8], axis=1)
        heights = np.linalg.norm(outline[:, 1:8] - outline[:, :8:-1], axis=2).mean(1)
        ratios.append(heights / np.maximum(width, 1e-6))
    return np.mean(ratios, axis=0).astype(np.float32)
