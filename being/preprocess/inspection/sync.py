"""Is the sound in step with the mouth: the lag between lip aperture and voice, and speech during
which no lip moves.

Lip aperture is compared with a signal from the sound that rises where an open mouth is likely:
loudness of the bands in which vowels differ from closed lips, less the conformer's evidence of p, b
and m. Nothing is learnt from footage. Measured on address 50 s, news 21 s and the built-in sample:
from every 15 s the offset is sure and stays within 8 ms of the whole clip's (within 15 ms from the
67 to 100 % of all 10 s that are sure); of 384 pairs of 15 s of a mouth with somebody else's speech
99 % stay under 3.6 deviations of chance and one is taken for sure. `scripts/measure/speech.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.audio.phonemes import MEL_RATE, Heard
from being.conventions import FEATURE_RATE
from being.face.landmarks import lip_aperture
from being.preprocess.inspection.face_samples import Look
from being.preprocess.inspection.findings import Finding

SEARCH = 0.6  # s to either side in which the offset is looked for
CHANCE = 2.5  # s to either side; what agreement comes about by chance is seen at lags out to here
PEAK = 0.4  # s to either side of the best lag that belong to it
SLOW = 0.5  # s to either side of the moving mean that is taken away from mouth and sound
RUN_GAP = 0.2  # s between looked-at frames over which the mouth is not interpolated
RUN_LEAST = 4.0  # s of frames in a row without which no offset is given
SPEECH_LEAST = 3.0  # s of speech in them
LOUDNESS_BANDS = slice(20, 60)  # mel bands, about 0.9 to 4.3 kHz
LOUDNESS_RANGE = 4.0  # nepers of power under the loud parts at which the voice counts as off
CLOSURE_WEIGHT, CLOSURE_LATE = (
    0.7,
    0.06,
)  # of the evidence of p, b, m; and how long after the closed lips it comes, s
CLOSURE_SPREAD = np.array([0.25, 0.5, 1, 0.5, 0.25])  # over steps of 20 ms
# By this measure two clips that are in step by eye stand at +10 and +30 ms: the zero lies between
# them, good to 20 ms.
MOUTH_LEADS = 0.02  # s
SURE = 4.2  # deviations of chance; the weakest 15 s of a true pair has 4.5
SURE_CORRELATION = 0.2
# s: a frame and a little; people begin to see it there (ITU-R BT.1359: 45 ms early, 125 ms late)
IN_STEP = 0.045
MUTE = 0.2  # lip motion under this share of the usual motion during speech: the voice is another's
MUTE_WINDOW = 1.0  # s
MUTE_LEAST = 2.0  # s


@dataclass(frozen=True)
class Offset:
    """How far the sound is from the picture, as the mouth tells."""

    # by which the sound comes after the mouth (negative: before); 0 where it cannot be told
    seconds: float
    confidence: (
        float  # agreement of mouth and sound at this offset, in deviations of what chance gives
    )
    correlation: float  # the agreement itself, -1..1
    sure: bool

    @property
    def shift(self) -> float:
        """Seconds by which the sound is to be moved towards its start (negative: its end), 0 where
        nothing is to do.
        """
        return self.seconds if self.sure and abs(self.seconds) > IN_STEP else 0.0


NOT_KNOWN = Offset(0.0, 0.0, 0.0, False)


def sync_offset(heard: Heard, look: Look) -> Offset:
    """How far the sound comes after the mouth, from frames in a row of `look`; not sure where they
    do not agree.

    heard: of the sound whose sample 0 belongs to the first picture. The answer lies within 0.6 s to
    either side.
    """
    index, mouth = _mouth(look)
    if (
        len(index) < RUN_LEAST * MEL_RATE
        or heard.speaking(index / MEL_RATE).sum() < SPEECH_LEAST * MEL_RATE
    ):
        return NOT_KNOWN
    voice = _openness(heard)
    lags = np.arange(-round(CHANCE * MEL_RATE), round(CHANCE * MEL_RATE) + 1)
    agreement = np.array([_correlation(mouth, voice, index + lag) for lag in lags])
    near = np.abs(lags) <= SEARCH * MEL_RATE
    if not np.isfinite(agreement[near]).all():
        return NOT_KNOWN
    best = int(np.flatnonzero(near)[agreement[near].argmax()])
    chance = agreement[(np.abs(lags - lags[best]) > PEAK * MEL_RATE) & np.isfinite(agreement)].std()
    before, top, after = agreement[best - 1 : best + 2]
    vertex = (
        (before - after) / (2 * (before - 2 * top + after)) if top > max(before, after) else 0.0
    )
    confidence = float(top / max(chance, 1e-6))
    at_border = abs(lags[best]) >= round(SEARCH * MEL_RATE)
    return Offset(
        float((lags[best] + vertex) / MEL_RATE - MOUTH_LEADS),
        confidence,
        float(top),
        bool(confidence >= SURE and top >= SURE_CORRELATION and not at_border),
    )


def check_sync(offset: Offset) -> Finding:
    """The finding "sound and picture"; it says that the sound is moved where `offset.shift` is not
    0.
    """
    if not offset.sure:
        return Finding(
            "sound and picture",
            "warning",
            "whether the mouth moves with the sound cannot be told "
            f"(agreement {offset.confidence:.1f} times that of chance, {SURE} are needed)",
            (),
            "Look whether the lips fit the speech: dubbing, a voice-over or a hidden mouth will not do",
        )
    side = "after" if offset.seconds > 0 else "before"
    said = f"the sound comes {abs(offset.seconds) * 1000:.0f} ms {side} the mouth, to about 20 ms"
    if not offset.shift:
        return Finding("sound and picture", "ok", said)
    return Finding("sound and picture", "warning", said, (), "The sound is moved by as much")


def check_other_voices(heard: Heard, look: Look) -> Finding:
    """The finding "voices": speech during which the lips keep still, in the frames in a row of
    `look`.
    """
    index, _ = _mouth(look)
    if len(index) < RUN_LEAST * MEL_RATE:
        return Finding(
            "voices", "ok", "too few frames in a row to see whether the voice is the face's"
        )
    times = index / MEL_RATE
    known = np.isfinite(aperture := lip_aperture(look.points))
    motion = _deviation(np.interp(times, look.times[known], aperture[known]))
    speech = heard.speaking(times)
    usual = float(np.median(motion[speech])) if speech.any() else 0.0
    mute = speech & (motion < MUTE * usual)
    edges = np.flatnonzero(
        np.diff(np.concatenate([[False], mute, [False]]).astype(np.int8))
    ).reshape(-1, 2)
    at = tuple(
        (float(times[a]), float(times[b - 1]))
        for a, b in edges
        if times[b - 1] - times[a] >= MUTE_LEAST
    )
    if at:
        return Finding(
            "voices",
            "warning",
            "somebody is heard while these lips keep still: another voice, or a dubbed part",
            at,
            "Cut these parts out: they teach the lips to stay closed while somebody speaks",
        )
    return Finding(
        "voices",
        "ok",
        f"the lips move whenever somebody is heard (in the {len(times) / MEL_RATE:.0f} s "
        "looked at frame by frame)",
    )


def _mouth(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Hundredths of seconds int64 [m] inside runs of frames, and the lip aperture there less its
    moving mean [m].
    """
    aperture = lip_aperture(look.points)
    known = np.isfinite(aperture)
    times, aperture = look.times[known], aperture[known]
    index, mouth = [np.empty(0, np.int64)], [np.empty(0)]
    for part in np.split(np.arange(len(times)), np.flatnonzero(np.diff(times) > RUN_GAP) + 1):
        if len(part) < 2 or times[part[-1]] - times[part[0]] < RUN_LEAST:
            continue
        grid = np.arange(
            np.ceil(times[part[0]] * MEL_RATE), np.floor(times[part[-1]] * MEL_RATE) + 1
        ).astype(np.int64)
        index.append(grid)
        mouth.append(_quick(np.interp(grid / MEL_RATE, times[part], aperture[part])))
    return np.concatenate(index), np.concatenate(mouth)


