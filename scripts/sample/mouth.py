"""Mouth motion of the sample person: face unit weights per frame from phonemes."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

FPS = 25  # frames/s of the clip
CURVE_RATE = 200  # Hz at which the tracks are built before they are sampled at FPS
JAW_LIMIT = 0.15  # largest jawOpen: about what speech does; the face unit's 1.0 is a yawn
COARTICULATION = 0.055  # s, standard deviation of the blur that joins one viseme to the next
CLOSURE_BLUR = 0.022  # s, the same for the closing mask of p, b, m
CLOSURE_MARGIN = 0.030  # s by which lips close before and open after the phoneme's own span
SHORT_GAP = 0.12  # s; a shorter space between words holds the mouth as it was

Event = tuple[str, float, float]  # phoneme, start s, end s

# What each phoneme asks of the mouth, 0 to 1, except jaw, which is in units of JAW_LIMIT.
_VISEMES: tuple[tuple[str, dict[str, float]], ...] = (
    ("pbm", dict(close=0.055, press=0.30, roll_lower=0.10, roll_upper=0.08)),
    ("fv", dict(jaw=0.14, roll_lower=0.45, upper_up=0.25)),
    ("θð", dict(jaw=0.32, lower_down=0.15, tongue=0.55)),
    ("tdnlT", dict(jaw=0.36, lower_down=0.15, stretch=0.10)),
    ("sz", dict(jaw=0.16, stretch=0.25, lower_down=0.22, upper_up=0.12)),
    ("ʃʒʧʤ", dict(jaw=0.22, funnel=0.60, upper_up=0.10)),
    ("kɡŋhɾ", dict(jaw=0.45, lower_down=0.10)),
    ("ɹ", dict(jaw=0.28, pucker=0.30, funnel=0.30)),
    ("wu", dict(jaw=0.25, pucker=0.80, funnel=0.15)),
    ("ji", dict(jaw=0.32, smile=0.30, stretch=0.25, lower_down=0.10)),
    ("ɪᵻ", dict(jaw=0.50, stretch=0.15)),
    ("ɛe", dict(jaw=0.80, stretch=0.15, lower_down=0.18, upper_up=0.06)),
    ("æ", dict(jaw=1.35, stretch=0.20, lower_down=0.32, upper_up=0.14)),
    ("aɑ", dict(jaw=1.60, lower_down=0.28, upper_up=0.10)),
    ("ɔo", dict(jaw=1.00, funnel=0.40)),
    ("ʌəɐᵊ", dict(jaw=0.65, lower_down=0.08)),
    ("ɜɚ", dict(jaw=0.50, funnel=0.30)),
    ("ʊ", dict(jaw=0.40, pucker=0.45)),
)
VISEMES = {symbol: shape for symbols, shape in _VISEMES for symbol in symbols}
DIPHTHONGS = {
    "A": ("e", "ɪ"),
    "I": ("a", "ɪ"),
    "O": ("o", "ʊ"),
    "Y": ("ɔ", "ɪ"),
    "W": ("a", "ʊ"),
    "Q": ("ə", "ʊ"),
}
CLOSED = "pbm"
STRESSABLE = "aɑɔæɛʌoeɜiu"
REST = dict(close=0.045, press=0.20, smile=0.08)  # silence: lips together, corners a little up
FACE_UNITS = dict(
    jaw=("jawOpen",),
    close=("mouthClose",),
    press=("mouthPressLeft", "mouthPressRight"),
    roll_lower=("mouthRollLower",),
    roll_upper=("mouthRollUpper",),
    upper_up=("mouthUpperUpLeft", "mouthUpperUpRight"),
    lower_down=("mouthLowerDownLeft", "mouthLowerDownRight"),
    stretch=("mouthStretchLeft", "mouthStretchRight"),
    smile=("mouthSmileLeft", "mouthSmileRight"),
    funnel=("mouthFunnel",),
    pucker=("mouthPucker",),
    tongue=("tongueOut",),
)
KEPT_IN_CLOSURE = ("pucker", "smile")  # rounding and smile go on while the lips are closed


def frame_count(duration: float) -> int:
    """Frames of a clip that lasts `duration` seconds."""
    return int(round(duration * FPS))


def segments(events: Sequence[Event]) -> list[tuple[str, float, float, float]]:
    """The spoken sounds as (viseme symbol, start s, end s, stress 0 to 1); diphthongs split, stress
    marks taken in.
    """
    out: list[tuple[str, float, float, float]] = []
    stress, pending = 0.0, None
    for symbol, start, end in events:
        if symbol in "ˈˌ":
            stress, pending = (1.0 if symbol == "ˈ" else 0.5), start
            continue
        if symbol in DIPHTHONGS:
            first, second = DIPHTHONGS[symbol]
            middle = start + 0.6 * (end - start)
            parts = [(first, start, middle), (second, middle, end)]
        else:
            parts = [(symbol, start, end)] if symbol in VISEMES else []
        for sound, begin, finish in parts:
            begin, pending = (pending if pending is not None else begin), None
            stressed = stress if sound in STRESSABLE else 0.0
            stress = 0.0 if stressed else stress
            out.append((sound, begin, finish, stressed))
        pending = None
    return out


def closures(events: Sequence[Event]) -> np.ndarray:
    """Middles of the p, b, m spans: float64 [M], s. The lips are closed there."""
    return np.array(
        [(start + end) / 2 for sound, start, end, _ in segments(events) if sound in CLOSED]
    )


def tracks(events: Sequence[Event], duration: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Face unit weights of the mouth, name -> float64 [F] at FPS (jawOpen in [0, JAW_LIMIT]), and
    stress [F] 0 to 1.
    """
    time = np.arange(int(round(duration * CURVE_RATE))) / CURVE_RATE
    curves = {name: np.full(len(time), REST.get(name, 0.0)) for name in FACE_UNITS}
    stress, closed = np.zeros(len(time)), np.zeros(len(time))

    def span(start: float, end: float) -> slice:
        return slice(max(int(start * CURVE_RATE), 0), int(np.ceil(end * CURVE_RATE)))

    previous_end = None
    for sound, start, end, stressed in segments(events):
        gap = previous_end is not None and 0 < start - previous_end < SHORT_GAP
        begin = previous_end if gap and previous_end is not None else start
        for name, curve in curves.items():
            curve[span(begin, end)] = VISEMES[sound].get(name, 0.0)
        if sound in CLOSED:
            closed[span(start - CLOSURE_MARGIN, end + CLOSURE_MARGIN)] = 1.0
        stress[span(start, end)] = stressed
        previous_end = end
    closed = np.clip(1.35 * gaussian_filter1d(closed, CLOSURE_BLUR * CURVE_RATE), 0.0, 1.0)
    emphasis = gaussian_filter1d(stress, 0.05 * CURVE_RATE)
    blurred = {
        name: gaussian_filter1d(c, COARTICULATION * CURVE_RATE) for name, c in curves.items()
    }
    shaped = {name: _close(name, curve, closed, emphasis) for name, curve in blurred.items()}
    frames = np.arange(frame_count(duration)) / FPS
    sampled = {name: np.interp(frames, time, curve) for name, curve in shaped.items()}
    weights = {unit: sampled[name] for name, units in FACE_UNITS.items() for unit in units}
    return weights, np.interp(frames, time, emphasis)


def _close(name: str, curve: np.ndarray, closed: np.ndarray, emphasis: np.ndarray) -> np.ndarray:
    """One track with the lips closed where `closed` is 1; the jaw also stressed and kept under
    JAW_LIMIT, softly.
    """
    if name == "jaw":
        wanted = curve * (1 + 0.25 * emphasis)
        return JAW_LIMIT * np.tanh(wanted**1.15) ** (1 / 1.15) * (1 - closed)
    if name in ("close", "press", "roll_lower", "roll_upper"):
        return np.maximum(curve, closed * VISEMES["p"][name])
    return curve if name in KEPT_IN_CLOSURE else curve * (1 - closed)
