"""Text to the symbols that Kokoro reads, in nine languages, with the words that they belong to.

English goes through hibari's text analysis. Spanish, French, Hindi, Italian and Portuguese go
through the program espeak-ng, whose IPA Kokoro was trained on; the rewriting of ties and one-letter
diphthongs follows hexgrad's "misaki" (Apache-2.0). Chinese goes through the package pypinyin and
a table of syllables. Japanese must be written in kana, for which a table suffices.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from dataclasses import dataclass
from typing import Any

from being.errors import EnvironmentFault, InputRejected
from being.tts.hibari_voice import WordSpan, load_hibari
from being.tts.kana import kana_phonemes
from being.tts.speech import visible_characters

# Symbols in one pass; the network has styles for up to 510.
MAX_SYMBOLS = 400
ESPEAK_TIMEOUT = 60.0  # s


@dataclass(frozen=True)
class Language:
    """A language of Kokoro's voices."""

    title: str
    # espeak-ng's name, or "" where another text analysis is used
    espeak: str
    # the first words of the Unicode names of its letters
    scripts: tuple[str, ...]


# By the first letter of a voice's name.
LANGUAGES = {
    "a": Language("American English", "", ("LATIN",)),
    "b": Language("British English", "", ("LATIN",)),
    "e": Language("Spanish", "es", ("LATIN",)),
    "f": Language("French", "fr-fr", ("LATIN",)),
    "h": Language("Hindi", "hi", ("DEVANAGARI", "LATIN")),
    "i": Language("Italian", "it", ("LATIN",)),
    "j": Language("Japanese", "", ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")),
    "p": Language("Brazilian Portuguese", "pt-br", ("LATIN",)),
    "z": Language("Mandarin Chinese", "", ("CJK",)),
}
# Full-width and other punctuation -> what Kokoro reads.
_MARKS = str.maketrans("、，。．！？：；।「」『』（）《》", ",,..!?:;.“”“”()“”")
_CLAUSE_END = re.compile(r"(?<=[,.;:!?…—])\s+|(?<=[,.!?])(?=[^\x00-\u02ff\s])|\n+")
_SENTENCE_ENDS = ".!?…"
_AROUND_WORDS = " ,.;:!?…—¿¡\"'“”‘’()«»"
# espeak-ng's IPA with ties -> Kokoro's letters.
_ESPEAK_LETTERS = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^z": "ʣ",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "o^ʊ": "O",
    "ə^ʊ": "Q",
    "t^s": "ʦ",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "^": "",
    "-": "",
}


def kokoro_passages(text: str, code: str) -> tuple[list[tuple[str, list[WordSpan]]], str]:
    """The passages of `text`, each synthesized in one pass, and the characters that are left out.

    code: a key of LANGUAGES. A passage is its symbols and its words: (word, first symbol, one past
    its last symbol). Where espeak-ng reads a clause as another number of words than it is written
    with, the clause stands as one word. Raises InputRejected for letters of other scripts, and
    EnvironmentFault where a program or package for the language is missing.
    """
    if code in "ab":
        voice = load_hibari()
        text, unspoken = voice.readable(text, f"Kokoro in {LANGUAGES[code].title}")
        return voice.passages(text, british=code == "b"), unspoken

    language = LANGUAGES[code]
    text, unspoken = _readable(unicodedata.normalize("NFC", text), language)
    vocabulary = load_hibari().front.vocab
    passages: list[tuple[str, list[WordSpan]]] = []
    symbols = ""
    spans: list[WordSpan] = []
    for clause in filter(None, map(str.strip, _CLAUSE_END.split(text))):
        for said, words in _clause_symbols(clause, code, vocabulary):
            if symbols and len(symbols) + len(said) > MAX_SYMBOLS:
                passages.append((symbols.rstrip(), spans))
                symbols, spans = "", []
            first = len(symbols)
            spans += [(word, first + begin, first + end) for word, begin, end in words]
            symbols += said + " "
        if clause[-1] in _SENTENCE_ENDS:
            passages.append((symbols.rstrip(), spans))
            symbols, spans = "", []
    passages.append((symbols.rstrip(), spans))
    return [(said, words) for said, words in passages if words], unspoken


