"""Checks whether audio and mouth are in sync, and whether the voice belongs to the face.

The lip aperture is compared with a signal from the audio that rises where an open mouth is likely:
loudness of the bands in which vowels differ from closed lips, less the conformer's probability of
p, b and m. Where no offset is found within 0.6 s it is searched up to 3 s, with a bound that rises
with the distance. Nothing is learnt from footage. Measured on address 50 s, news 21 s and the
built-in sample: from every 15 s the offset is reliable and stays within 8 ms of the whole clip's
(within 15 ms from the 67 to 100 % of all 10 s that are reliable). Of 384 pairs of 15 s of a mouth
with another person's speech, 99 % stay under 3.6 deviations of chance and one is taken as reliable
(`scripts/measure/speech.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.audio.phonemes import MEL_RATE, SpeechAnalysis
from being.conventions import FEATURE_RATE
from being.face.landmarks import lip_aperture
from being.preprocess.inspection.face_samples import FaceSamples
from being.preprocess.inspection.findings import Finding

SEARCH = 0.6  # s to either side in which the offset is searched
FAR_SEARCH = 3.0  # s to either side in which it is searched where it is not found nearer
# s to either side in which the correlations tell what chance gives.
CHANCE = 2.5
FAR_CHANCE = 6.0
PEAK = 0.4  # s to either side of the best lag that belong to it
SLOW = 0.5  # s to either side of the moving mean that is subtracted from mouth and audio
RUN_GAP = 0.2  # s between inspected frames over which the mouth is not interpolated
RUN_MIN = 4.0  # s of consecutive frames without which no offset is given
SPEECH_MIN = 3.0  # s of speech in them
LOUDNESS_BANDS = slice(20, 60)  # mel bands, about 0.9 to 4.3 kHz
LOUDNESS_RANGE = 4.0  # nepers of power under the loud parts at which the voice counts as off
CLOSURE_WEIGHT = 0.7  # of the probability of p, b and m
CLOSURE_LATE = 0.06  # s by which it comes after the closed lips
CLOSURE_SPREAD = np.array([0.25, 0.5, 1, 0.5, 0.25])  # over steps of 20 ms
# s by which the mouth leads the audio of clips in sync. By this measure two clips that are in sync
# to the eye have +10 and +30 ms: the zero lies between them, accurate to 20 ms.
MOUTH_LEADS = 0.02
RELIABLE = 4.2  # deviations of chance; the weakest 15 s of a true pair has 4.5
RELIABLE_CORRELATION = 0.2
# The same for a far offset. More lags give more by chance, and such offsets are rare: the bound is
# higher from 0.6 s on, and rises by so much for each second more. Of 58,303 pairs of the mouths of
# ten clips with other speech (as `scripts/measure/far_offset.py` makes them), one is taken as far.
FAR_RELIABLE, FAR_RISE = 5.0, 0.15
FAR_CORRELATION = 0.3
FAR_RUN_MIN = 8.0  # s of consecutive frames without which no far offset is given
# s: a frame and a little; people begin to notice it there (ITU-R BT.1359: 45 ms early, 125 late).
IN_SYNC = 0.045
# s: half a syllable (about 0.2 s); from there a wrong offset fits the next syllable as well.
LARGE_SHIFT = 0.1
SYNC_CHECK = "audio and picture"
DOUBTFUL_FIX = (
    "Check that audio and picture are of one take: a dubbed clip, a voice-over or a hidden mouth "
    "cannot be used. Record again with the microphone of the camera where they are not"
)
LARGE_SHIFT_FIX = (
    "The audio is moved to the lips: check that they fit the speech now. "
    "Record again with the microphone of the camera where they do not"
)
COVERED_FIX = (
    "Record again with the mouth in full view, a microphone below the chin or beside the face: "
    "hidden lips cannot be learnt"
)
# What the avatar will lack, by the fix of the finding.
LACKS = {
    DOUBTFUL_FIX: "lips that fit the speech: audio and mouth may not belong together",
    COVERED_FIX: "lips: something hides the mouth, so there are none to learn from",
    LARGE_SHIFT_FIX: "lips that surely fit the speech: the audio had to be moved by much",
}
MUTE = 0.2  # lip motion under this share of the usual motion during speech: another's voice
MUTE_WINDOW = 1.0  # s
MUTE_MIN = 2.0  # s


@dataclass(frozen=True)
class SyncOffset:
    """The offset of the audio from the picture, measured on the mouth."""

    # by which the audio is later than the mouth (negative: earlier); 0 where it is not measured
    seconds: float
    # correlation of mouth and audio at this offset, in standard deviations of chance
    confidence: float
    # the correlation, -1..1
    correlation: float
    reliable: bool

    @property
    def shift(self) -> float:
        """Seconds to move the audio towards its start (negative: its end); 0 for no correction."""
        return self.seconds if self.reliable and abs(self.seconds) > IN_SYNC else 0.0


UNKNOWN_OFFSET = SyncOffset(0.0, 0.0, 0.0, False)


def sync_offset(
    analysis: SpeechAnalysis,
    face_samples: FaceSamples,
    farther: float = 0.0,
    around: float = 0.0,
) -> SyncOffset:
    """The offset of the audio from the mouth, within 0.6 s and `farther` s to either side.

    around: s, the middle of the search. It is measured in runs of consecutive frames. It is not
    reliable where mouth and audio do not correlate. analysis: of the audio whose sample 0 belongs
    to the first picture.
    """
    index, mouth = _mouth_signal(face_samples)
    spoken = analysis.speaking(index / MEL_RATE).sum()
    if len(index) < RUN_MIN * MEL_RATE or spoken < SPEECH_MIN * MEL_RATE:
        return UNKNOWN_OFFSET

    # Correlation at every lag of 10 ms; a positive lag means that the audio is later.
    audio = _audio_signal(analysis)
    reach, middle = round((CHANCE + farther) * MEL_RATE), round(around * MEL_RATE)
    lags = np.arange(-reach, reach + 1) + middle
    correlation = np.array([_correlation(mouth, audio, index + lag) for lag in lags])
    near = np.abs(lags - middle) <= (SEARCH + farther) * MEL_RATE
    if not np.isfinite(correlation[near]).all():
        return UNKNOWN_OFFSET
    best = int(np.flatnonzero(near)[correlation[near].argmax()])

    # What chance gives: the deviation at lags that do not belong to the peak.
    far = np.abs(lags - lags[best]) > PEAK * MEL_RATE
    chance = correlation[far & np.isfinite(correlation)].std()

    top = correlation[best]
    confidence = float(top / max(chance, 1e-6))
    at_border = abs(lags[best] - middle) >= round((SEARCH + farther) * MEL_RATE)
    return SyncOffset(
        float((lags[best] + _vertex(correlation, best)) / MEL_RATE - MOUTH_LEADS),
        confidence,
        float(top),
        bool(confidence >= RELIABLE and top >= RELIABLE_CORRELATION and not at_border),
    )


def far_offset(analysis: SpeechAnalysis, face_samples: FaceSamples) -> SyncOffset:
    """The offset of the audio from the mouth within 3 s to either side, for clips where none is
    found within 0.6 s.

    It is reliable above a bound that rises with the distance.
    """
    index, mouth = _mouth_signal(face_samples)
    spoken = analysis.speaking(index / MEL_RATE).sum()
    if len(index) < FAR_RUN_MIN * MEL_RATE or spoken < SPEECH_MIN * MEL_RATE:
        return UNKNOWN_OFFSET

    # At a far lag a part of the frames has no audio. The correlation of fewer frames varies more.
    audio = _audio_signal(analysis)
    reach = round(FAR_CHANCE * MEL_RATE)
    lags = np.arange(-reach, reach + 1)
    correlation = np.array([_correlation(mouth, audio, index + lag) for lag in lags])
    common = np.array([np.count_nonzero((index + k >= 0) & (index + k < len(audio))) for k in lags])
    weighted = correlation * np.sqrt(common / max(1, common.max()))

    known = np.isfinite(weighted)
    inside = np.flatnonzero(known & (np.abs(lags) < FAR_SEARCH * MEL_RATE))
    if not len(inside):
        return UNKNOWN_OFFSET
    best = int(inside[weighted[inside].argmax()])
    other = known & (np.abs(lags - lags[best]) > PEAK * MEL_RATE)
    if other.sum() < FAR_SEARCH * MEL_RATE:
        return UNKNOWN_OFFSET
    confidence = float(weighted[best] / max(weighted[other].std(), 1e-6))
    seconds = float((lags[best] + _vertex(correlation, best)) / MEL_RATE - MOUTH_LEADS)
    top = float(correlation[best])
    needed = FAR_RELIABLE + FAR_RISE * max(0.0, abs(seconds) - SEARCH)
    return SyncOffset(seconds, confidence, top, confidence >= needed and top >= FAR_CORRELATION)


def _vertex(values: np.ndarray, best: int) -> float:
    """Place of the vertex of the parabola through a value and its neighbours, from that value."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, top, after = values[best - 1 : best + 2]
    if not top > max(before, after):
        return 0.0
    return float((before - after) / (2 * (before - 2 * top + after)))


