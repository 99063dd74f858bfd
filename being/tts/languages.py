"""The language of a text, from its letters and its most frequent words; voices that speak it.

Letters decide first: most scripts belong to few languages. Texts in Latin letters are told apart by
the most frequent words of 17 languages (articles, prepositions, forms of "to be"). A text with few
of them is of no known language, and nothing is said about it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

LETTERS_READ = 20_000  # of a text
SCRIPT_SHARE = 0.6  # of the letters, of the script that decides
WORDS_LEAST = 3  # frequent words from which a language counts as found
WORDS_SHARE = 0.2  # of all words
LEAD = 2.0  # times as many frequent words as the next language, or as the voice's


@dataclass(frozen=True)
class Language:
    """A language that texts are written in."""

    title: str
    voice: str  # that speaks it
    words: str = ""  # the most frequent ones, where its letters do not decide


# By ISO 639-1 code.
LANGUAGES = {
    "en": Language(
        "English",
        "hibari",
        "the of and to in is that it was for on are with as his they be at this have from or had "
        "by but what were when your can there which their will would about if my has you we",
    ),
    "de": Language(
        "German",
        "edge:de-DE-KatjaNeural or espeak:de",
        "der die das und ist nicht ein eine ich zu den mit von auf für sich dem des sie es wir "
        "auch als an wird bei noch wie nach aber einen sind war haben zum zur oder ihr über",
    ),
    "fr": Language(
        "French",
        "kokoro:ff_siwis",
        "le la les de des et est un une du que qui dans pour pas sur ce il elle nous vous je ne "
        "au aux avec son sa ses mais ou où par plus sont cette être bonjour c'est d'un",
    ),
    "es": Language(
        "Spanish",
        "kokoro:ef_dora",
        "el la los las de y que en un una es por con para no se su del al lo como más pero sus le "
        "ya este sí porque esta entre cuando muy sin sobre también me hay donde está son hola",
    ),
    "it": Language(
        "Italian",
        "kokoro:if_sara",
        "il lo la gli di e che è un una per non con sono del della dei delle al alla da si come "
        "più anche ma questo questa nel nella ho mi ci io lui loro era essere ciao molto",
    ),
    "pt": Language(
        "Portuguese",
        "kokoro:pf_dora",
        "o a os as de e que em um uma é por com para não se do da dos das no na ao mais mas como "
        "foi ele ela você seu sua isso está são nos também muito já eu olá até",
    ),
    "nl": Language(
        "Dutch",
        "edge:nl-NL-ColetteNeural or espeak:nl",
        "de het een en van ik te dat die in is niet op aan met als voor er zijn maar om ook dan "
        "bij nog naar je uit wel hoe worden heeft wij deze dit hij zij",
    ),
    "pl": Language(
        "Polish",
        "edge:pl-PL-ZofiaNeural or espeak:pl",
        "i w na z do się nie że jest to jak o po ale od za przez co dla są czy tak być może tylko "
        "już był jego który która ten też ma",
    ),
    "sv": Language(
        "Swedish",
        "edge:sv-SE-SofieNeural or espeak:sv",
        "och att det som en på är av för med den till inte om ett han jag de vi så hade men var "
        "från kan eller när också efter än",
    ),
    "da": Language(
        "Danish",
        "edge:da-DK-ChristelNeural or espeak:da",
        "og at det som en på er af for med den til ikke om et han jeg de vi så havde men var fra "
        "kan eller når også efter hvad hun",
    ),
    "nb": Language(
        "Norwegian",
        "edge:nb-NO-PernilleNeural or espeak:nb",
        "og at det som en på er av for med den til ikke om et han jeg de vi så hadde men var fra "
        "kan eller når også etter hva hun",
    ),
    "fi": Language(
        "Finnish",
        "edge:fi-FI-NooraNeural or espeak:fi",
        "ja on ei että se hän oli joka mutta ovat kun niin myös tai minä sinä olen tämä sen kuin "
        "jos nyt vain ole mitä",
    ),
    "tr": Language(
        "Turkish",
        "edge:tr-TR-EmelNeural or espeak:tr",
        "ve bir bu da de için ile çok ne o gibi daha ama var olarak ben sen değil mi her olan "
        "kadar sonra en",
    ),
    "cs": Language(
        "Czech",
        "edge:cs-CZ-VlastaNeural or espeak:cs",
        "a se v na je že to s z do o i ale jsem jako za by po pro si jsou který nebo tak už byl "
        "jeho není být",
    ),
    "ro": Language(
        "Romanian",
        "edge:ro-RO-AlinaNeural or espeak:ro",
        "și de în la a cu pe nu este un o care că din mai pentru sunt ce am se fi dar au sau prin "
        "după fost",
    ),
    "hu": Language(
        "Hungarian",
        "edge:hu-HU-NoemiNeural or espeak:hu",
        "a az és hogy nem is egy ez meg van de mint csak már vagy volt még el ki kell ha azt lesz "
        "nagyon itt",
    ),
    "vi": Language(
        "Vietnamese",
        "edge:vi-VN-HoaiMyNeural or espeak:vi",
        "và của là có không được cho một các người trong với này đã những để khi tôi đến ra",
    ),
    "ru": Language("Russian", "edge:ru-RU-SvetlanaNeural or espeak:ru"),
    "uk": Language("Ukrainian", "edge:uk-UA-PolinaNeural or espeak:uk"),
    "el": Language("Greek", "edge:el-GR-AthinaNeural or espeak:el"),
    "he": Language("Hebrew", "edge:he-IL-HilaNeural or espeak:he"),
    "ar": Language("Arabic", "edge:ar-EG-SalmaNeural or espeak:ar"),
    "fa": Language("Persian", "edge:fa-IR-DilaraNeural or espeak:fa"),
    "hi": Language("Hindi", "kokoro:hf_alpha"),
    "th": Language("Thai", "edge:th-TH-PremwadeeNeural"),
    "ko": Language("Korean", "edge:ko-KR-SunHiNeural or espeak:ko"),
    "ja": Language("Japanese", "kokoro:jf_alpha (in kana) or edge:ja-JP-NanamiNeural"),
    "zh": Language("Chinese", "kokoro:zf_xiaobei"),
}
# The first word of a letter's Unicode name -> language.
SCRIPTS = {
    "CYRILLIC": "ru",
    "GREEK": "el",
    "HEBREW": "he",
    "ARABIC": "ar",
    "DEVANAGARI": "hi",
    "THAI": "th",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "KATAKANA-HIRAGANA": "ja",
    "CJK": "zh",
}
# Letters that only one of the languages of a script has.
SPECIAL_LETTERS = {"uk": "їєґі", "fa": "پچژگ"}
# Further languages of the scripts: a voice of one reads the letters of all.
SCRIPT_LANGUAGES = (
    {"ru", "uk", "be", "bg", "kk", "ky", "mk", "mn", "sr", "tt"},
    {"ar", "fa", "ps", "sd", "ur"},
    {"zh", "ja", "yue", "hak", "wuu"},
    {"hi", "mr", "ne", "kok"},
)
# By the first letter of a Kokoro voice's name.
KOKORO_CODES = {
    "a": "en", "b": "en", "e": "es", "f": "fr", "h": "hi", "i": "it", "j": "ja", "p": "pt",
    "z": "zh",
}  # fmt: skip
ESPEAK_CODES = {"cmn": "zh", "no": "nb", "": "en"}
_WORDS = {code: frozenset(language.words.split()) for code, language in LANGUAGES.items()}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def text_language(text: str, spoken: str = "") -> str:
    """The ISO 639-1 code of the language of `text`, "" where it is not certain.

    spoken: the code of the language that the voice speaks, which the text must contradict.
    """
    letters = [c for c in text[:LETTERS_READ] if c.isalpha()]
    scripts = Counter(unicodedata.name(c, "").split(" ")[0] for c in letters)
    codes: Counter[str] = Counter()
    for script, count in scripts.items():
        codes[SCRIPTS.get(script, "")] += count
    # Japanese mixes kana with Chinese characters.
    if codes["ja"] and codes["zh"]:
        codes["ja"] += codes.pop("zh")
    code, count = codes.most_common(1)[0] if codes else ("", 0)
    if code and count >= SCRIPT_SHARE * len(letters):
        present = set(letters)
        special = {"ru": "uk", "ar": "fa"}.get(code, "")
        return special if special and present & set(SPECIAL_LETTERS[special]) else code
    if scripts["LATIN"] < SCRIPT_SHARE * len(letters):
        return ""
    return _latin_language(text[:LETTERS_READ], spoken)


def _latin_language(text: str, spoken: str) -> str:
    """The language of a text in Latin letters, from its most frequent words."""
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower().replace("’", "'"))
    counts = Counter(words)
    found = {
        code: sum(counts[word] for word in frequent)
        for code, frequent in _WORDS.items()
        if frequent
    }
    ranked = sorted(found, key=lambda code: found[code], reverse=True)
    best, next_one = ranked[0], ranked[1]
    different = len(_WORDS[best] & set(words))
    if different < WORDS_LEAST or found[best] < WORDS_SHARE * len(words):
        return ""
    rival = found[spoken] if spoken in found else 0
    # Danish and Norwegian share most words: either name helps.
    if best in ("da", "nb") and next_one in ("da", "nb"):
        next_one = ranked[2]
    return best if found[best] >= LEAD * rival and found[best] > found[next_one] else ""


def voice_language(voice: str) -> str:
    """The ISO 639-1 code of the language that a voice speaks, "" where it speaks many."""
    engine, _, name = voice.partition(":")
    if engine == "hibari":
        return "en"
    if engine == "speech":
        return ""
    if engine == "kokoro":
        return KOKORO_CODES.get(name[:1], "en" if not name else "")
    if engine == "edge" and "multilingual" in name.lower():
        return ""
    code = name.split("-")[0].split("+")[0].lower()
    return ESPEAK_CODES.get(code, code) if engine == "espeak" else code


def lacks_language(voice: str, code: str) -> bool:
    """Whether `voice` does not speak the language `code`, as far as that is known."""
    spoken = voice_language(voice)
    if not spoken or not code or code == spoken:
        return False
    if any({spoken, code} <= family for family in SCRIPT_LANGUAGES):
        return False
    # The words of a language that has no list may be those of its neighbours.
    return not (LANGUAGES[code].words and spoken not in LANGUAGES)


def likelier_language(text: str, first: str, second: str) -> str:
    """That of two languages of which `text` has more frequent words; `first` where it is equal."""
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower().replace("’", "'"))
    counts = [
        sum(word in _WORDS.get(code, frozenset()) for word in words) for code in (first, second)
    ]
    return second if counts[1] > counts[0] else first


def language_note(text: str, voice: str) -> str:
    """A sentence where `text` is in a language that `voice` does not speak, else ""."""
    spoken = voice_language(voice)
    found = text_language(text, spoken) if spoken else ""
    if not lacks_language(voice, found):
        return ""
    language = LANGUAGES[found]
    return f"the text looks like {language.title}; a voice that speaks it: {language.voice}"