def _readable(text: str, language: Language) -> tuple[str, str]:
    """(`text` with plain punctuation and without symbols that have no reading, those symbols)."""
    kept, unspoken, foreign = [], "", ""
    for character in text.translate(_MARKS):
        category = unicodedata.category(character)
        if category in ("Cc", "Cf"):
            kept.append("\n" if character == "\n" else " ")
        elif character == "\N{VARIATION SELECTOR-16}":
            continue
        elif category in ("So", "Sk") or (category[0] == "S" and not language.espeak):
            kept.append(" ")
            unspoken += character
        elif category[0] == "L" and not _is_letter_of(character, language):
            foreign += character
        elif category[0] == "N" and not language.espeak:
            foreign += character
        else:
            kept.append(character)
    if foreign:
        raise InputRejected(
            f"this voice speaks {language.title} and cannot say {visible_characters(foreign)}",
            "it would leave these characters out",
            _how_to_write(language),
        )
    return "".join(kept), "".join(dict.fromkeys(unspoken))


def _is_letter_of(character: str, language: Language) -> bool:
    """True for a letter of the language's scripts, and for ª and º."""
    name = unicodedata.name(character, "")
    return name.split(" ")[0] in language.scripts or character in "ªº"


def _how_to_write(language: Language) -> str:
    """What a person can do about text that a voice cannot say."""
    if language.title == "Japanese":
        return "Write it in kana (hiragana or katakana), numbers too"
    if language.title == "Mandarin Chinese":
        return "Write it in Chinese characters, numbers too"
    return f"Write it in {language.title}, or use another voice"


def _clause_symbols(
    clause: str, code: str, vocabulary: dict[str, int]
) -> list[tuple[str, list[WordSpan]]]:
    """The symbols and words of a clause, in pieces of at most about MAX_SYMBOLS."""
    mark = clause[-1] if clause[-1] in vocabulary and not clause[-1].isalnum() else ""
    joint = "" if code == "z" else " "
    pieces: list[tuple[str, list[WordSpan]]] = []
    symbols = ""
    spans: list[WordSpan] = []
    for word, reading in _readings(clause, code):
        known = "".join(c for c in reading if c in vocabulary)
        # A single word may be longer than a passage.
        for said in (known[k : k + MAX_SYMBOLS] for k in range(0, len(known), MAX_SYMBOLS)):
            if not any(c.isalpha() for c in said):
                continue
            if symbols and len(symbols) + len(said) > MAX_SYMBOLS:
                pieces.append((symbols, spans))
                symbols, spans = "", []
            symbols += joint if symbols else ""
            spans = [*spans, (word, len(symbols), len(symbols) + len(said))]
            symbols += said
    return [*pieces, (symbols + mark, spans)] if spans else pieces


def _readings(clause: str, code: str) -> list[tuple[str, str]]:
    """The words of a clause and their symbols. Words that are read together stand as one."""
    if code == "z":
        return _chinese_syllables(clause)
    words = [word.strip(_AROUND_WORDS) for word in clause.split()]
    words = [word for word in words if any(c.isalnum() for c in word)]
    if code == "j":
        return [(word, kana_phonemes(word)) for word in words]
    spoken = espeak_phonemes(clause, LANGUAGES[code].espeak).split()
    if len(spoken) == len(words):
        return list(zip(words, spoken, strict=True))
    reading = " ".join(spoken)
    if len(reading) <= MAX_SYMBOLS or len(words) < 2:
        return [(clause.strip(_AROUND_WORDS), reading)]
    written = clause.split()
    half = len(written) // 2
    return [
        *_readings(" ".join(written[:half]), code),
        *_readings(" ".join(written[half:]), code),
    ]