def check_sync(offset: SyncOffset) -> Finding:
    """The finding "audio and picture"; a warning where the audio is moved by `offset.shift`."""
    if not offset.reliable:
        return Finding(
            SYNC_CHECK,
            "warning",
            "whether the mouth moves with the audio cannot be measured "
            f"(correlation {offset.confidence:.1f} times that of chance, {RELIABLE} are needed)",
            (),
            DOUBTFUL_FIX,
        )
    side = "after" if offset.seconds > 0 else "before"
    what = f"the audio comes {abs(offset.seconds) * 1000:.0f} ms {side} the mouth, "
    what += "accurate to about 20 ms"
    if not offset.shift:
        return Finding(SYNC_CHECK, "ok", what)
    large = abs(offset.shift) > LARGE_SHIFT
    fix = LARGE_SHIFT_FIX if large else "The audio is moved by as much"
    return Finding(SYNC_CHECK, "warning", what, (), fix)


def sync_lack(finding: Finding) -> str:
    """What the avatar will lack for the finding of `check_sync`; empty where audio and lips fit.

    It is read from the finding, because later steps have only the saved findings.
    """
    return LACKS.get(finding.fix, "")


def check_other_voices(analysis: SpeechAnalysis, face_samples: FaceSamples) -> Finding:
    """The finding "voices": speech during which the lips keep still, in consecutive frames."""
    index, _ = _mouth_signal(face_samples)
    if len(index) < RUN_MIN * MEL_RATE:
        what = "too few consecutive frames to tell whether the voice is the face's"
        return Finding("voices", "ok", what)

    # Lip motion around each time, against its usual size during speech.
    times = index / MEL_RATE
    aperture = lip_aperture(face_samples.points)
    known = np.isfinite(aperture)
    motion = _moving_deviation(np.interp(times, face_samples.times[known], aperture[known]))
    speech = analysis.speaking(times)
    usual = float(np.median(motion[speech])) if speech.any() else 0.0
    mute = speech & (motion < MUTE * usual)

    # Stretches of it that are long enough.
    flags = np.concatenate([[False], mute, [False]]).astype(np.int8)
    stretches = [
        (float(times[a]), float(times[b - 1]))
        for a, b in np.flatnonzero(np.diff(flags)).reshape(-1, 2)
    ]
    at = tuple((start, stop) for start, stop in stretches if stop - start >= MUTE_MIN)
    if at:
        return Finding(
            "voices",
            "warning",
            "somebody speaks while these lips keep still: another voice, or a dubbed part",
            at,
            "Cut these parts out: from them the lips learn to stay closed during speech",
        )
    seconds = len(times) / MEL_RATE
    what = f"the lips move during all speech (in the {seconds:.0f} s inspected frame by frame)"
    return Finding("voices", "ok", what)


