"""Checks whether a clip has enough speech, mouth shapes, head turns and blinks to learn from.

Figures behind the bounds: 40 s of speech with 11 of 12 phoneme classes (address 50 s) trained to a
lip correlation of 0.85 with the truth on held-out speech, 20 s with 10 classes (news 21 s) to 0.62
(docs/measurements.md). `python scripts/measure/speech.py VIDEO` prints the findings of audio and
speech of a clip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from being.audio.phonemes import PHONEME_CLASSES, SpeechAnalysis
from being.conventions import FPS
from being.face.landmarks import MESH_POINTS, lip_aperture
from being.face.topology import EYE_LEFT, EYE_RIGHT, RIGID
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.sync import COVERED_FIX, RUN_GAP, sync_lack

OCCURRENCES_MIN = 5  # times that a phoneme class must occur
CLASSES_ENOUGH = 9  # of 12, that occur so often
# s of speech: with less than the first, lips cannot be learnt; with the second, they can.
SPEECH_SOME, SPEECH_ENOUGH = 10.0, 30.0
CLASS_NAMES = ("p/b/m", "f/v", "t/d/n/l", "s/z", "sh/ch", "k/g/h", "r", "w/u", "o", "a", "e", "i/j")
SEQUENCE = 5  # phonemes
# Share of the sequences of phonemes that occur again within 250 phonemes: at most 0.25 in nine
# recordings of varied speech in five languages and a voice reading different sentences, 0.62 to 1
# when one of their phrases is repeated (each time at another pace and loudness, with noise) or a
# voice says one sentence repeatedly.
REPEATED = 0.45
REPEATED_WITHIN = 250
# Lip aperture over the distance of the outer eye corners, above and below which the mouth is open
# and closed.
OPEN, CLOSED = 0.05, 0.015
OPEN_MIN, CLOSED_MIN = 0.1, 0.02  # share of the frames
WIDE_MIN = 0.06  # lip aperture that the widest hundredth of the frames must reach
TURN_MIN, TURN_MAX = 8.0, 70.0  # degrees between the outermost twentieths of yaw
EYE_CLOSED = 0.5  # of the usual height of the open eye
BLINKS_MIN = 3  # in the clip, extrapolated from the part that is inspected frame by frame
READ_ALOUD = "reading aloud, any newspaper page will do"


def check_learnability(
    analysis: SpeechAnalysis,
    face_samples: FaceSamples,
    frames: int,
    segments: Sequence[tuple[int, int]],
    sync: Finding | None = None,
) -> tuple[Finding, ...]:
    """The findings "speech", "mouth", "head turns", "blinks" and "forecast".

    The forecast says what the avatar will lack. analysis: of the dataset's audio, sample 0 at
    frame 0. face_samples: of the same clip. frames: of the dataset. segments: (start, stop) in
    frames, the parts used. sync: the finding "audio and picture", which counts in the forecast;
    where it says that the mouth is hidden, there is no finding "mouth". No finding is a rejection:
    a poor clip gives a poor avatar.
    """
    parts = [(start / FPS, stop / FPS) for start, stop in segments] or [(0.0, frames / FPS)]
    hidden = sync is not None and sync.fix == COVERED_FIX
    found = (
        _check_speech(analysis, parts),
        *(() if hidden else (_check_mouth(face_samples),)),
        _check_turns(face_samples),
        _check_blinks(face_samples, sum(stop - start for start, stop in parts)),
    )
    findings = tuple(finding for finding, _ in found)

    # The forecast: lips that do not fit the speech come first.
    doubt = [(sync, sync_lack(sync))] if sync else []
    faults = [(finding, lack) for finding, lack in (*doubt, *found) if lack]
    if not faults:
        what = "the avatar will lack only what was never recorded: other light, other expressions"
        return (*findings, Finding("forecast", "ok", what))
    fixes = dict.fromkeys(finding.fix for finding, _ in faults)
    what = "the avatar will lack: " + "; ".join(lack for _, lack in faults)
    return (*findings, Finding("forecast", "warning", what, (), ". ".join(fixes)))


def repeated_share(classes: np.ndarray) -> float:
    """Share 0..1 of sequences of five phonemes that occur again within 250 phonemes.

    classes: int [n], phoneme classes in order.
    """
    shares = []
    for part in np.array_split(classes, max(1, round(len(classes) / REPEATED_WITHIN))):
        sequences = Counter(zip(*(part[k:].tolist() for k in range(SEQUENCE)), strict=False))
        repeated = sum(n for n in sequences.values() if n > 1)
        shares.append(repeated / max(1, sum(sequences.values())))
    return float(np.mean(shares))


def _check_speech(
    analysis: SpeechAnalysis, parts: list[tuple[float, float]]
) -> tuple[Finding, str]:
    """The finding "speech", and what the avatar will lack for it. parts: used, s."""
    # Seconds of speech and phonemes inside the used parts.
    seconds = 0.0
    used = np.zeros(len(analysis.times), bool)
    for begin, end in parts:
        overlaps = [min(stop, end) - max(start, begin) for start, stop in analysis.speech]
        seconds += sum(max(0.0, overlap) for overlap in overlaps)
        used |= (analysis.times >= begin) & (analysis.times < end)
    classes = analysis.classes[used]
    counts = np.bincount(classes, minlength=len(PHONEME_CLASSES))
    rare = [k for k in np.argsort(counts, kind="stable") if counts[k] < OCCURRENCES_MIN]
    enough = len(PHONEME_CLASSES) - len(rare)
    what = f"{seconds:.0f} s of speech, {enough} of {len(PHONEME_CLASSES)} phoneme classes "
    what += f"occur at least {OCCURRENCES_MIN} times"
    if rare:
        what += ": " + ", ".join(f"{CLASS_NAMES[k]} {counts[k]} times" for k in rare)

    # The worst fault decides.
    share = repeated_share(classes)
    if share > REPEATED and len(classes) >= 2 * SEQUENCE:
        what += f"; the same words are repeated ({share:.0%} of the phoneme sequences)"
        fix = f"Record a minute of varied speech: {READ_ALOUD}"
        lack = "lips for any other words: they cannot be learnt from one phrase"
    elif seconds < SPEECH_SOME:
        fix = f"Record a minute or more of {READ_ALOUD}"
        lack = f"lips that follow speech: they cannot be learnt from {seconds:.0f} s"
    elif seconds < SPEECH_ENOUGH:
        fix = f"Record a further half minute to a minute of {READ_ALOUD}"
        lack = f"reliable lips: after {seconds:.0f} s of speech their shapes are sometimes wrong"
    elif enough < CLASSES_ENOUGH:
        fix = f"Record a further minute of {READ_ALOUD}"
        names = [CLASS_NAMES[k] for k in np.flatnonzero(counts < OCCURRENCES_MIN)]
        lack = "the mouth shapes of " + ", ".join(names)
    else:
        return Finding("speech", "ok", what), ""
    return Finding("speech", "warning", what, (), fix), lack


def _check_mouth(face_samples: FaceSamples) -> tuple[Finding, str]:
    """The finding "mouth", and what the avatar will lack for it."""
    aperture = lip_aperture(face_samples.points[face_samples.found])
    if not len(aperture):
        return Finding("mouth", "warning", "no face was seen", (), "Show the face"), "a mouth"
    opened, closed = np.mean(aperture > OPEN), np.mean(aperture < CLOSED)
    wide = np.percentile(aperture, 99)
    what = f"open in {opened:.0%} and closed in {closed:.0%} of {len(aperture)} inspected frames"
    if wide < WIDE_MIN or opened < OPEN_MIN:
        what += "; it hardly opens"
        fix = "Speak up and open the mouth well for some sentences"
        lack = "teeth and the inside of the mouth, which are hardly visible"
    elif closed < CLOSED_MIN:
        what += "; the lips hardly close"
        fix = "Pause now and then with closed lips"
        lack = "closed lips in silence"
    else:
        return Finding("mouth", "ok", what), ""
    return Finding("mouth", "warning", what, (), fix), lack


def _check_turns(face_samples: FaceSamples) -> tuple[Finding, str]:
    """The finding "head turns", and what the avatar will lack for it."""
    angles = head_angles(face_samples.points[face_samples.found])
    if not len(angles):
        return Finding("head turns", "warning", "no face was seen", (), "Show the face"), "a head"
    yaw, pitch = np.ptp(np.percentile(angles, (5, 95), axis=0), axis=0)
    what = f"{yaw:.0f} degrees from side to side and {pitch:.0f} up and down, about"
    if yaw < TURN_MIN:
        what += ": the head hardly turns"
        fix = "Turn the head a little to both sides while speaking, about 15 degrees each way"
        lack = "a true shape from the side: it will look right in the poses of the clip, "
        lack += "and flat in others"
    elif yaw > TURN_MAX:
        what += ": the face is often seen from the side"
        fix = "Look towards the camera while speaking, within 30 degrees to either side"
        lack = "sharpness: few frames share a view"
    else:
        return Finding("head turns", "ok", what), ""
    return Finding("head turns", "warning", what, (), fix), lack


def _check_blinks(face_samples: FaceSamples, seconds: float) -> tuple[Finding, str]:
    """The finding "blinks", and what the avatar will lack for it. seconds: of the dataset."""
    moments, inspected = find_blinks(face_samples)
    if not inspected:
        return Finding("blinks", "ok", "too few consecutive frames to count blinks"), ""
    expected = len(moments) * max(1.0, seconds / inspected)
    what = f"{len(moments)} in the {inspected:.0f} s inspected frame by frame"
    if moments:
        what += f", so about {expected:.0f} in the clip"
    at = tuple((moment, moment) for moment in moments)
    if expected < BLINKS_MIN:
        fix = "Blink naturally, some ten times, while recording"
        lack = "reliable blinks: closed eyes are hardly visible"
        return Finding("blinks", "warning", what, at, fix), lack
    return Finding("blinks", "ok", what, at), ""


def head_angles(points: np.ndarray) -> np.ndarray:
    """Yaw and pitch float64 [n, 2] in degrees of faces, accurate to a few degrees.

    points: float32 [n, 478, 3] px, finite. The rotation brings the canonical mesh's rigid points
    nearest to the landmarks with their depth (Umeyama 1991). Yaw is positive when the nose points
    to the right of the picture, pitch when it points up.
    """
    from being.face.canonical_mesh import canonical_mesh

    # Both point sets around their means; image y and z point down and away, the mesh's up and near.
    model = canonical_mesh()[0][RIGID].astype(np.float64)
    seen = points[:, RIGID].astype(np.float64) * [1, -1, -1]
    model, seen = model - model.mean(0), seen - seen.mean(1, keepdims=True)

    # The nearest rotation, without a reflection.
    left, _, right = np.linalg.svd(np.einsum("nki,kj->nij", seen, model))
    side = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= side[:, None]
    nose = (left @ right)[:, :, 2]  # where the face's z axis points
    yaw = np.arctan2(nose[:, 0], nose[:, 2])
    pitch = np.arcsin(np.clip(nose[:, 1], -1, 1))
    return np.degrees(np.stack([yaw, pitch], 1))


def find_blinks(face_samples: FaceSamples) -> tuple[list[float], float]:
    """Times of blinks, s, in runs of consecutive frames, and the length of these runs, s."""
    found = face_samples.found
    times, opening = face_samples.times[found], eye_opening(face_samples.points[found])
    if len(times) < 2:
        return [], 0.0
    closed = opening < EYE_CLOSED * np.percentile(opening, 75)
    moments, inspected = [], 0.0
    for run in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > RUN_GAP) + 1):
        if len(run) < FPS:
            continue
        inspected += float(times[run[-1]] - times[run[0]])
        flags = np.concatenate([[False], closed[run], [False]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(flags)).reshape(-1, 2)
        moments += [float(times[run[(a + b - 1) // 2]]) for a, b in edges.tolist()]
    return moments, inspected


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
