"""Speech analysis: phoneme classes with their times, speech segments, audio levels.

The output layer of the phoneme conformer (`phoneme_conformer.py`, trained on English) gives 191
symbols, most of them letters of the phonetic alphabet, as peaks: one step of 20 ms for each
phoneme. The symbols are gathered into twelve classes that look alike on lips in any language. How
far they can be trusted was measured against the lips of two real clips:

- English (news 21 s) comes out word for word, 11 phonemes a second of speech. French (address 50 s)
  comes out as English words that sound alike, 10 a second. So a count is a lower bound, and an "r"
  or a nasal vowel of another language falls into a neighbouring class.
- Closures (p, b, m) are the surest class. In the 0.12 s before each of 21 closures in 30 s of
  French the lips were closed (aperture under 0.015 of the eyes' distance; before any moment of
  speech: 22 %). In English before each of 15 (63 %, small openings). Peaks come 60 to 80 ms after
  the lips are closest: the network detects the opening of p, b and m.
- The mouth 0.06 s before the other classes, French and English, as a difference from its mean
  during speech in standard deviations (of these means 0.1 to 0.3): aperture at f v -0.6 and -0.9,
  at a +0.5 and +1.2, at w u -0.7 and -0.8; width at o -1.0 and -1.0, at s z +0.5 and +0.5, at i j
  +0.2 and +0.3. So the classes have the expected lip shapes in both languages.
- In silence, tones, hum, white and pink noise, clicks, drums, chords and melodies made by a program
  it finds 0 to 1 symbol in 12 s each, against 7 to 13 a second of speech in five languages. So it
  also shows where speech is.
- Pieces of 10 s are better than a whole clip at once (attention spans a piece; the network was
  trained on sentences): 397 phonemes in address 50 s against 300.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.conventions import FEATURE_RATE, SAMPLE_RATE

# Log-mel frames/s.
MEL_RATE = 100
# Samples that are analysed at once, and samples of context on both sides.
PIECE = 10 * SAMPLE_RATE
CONTEXT = SAMPLE_RATE
# The symbol that stands for no phoneme.
BLANK = 190
# fmt: off
PHONEME_CLASSES = (
    "p b m", "f v", "t d n l", "s z", "sh zh ch", "k g h", "r", "w u", "o", "a", "e", "i j",
)
# fmt: on
# The class of p, b and m: the lips touch.
CLOSURE = 0
# Symbols of the network by class, as numbers; tones, accents and word borders are in none.
# fmt: off
_SYMBOLS = (
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
CLASS_OF_SYMBOL = {
    symbol: phoneme_class for phoneme_class, symbols in enumerate(_SYMBOLS) for symbol in symbols
}
# Speech reaches this far beyond a phoneme's peak on both sides, s.
SPEECH_MARGIN = 0.2
# A shorter gap between phonemes is not a pause, s.
PAUSE = 0.5
# Fewer phonemes in one stretch count as an error of the network.
MIN_PHONEMES = 3
# Audio levels/s.
LEVEL_RATE = 100
# Percentile of the levels that counts as the background noise.
NOISE_PERCENTILE = 10


def symbols_of_class(phoneme_class: int) -> list[int]:
    """The symbols of a class, an index into PHONEME_CLASSES, as the network numbers them."""
    return list(_SYMBOLS[phoneme_class])


@dataclass(frozen=True)
class SpeechAnalysis:
    """Audio, and the phonemes and speech in it; times in s from its first sample."""

    # float32 [T] at 16 kHz, finite
    samples: np.ndarray
    # how many samples were not finite; they are 0 in `samples`
    invalid_samples: int
    # float32 [L] dB of full scale, power about the mean in 10 ms each (a full-scale sine has -3)
    levels: np.ndarray
    # float32 [M, 80], natural logarithm of the power in mel bands, frame j centred on j / 100 s
    mel: np.ndarray
    # float32 [S] in 0..1: probability of p, b or m, step k centred on k / 50 s
    closure: np.ndarray
    # float64 [n], the phonemes' times, ascending
    times: np.ndarray
    # int64 [n], the phonemes' classes, indices into PHONEME_CLASSES
    classes: np.ndarray
    # stretches with speech, start and end
    speech: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """Length of the audio, s."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def speech_level(self) -> float:
        """Level of the speech (of the whole audio where there is none), dB of full scale."""
        spoken = self.speaking((np.arange(len(self.levels)) + 0.5) / LEVEL_RATE)
        return _mean_level(self.levels[spoken] if spoken.any() else self.levels)

    @property
    def noise_level(self) -> float:
        """Level that the quietest tenth of the audio does not exceed, dB of full scale."""
        return float(np.percentile(self.levels, NOISE_PERCENTILE))

    @property
    def speech_seconds(self) -> float:
        """Total length of the stretches with speech, s."""
        return float(sum(stop - start for start, stop in self.speech))

    def counts(self) -> np.ndarray:
        """The number of phonemes in each of PHONEME_CLASSES, int64 [12]."""
        return np.bincount(self.classes, minlength=len(PHONEME_CLASSES))

    def speaking(self, times: np.ndarray) -> np.ndarray:
        """bool [n]: whether the times float [n], s, lie in a stretch with speech."""
        inside = np.zeros(np.shape(times), bool)
        for start, stop in self.speech:
            inside |= (times >= start) & (times < stop)
        return inside