def _openness(heard: Heard) -> np.ndarray:
    """A signal float64 [M], 100 a second, that rises where the sound speaks of an open mouth."""
    loudness = heard.mel[:, LOUDNESS_BANDS].mean(1, dtype=np.float64)
    loudness = np.maximum(loudness, np.percentile(loudness, 95) - LOUDNESS_RANGE)
    closed = np.convolve(heard.closure, CLOSURE_SPREAD, "same")
    times = np.arange(len(loudness)) / MEL_RATE
    closed = np.interp(times + CLOSURE_LATE, np.arange(len(closed)) / FEATURE_RATE, closed)
    return _unit(_quick(loudness)) - CLOSURE_WEIGHT * _unit(_quick(closed))


def _quick(values: np.ndarray) -> np.ndarray:
    """`values` [n], 100 a second, less their moving mean over 1 s."""
    half = min(round(SLOW * MEL_RATE), len(values) - 1)
    padded = np.pad(values, half, "reflect")
    return values - np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")


def _unit(values: np.ndarray) -> np.ndarray:
    return values / max(float(values.std()), 1e-9)


def _deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation of `values` [n], 100 a second, in the second round each."""
    half = min(round(MUTE_WINDOW / 2 * MEL_RATE), len(values) - 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, "reflect"), 2 * half + 1)
    return around.std(1)


def _correlation(mouth: np.ndarray, voice: np.ndarray, index: np.ndarray) -> float:
    """Pearson correlation of `mouth` with `voice` at `index` where it exists; NaN where that is too
    short.
    """
    inside = (index >= 0) & (index < len(voice))
    if inside.sum() < RUN_LEAST * MEL_RATE:
        return float("nan")
    x, y = mouth[inside], voice[index[inside]]
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-12))