def _mouth_signal(face_samples: FaceSamples) -> tuple[np.ndarray, np.ndarray]:
    """Lip aperture less its moving mean, 100 a second, in runs of consecutive frames.

    Times int64 [m] in hundredths of seconds, and the signal float64 [m].
    """
    aperture = lip_aperture(face_samples.points)
    known = np.isfinite(aperture)
    times, aperture = face_samples.times[known], aperture[known]
    index, mouth = [np.empty(0, np.int64)], [np.empty(0)]
    for run in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > RUN_GAP) + 1):
        if len(run) < 2 or times[run[-1]] - times[run[0]] < RUN_MIN:
            continue
        first, last = np.ceil(times[run[0]] * MEL_RATE), np.floor(times[run[-1]] * MEL_RATE)
        grid = np.arange(first, last + 1).astype(np.int64)
        index.append(grid)
        mouth.append(_high_pass(np.interp(grid / MEL_RATE, times[run], aperture[run])))
    return np.concatenate(index), np.concatenate(mouth)


def _audio_signal(analysis: SpeechAnalysis) -> np.ndarray:
    """A signal float64 [M], 100 a second, that rises where the audio suggests an open mouth."""
    loudness = analysis.mel[:, LOUDNESS_BANDS].mean(1, dtype=np.float64)
    loudness = np.maximum(loudness, np.percentile(loudness, 95) - LOUDNESS_RANGE)
    closed = np.convolve(analysis.closure, CLOSURE_SPREAD, "same")
    times = np.arange(len(loudness)) / MEL_RATE
    closed = np.interp(times + CLOSURE_LATE, np.arange(len(closed)) / FEATURE_RATE, closed)
    opening = _unit_deviation(_high_pass(loudness))
    return opening - CLOSURE_WEIGHT * _unit_deviation(_high_pass(closed))


def _high_pass(values: np.ndarray) -> np.ndarray:
    """`values` [n], 100 a second, less their moving mean over 1 s."""
    half = min(round(SLOW * MEL_RATE), len(values) - 1)
    padded = np.pad(values, half, "reflect")
    return values - np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")


def _unit_deviation(values: np.ndarray) -> np.ndarray:
    return values / max(float(values.std()), 1e-9)


def _moving_deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation of `values` [n], 100 a second, in the second around each."""
    half = min(round(MUTE_WINDOW / 2 * MEL_RATE), len(values) - 1)
    padded = np.pad(values, half, "reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).std(1)


def _correlation(mouth: np.ndarray, audio: np.ndarray, index: np.ndarray) -> float:
    """Pearson correlation of `mouth` [m] with `audio` [M] at `index` [m].

    NaN where too few indices lie inside the audio.
    """
    inside = (index >= 0) & (index < len(audio))
    if inside.sum() < RUN_MIN * MEL_RATE:
        return float("nan")
    x, y = mouth[inside], audio[index[inside]]
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-12))