def analyse_speech(samples: np.ndarray) -> SpeechAnalysis:
    """The phonemes and the speech in `samples`, float32 [T] at 16 kHz in [-1, 1].

    Samples that are not finite count as 0. About 100 times as fast as real time on one core; memory
    does not grow with length beyond the result. Raises EnvironmentFault where the network cannot be
    had.
    """
    assert samples.ndim == 1, samples.shape
    invalid = len(samples) - int(np.count_nonzero(np.isfinite(samples)))
    samples = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    seconds = len(samples) / SAMPLE_RATE
    levels = audio_levels(samples - samples.mean() if len(samples) else samples)

    # Half a second is the least that the network takes.
    padded = np.pad(samples, (0, max(0, SAMPLE_RATE // 2 - len(samples))))
    mel, steps = _run_network(padded)
    closure = np.exp(steps[:, symbols_of_class(CLOSURE)]).sum(1)

    # A phoneme is a step whose best symbol is in a class and differs from that of the step before.
    best = steps.argmax(1)
    changed = best != np.concatenate([[BLANK], best[:-1]])
    peaks = np.flatnonzero(np.isin(best, list(CLASS_OF_SYMBOL)) & changed)
    times = peaks / FEATURE_RATE
    inside = times < seconds
    times = times[inside]
    symbols = best[peaks[inside]].tolist()
    classes = np.array([CLASS_OF_SYMBOL[symbol] for symbol in symbols], np.int64)

    # Phonemes outside of speech are errors of the network.
    speech = _speech_stretches(times, seconds)
    kept = np.zeros(len(times), bool)
    for start, stop in speech:
        kept |= (times >= start) & (times <= stop)
    return SpeechAnalysis(
        samples, invalid, levels, mel, closure, times[kept], classes[kept], speech
    )


def audio_levels(samples: np.ndarray) -> np.ndarray:
    """Levels float32 [L] of each whole or begun 10 ms of float32 [T], dB of full scale, >= -120."""
    width = SAMPLE_RATE // LEVEL_RATE
    missing = -len(samples) % width if len(samples) else width
    blocks = np.pad(samples, (0, missing)).reshape(-1, width)
    power = np.square(blocks, dtype=np.float64).mean(1)
    return (10 * np.log10(power + 1e-12)).astype(np.float32)


def _run_network(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel float32 [M, 80] and log-probabilities float32 [S, 191] of whole audio.

    The audio is analysed in pieces with context on both sides.
    """
    import torch

    from being.audio.phoneme_conformer import pretrained_conformer

    network = pretrained_conformer("cpu")
    mels: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(samples), PIECE):
            stop = start + PIECE
            if len(samples) - stop < CONTEXT:
                # The rest would be shorter than its context: it joins this piece.
                stop = len(samples)
            first = max(0, start - CONTEXT)
            mel = network.log_mel(torch.from_numpy(samples[first : stop + CONTEXT])[None])
            hidden = network.hidden(mel, len(network.blocks))
            scores = network.proj(hidden.transpose(1, 2))[0].T.log_softmax(-1)

            # Keep the rows of the piece, and drop those of its context.
            begin, end = (start - first) // SAMPLE_RATE, (stop - first) / SAMPLE_RATE
            for rows, rate, kept in ((mel[0].T, MEL_RATE, mels), (scores, FEATURE_RATE, steps)):
                last = len(rows) if stop == len(samples) else round(end * rate)
                kept.append(rows[begin * rate : last].numpy())
            if stop == len(samples):
                break
    return np.concatenate(mels), np.concatenate(steps)


def _speech_stretches(times: np.ndarray, seconds: float) -> tuple[tuple[float, float], ...]:
    """Stretches of speech around phonemes at `times` of audio of `seconds`.

    Gaps shorter than PAUSE are closed, and stretches of too few phonemes are left out.
    """
    if not len(times):
        return ()
    groups = np.split(times, np.flatnonzero(np.diff(times) > PAUSE) + 1)
    return tuple(
        (max(0.0, float(group[0]) - SPEECH_MARGIN), min(seconds, float(group[-1]) + SPEECH_MARGIN))
        for group in groups
        if len(group) >= MIN_PHONEMES
    )


def _mean_level(levels: np.ndarray) -> float:
    """Level of the mean power of levels in dB."""
    return float(10 * np.log10(np.power(10.0, levels.astype(np.float64) / 10).mean()))
