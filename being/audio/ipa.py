"""IPA phones: the voices' one-letter symbols spelled out, and the symbols that a phone consists of.

A phone is a string such as "p", "iː", "tʰ", "ɔ̃", "eɪ" or "tʃ": one or more base symbols with their
modifiers. The voices of the Kokoro family write English diphthongs and all affricates as one
letter; `spelled_out` gives the letters of the IPA chart.
"""

from __future__ import annotations

import unicodedata

# Letters of the Kokoro family (hexgrad's "misaki") -> IPA.
ONE_LETTER = {
    "A": "eɪ",
    "I": "aɪ",
    "O": "oʊ",
    "Q": "əʊ",
    "S": "s",
    "T": "ɾ",
    "W": "aʊ",
    "Y": "ɔɪ",
    "ʣ": "dz",
    "ʤ": "dʒ",
    "ʥ": "dʑ",
    "ʦ": "ts",
    "ʧ": "tʃ",
    "ʨ": "tɕ",
    "ꭧ": "ʈʂ",
    "ᵊ": "ə",
    "ᵻ": "ɪ",
    "g": "ɡ",
}
# Stress marks, which stand before their phone.
STRESS = "ˈˌ"
# Signs that stand after their phone: length, aspiration, tenseness, tones.
_SIGNS = "ːˑʰʱʲʷᵝˠˤ˞ⁿˡ↓→↗↘↑0123456789˥˦˧˨˩'-"
# Ties between two letters of one phone.
_TIES = "\N{COMBINING DOUBLE INVERTED BREVE}\N{COMBINING DOUBLE BREVE BELOW}^"
# Signs of lip rounding.
ROUNDED_SIGNS = "ʷᵝ"


def is_modifier(character: str) -> bool:
    """True for a sign that belongs to the letter before it: length, aspiration, accents, tones."""
    return character in _SIGNS or character in _TIES or unicodedata.category(character)[0] == "M"


def spelled_out(symbol: str) -> str:
    """`symbol` with the one-letter diphthongs and affricates of the Kokoro family as IPA."""
    return "".join(ONE_LETTER.get(character, character) for character in symbol)


def split_phone(phone: str) -> list[tuple[str, str]]:
    """The base symbols of a phone in order, each with its modifiers.

    For instance "tʃʰ" gives ("t", "") and ("ʃ", "ʰ"). Stress marks and ties are left out. Accented
    letters of Unicode are taken apart ("ã" is "a" with a tilde); "ç" is a letter of its own.
    """
    letters: list[tuple[str, str]] = []
    for character in spelled_out(phone):
        parts = character if character == "ç" else unicodedata.normalize("NFD", character)
        for part in parts:
            if part in STRESS or part in _TIES:
                continue
            if not is_modifier(part):
                letters.append((part, ""))
            elif letters:
                letters[-1] = (letters[-1][0], letters[-1][1] + part)
    return letters