def espeak_phonemes(text: str, language: str) -> str:
    """espeak-ng's reading of `text` in Kokoro's letters; words are divided by spaces.

    Raises EnvironmentFault where espeak-ng is missing or fails.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise EnvironmentFault(
            "espeak-ng is not installed",
            "Kokoro's voices need it for languages other than English, Chinese and Japanese",
            "Install it (apt install espeak-ng, brew install espeak-ng), or use an English voice",
        )
    command = [program, "-q", "--ipa", "--tie=^", "-v", language, "-b", "1", "--stdin"]
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=ESPEAK_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(
            "espeak-ng does not finish", f"stopped after {ESPEAK_TIMEOUT:.0f} s"
        ) from error
    if done.returncode:
        raise EnvironmentFault(
            "espeak-ng failed",
            done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}",
            "Check that its data are installed (espeak-ng --voices)",
        )
    # Words of another language are marked: "(en)weekend(fr)".
    spoken = re.sub(r"\([a-z-]+\)", "", done.stdout.decode(errors="replace"))
    for old, new in _ESPEAK_LETTERS.items():
        spoken = spoken.replace(old, new)
    return " ".join(spoken.split())


# Pinyin initials and finals (strict: without y and w) -> IPA, as in misaki, which follows
# pinyin-to-ipa (MIT). "*" is the place of the tone.
# fmt: off
_INITIALS = {
    "": "", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l",
    "g": "k", "k": "kʰ", "h": "x", "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ",
    "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s",
}
_FINALS = {
    "a": "a*", "o": "wo*", "e": "ɤ*", "ê": "ɛ*", "ai": "ai*", "ei": "ei*", "ao": "au*", "ou": "ou*",
    "an": "a*n", "en": "ə*n", "ang": "a*ŋ", "eng": "ə*ŋ", "er": "ɚ*", "ong": "ʊ*ŋ", "i": "i*",
    "ia": "ja*", "ie": "je*", "iao": "jau*", "iou": "jou*", "iu": "jou*", "ian": "jɛ*n",
    "in": "i*n", "iang": "ja*ŋ", "ing": "i*ŋ", "iong": "jʊ*ŋ", "io": "jɔ*", "u": "u*", "ua": "wa*",
    "uo": "wo*", "uai": "wai*", "uei": "wei*", "ui": "wei*", "uan": "wa*n", "uen": "wə*n",
    "un": "wə*n", "uang": "wa*ŋ", "ueng": "wə*ŋ", "v": "y*", "ve": "ɥe*", "ue": "ɥe*",
    "van": "ɥɛ*n", "vn": "y*n",
}
# Interjections without a vowel.
_SYLLABIC = {"m": "m*", "n": "n*", "ng": "ŋ*", "hm": "hm*", "hng": "hŋ*"}
# fmt: on
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
# After these initials the final i is a vowel of its own.
_APICAL = ("zh", "ch", "sh", "r", "z", "c", "s")


def _chinese_syllables(clause: str) -> list[tuple[str, str]]:
    """The characters of a clause and the symbols of each."""
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise EnvironmentFault(
            "Chinese needs the package pypinyin", str(error), "pip install 'being[chinese]'"
        ) from error
    characters = "".join(c for c in clause if unicodedata.category(c)[0] == "L")
    if not characters:
        return []
    # Characters without a reading stay themselves: one entry for each of a run of them.
    unread: Any = list
    initials = lazy_pinyin(characters, Style.INITIALS, errors=unread, strict=True)
    finals = lazy_pinyin(
        characters, Style.FINALS_TONE3, errors=unread, strict=True, neutral_tone_with_five=True
    )
    whole = lazy_pinyin(characters, Style.TONE3, errors=unread, neutral_tone_with_five=True)
    readings = []
    for character, initial, toned, syllable in zip(
        characters, initials, finals, whole, strict=True
    ):
        final, tone = toned.rstrip("12345"), syllable[-1:]
        if not final:
            initial, sound = "", _SYLLABIC.get(syllable.rstrip("12345"))
        elif final == "i" and initial in _APICAL:
            sound = "ɨ*"
        else:
            sound = _FINALS.get(final)
        if sound is None or initial not in _INITIALS:
            raise InputRejected(
                f"the reading of {character} is not known",
                f"pypinyin reads it as {syllable}",
                "Write it with another character",
            )
        readings.append((character, _INITIALS[initial] + sound.replace("*", _TONES.get(tone, ""))))
    return readings
