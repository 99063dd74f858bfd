"""What is said in a sound, as far as lips are concerned: sound classes with their times, and where
somebody speaks.

The output layer of the phoneme conformer (`conformer.py`, English by training) gives 191 symbols,
  most of them letters of the phonetic alphabet, as peaks: one step of 20 ms for each phoneme heard.
  They are gathered into twelve classes that look alike on lips in any language. How far that can be
  trusted, measured against the lips of two real clips:
- English (news 21 s) comes out word for word, 11 phonemes a second of speech. In French (address 50
  s) it hears English words that sound alike, 10 a second. So a count is a lower bound, and an "r"
  or a nasal vowel of another language falls into a neighbouring class.
- closures (p, b, m) are the surest class: in the 0.12 s before each of 21 heard in 30 s of French
  the lips were closed (aperture under 0.015 of the eyes' distance; before any moment of speech: 22
  %), in English before each of 15 (63 %, small openings). Peaks come 60 to 80 ms after the instant
  at which the lips are closest: what is heard of p, b and m is their opening.
- the mouth 0.06 s before the other classes, French and English, as a difference from its mean
  during speech in standard deviations (of these means 0.1 to 0.3): aperture at f v -0.6 and -0.9,
  at a +0.5 and +1.2, at w u -0.7 and -0.8; width at o -1.0 and -1.0, at s z +0.5 and +0.5, at i j
  +0.2 and +0.3. So they mean in both languages what they say.
- in silence, tones, hum, white and pink noise, clicks, drums, chords and melodies made by a program
  it hears nothing, 0 to 1 symbol in 12 s each, against 7 to 13 a second of speech in five
  languages. So it also says where speech is.
- pieces of 10 s are better than a whole clip at once (attention spans a piece; it was trained on
  sentences): 397 phonemes in address 50 s against 300.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.conventions import FEATURE_RATE, SAMPLE_RATE

MEL_RATE = 100  # log-mel frames/s
PIECE = 10 * SAMPLE_RATE  # samples that go through at once
CONTEXT = SAMPLE_RATE  # samples seen besides on both sides of a piece
BLANK = 190
CLASSES = ("p b m", "f v", "t d n l", "s z", "sh zh ch", "k g h", "r", "w u", "o", "a", "e", "i j")
CLOSURE = 0  # the lips touch: the class of p, b and m
# Symbols of the network by class, as numbers; tones, accents and word borders are in none.
# fmt: off
_LETTERS = (
    {10: "b", 31: "m", 35: "p", 36: "pʰ", 37: "p͈", 82: "ɓ", 132: "ʙ"},
    {17: "f", 49: "v", 108: "ɱ", 112: "ɸ", 124: "ʋ", 172: "β"},
    {12: "d", 30: "l", 32: "n", 41: "t", 42: "tʰ", 43: "t͈", 69: "ð", 70: "ñ", 86: "ɖ", 87: "ɗ",
     103: "ɫ", 104: "ɮ", 109: "ɲ", 116: "ɾ", 121: "ʈ", 126: "ʎ", 173: "θ"},
    {39: "s", 40: "s͈", 57: "z", 177: "ẑ"},
    {13: "d͡ʒ", 44: "t͡ɕ", 45: "t͡ɕʰ", 46: "t͡ɕ͈", 47: "t͡ʃ", 67: "ç", 85: "ɕ", 119: "ʂ", 120: "ʃ",
     128: "ʐ", 129: "ʑ", 130: "ʒ"},
    {11: "c", 18: "g", 19: "h", 27: "k", 28: "kʰ", 29: "k͈", 55: "x", 73: "ħ", 75: "ŋ", 94: "ɟ",
     95: "ɡ", 96: "ɣ", 99: "ɦ", 110: "ɴ", 131: "ʔ", 174: "χ"},
    {38: "r", 113: "ɹ", 114: "ɻ", 115: "ɽ", 117: "ʀ", 118: "ʁ", 90: "ɚ", 93: "ɝ"},
    {25: "ju", 48: "u", 50: "w", 51: "wa", 52: "we", 53: "wi", 54: "wʌ", 56: "y", 77: "ũ", 98: "ɥ",
     122: "ʉ", 123: "ʊ", 127: "ʏ"},
    {24: "jo", 33: "o", 34: "oʊ", 71: "õ", 72: "ø", 76: "œ", 81: "ɒ", 83: "ɔ", 84: "ɔɪ", 111: "ɵ"},
    {7: "a", 8: "aɪ", 9: "aʊ", 22: "ja", 62: "à", 63: "ã", 64: "ä", 65: "å", 66: "æ", 79: "ɐ",
     80: "ɑ", 125: "ʌ", 26: "jʌ"},
    {14: "e", 15: "eə", 16: "eɪ", 23: "je", 88: "ɘ", 89: "ə", 91: "ɛ", 92: "ɜ", 97: "ɤ", 178: "ẽ"},
    {20: "i", 21: "j", 68: "ì", 74: "ĩ", 78: "ǐ", 100: "ɨ", 101: "ɪ", 102: "ɪə", 105: "ɯ",
     106: "ɯi", 107: "ɰ", 133: "ʝ"},
)
# fmt: on
CLASS_OF = {number: k for k, letters in enumerate(_LETTERS) for number in letters}
REACH = 0.2  # s of speech on both sides of a phoneme's peak
PAUSE = 0.5  # s; a shorter gap between phonemes is not a pause
LONELY = 3  # fewer phonemes in one stretch are taken for an error of hearing
LEVEL_RATE = 100  # levels/s
QUIETEST = 10  # percentile of the levels that is the noise between sounds


def letters_of(kind: int) -> list[int]:
    """The symbols of the class `kind` of CLASSES, as the network numbers them."""
    return list(_LETTERS[kind])


@dataclass(frozen=True)
class Heard:
    """A sound and what was heard in it; times in s from its first sample."""

    sound: np.ndarray  # float32 [T] at 16 kHz, finite
    damaged: int  # samples that were not numbers, 0 in `sound`
    # float32 [L] dB of full scale (a sine of full swing has -3), power round the mean in 10 ms each
    level: np.ndarray
    mel: (
        np.ndarray
    )  # float32 [M, 80], natural logarithm of the power in mel bands, frame j centred on j / 100 s
    closure: np.ndarray  # float32 [S] in 0..1: probability of p, b or m, step k centred on k / 50 s
    times: np.ndarray  # float64 [n], phonemes heard, ascending
    kinds: np.ndarray  # int64 [n], their class, index into CLASSES
    speech: tuple[tuple[float, float], ...]  # stretches with speech, start and end

    @property
    def seconds(self) -> float:
        """Length of the sound, s."""
        return len(self.sound) / SAMPLE_RATE

    @property
    def speech_level(self) -> float:
        """Level of the speech (of the whole sound where there is none), dB of full scale."""
        spoken = self.speaking((np.arange(len(self.level)) + 0.5) / LEVEL_RATE)
        return _mean_level(self.level[spoken] if spoken.any() else self.level)

    @property
    def noise_level(self) -> float:
        """Level of what is there in the quietest tenth of the sound, dB of full scale."""
        return float(np.percentile(self.level, QUIETEST))

    @property
    def speech_seconds(self) -> float:
        """Speech in it, s."""
        return float(sum(stop - start for start, stop in self.speech))

    def counts(self) -> np.ndarray:
        """How often each class of CLASSES is heard, int64 [12]."""
        return np.bincount(self.kinds, minlength=len(CLASSES))

    def speaking(self, times: np.ndarray) -> np.ndarray:
        """bool [n]: whether somebody speaks at the times float [n], s."""
        inside = np.zeros(np.shape(times), bool)
        for start, stop in self.speech:
            inside |= (times >= start) & (times < stop)
        return inside


def listen(sound: np.ndarray) -> Heard:
    """What is heard in `sound`, float32 [T] at 16 kHz in [-1, 1] (samples that are not numbers
    count as 0).

    About 100 times as fast as real time on one core; memory does not grow with length beyond the
    result. Raises EnvironmentFault where the network cannot be had.
    """
    assert sound.ndim == 1, sound.shape
    damaged = len(sound) - int(np.count_nonzero(np.isfinite(sound)))
    sound = np.nan_to_num(sound.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    level = levels(sound - sound.mean() if len(sound) else sound)
    mel, steps = _through_the_network(np.pad(sound, (0, max(0, SAMPLE_RATE // 2 - len(sound)))))
    best = steps.argmax(1)
    peaks = np.flatnonzero(
        np.isin(best, list(CLASS_OF)) & (best != np.concatenate([[BLANK], best[:-1]]))
    )
    times = peaks / FEATURE_RATE
    keep = times < len(sound) / SAMPLE_RATE
    times, kinds = (
        times[keep],
        np.array([CLASS_OF[number] for number in best[peaks[keep]].tolist()], np.int64),
    )
    closure = np.exp(steps[:, letters_of(CLOSURE)]).sum(1)
    speech = _stretches(times, len(sound) / SAMPLE_RATE)
    sure = np.zeros(len(times), bool)
    for start, stop in speech:
        sure |= (times >= start) & (times <= stop)
    return Heard(sound, damaged, level, mel, closure, times[sure], kinds[sure], speech)


def levels(sound: np.ndarray) -> np.ndarray:
    """Level of `sound` float32 [T] in every whole or begun 10 ms, float32 [L] dB of full scale,
    -120 at least.
    """
    width = SAMPLE_RATE // LEVEL_RATE
    parts = np.pad(sound, (0, -len(sound) % width if len(sound) else width)).reshape(-1, width)
    return (10 * np.log10(np.square(parts, dtype=np.float64).mean(1) + 1e-12)).astype(np.float32)


def _through_the_network(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel float32 [M, 80] and log-probabilities float32 [S, 191], in pieces with context on
    both sides.
    """
    import torch

    from being.audio import encoders

    network = encoders.encoder("hama").model  # type: ignore[attr-defined]
    mels: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(sound), PIECE):
            stop = start + PIECE
            if len(sound) - stop < CONTEXT:  # no tiny last piece
                stop = len(sound)
            first = max(0, start - CONTEXT)
            mel = network.log_mel(torch.from_numpy(sound[first : stop + CONTEXT])[None])
            hidden = network.proj(network.hidden(mel, len(network.blocks)).transpose(1, 2))[
                0
            ].T.log_softmax(-1)
            seconds = (start - first) // SAMPLE_RATE, (stop - first) / SAMPLE_RATE
            for rows, rate, kept in ((mel[0].T, MEL_RATE, mels), (hidden, FEATURE_RATE, steps)):
                last = len(rows) if stop == len(sound) else round(seconds[1] * rate)
                kept.append(rows[seconds[0] * rate : last].numpy())
            if stop == len(sound):
                break
    return np.concatenate(mels), np.concatenate(steps)


def _stretches(times: np.ndarray, seconds: float) -> tuple[tuple[float, float], ...]:
    """Stretches of speech round phonemes at `times`: gaps shorter than PAUSE closed, lonely
    phonemes left out.
    """
    groups = np.split(times, np.flatnonzero(np.diff(times) > PAUSE) + 1) if len(times) else []
    return tuple(
        (max(0.0, float(group[0]) - REACH), min(seconds, float(group[-1]) + REACH))
        for group in groups
        if len(group) >= LONELY
    )


def _mean_level(level: np.ndarray) -> float:
    """Level of the mean power of levels in dB."""
    return float(10 * np.log10(np.power(10.0, level.astype(np.float64) / 10).mean()))
