"""Kana to the symbols that Kokoro reads: a table of syllables, after misaki's (Apache-2.0)."""

from __future__ import annotations

from functools import lru_cache

# Rows of the table of kana with the sound before a, i, u, e, o; "-" marks a place without a kana.
# fmt: off
_ROWS = {
    "あいうえお": ("", "", "", "", ""),
    "かきくけこ": ("k", "kʲ", "k", "k", "k"),
    "がぎぐげご": ("ɡ", "ɡʲ", "ɡ", "ɡ", "ɡ"),
    "さしすせそ": ("s", "ɕ", "s", "s", "s"),
    "ざじずぜぞ": ("ʣ", "ʥ", "z", "ʣ", "ʣ"),
    "たちつてと": ("t", "ʨ", "ʦ", "t", "t"),
    "だぢづでど": ("d", "ʥ", "z", "d", "d"),
    "なにぬねの": ("n", "ɲ", "n", "n", "n"),
    "はひふへほ": ("h", "ç", "ɸ", "h", "h"),
    "ばびぶべぼ": ("b", "bʲ", "b", "b", "b"),
    "ぱぴぷぺぽ": ("p", "pʲ", "p", "p", "p"),
    "まみむめも": ("m", "mʲ", "m", "m", "m"),
    "や-ゆ-よ": ("j", "", "j", "", "j"),
    "らりるれろ": ("ɾ", "ɾʲ", "ɾ", "ɾ", "ɾ"),
    "わゐ-ゑを": ("β", "", "", "", ""),
    "--ゔ--": ("", "", "v", "", ""),
}
# fmt: on
_VOWELS = "aiɯeo"
# After these the vowel u is pronounced further front.
_FRONT_U = ("s", "z", "ʦ")
_SMALL_Y = {"ゃ": "a", "ゅ": "ɨ", "ょ": "o", "ぇ": "e"}
_SMALL_VOWELS = dict(zip("ぁぃぅぇぉ", _VOWELS, strict=True))
# Words that are written otherwise than spoken: the particles wa and e.
_PARTICLES = {"は": "βa", "へ": "e"}


@lru_cache(maxsize=1)
def _syllables() -> dict[str, str]:
    """Symbols of one kana, and of one with a small kana after it."""
    table = {}
    for row, sounds in _ROWS.items():
        for kana, sound, vowel in zip(row, sounds, _VOWELS, strict=True):
            if kana != "-":
                table[kana] = sound + ("ɨ" if vowel == "ɯ" and sound in _FRONT_U else vowel)
        # き + ゃ: the consonant of the i-column before another vowel.
        if row[1] != "-" and row[0] != "あ":
            for small, vowel in _SMALL_Y.items():
                table[row[1] + small] = sounds[1] + vowel
    # ふぁ, ゔぃ, てぃ, うぇ ...: the consonant before the small vowel.
    for kana, sound in {"ふ": "ɸ", "ゔ": "v", "て": "t", "で": "d", "う": "β", "つ": "ʦ"}.items():
        for small, vowel in _SMALL_VOWELS.items():
            table.setdefault(kana + small, sound + ("ʲ" if vowel == "i" else "") + vowel)
    return table | _SMALL_VOWELS | {"ゃ": "ja", "ゅ": "jɯ", "ょ": "jo", "ゎ": "βa"}


def kana_phonemes(word: str) -> str:
    """The symbols of a word in hiragana or katakana. Other characters are left out.

    A word that is は or へ alone is the particle.
    """
    # Katakana are hiragana further on in Unicode.
    kana = "".join(chr(ord(c) - 0x60) if "ァ" <= c <= "ヶ" else c for c in word)
    if kana.strip(",.!?:;“”") in _PARTICLES:
        return _PARTICLES[kana.strip(",.!?:;“”")]
    table, said, at = _syllables(), "", 0
    while at < len(kana):
        two, one = kana[at : at + 2], kana[at]
        if len(two) == 2 and two in table:
            said += table[two]
            at += 2
            continue
        if one == "っ":
            said += "ʔ"
        elif one == "ー":
            said += "ː"
        elif one == "ん":
            said += _nasal(table.get(kana[at + 1 : at + 2], ""))
        else:
            said += table.get(one, "")
        at += 1
    return _long_vowels(said)


def _nasal(following: str) -> str:
    """ん before a syllable: it takes the place of the consonant."""
    if following[:1] in ("p", "b", "m"):
        return "m"
    if following[:1] in ("k", "ɡ"):
        return "ŋ"
    return "n" if following[:1] in tuple("tdnɲɾszʣʥʦʨ") else "ɴ"


def _long_vowels(said: str) -> str:
    """A vowel after itself, and u after o, as a length mark."""
    for vowel in "aɯeo":
        said = said.replace(vowel * 2, f"{vowel}ː")
    return said.replace("ii", "iː").replace("oɯ", "oː")
