"""Where the words of text that comes in pieces end."""

from __future__ import annotations

import unicodedata

HOLD_MOST = 64  # letters without a space that wait for their end
# Scripts that are written without spaces between words (first word of a letter's Unicode name).
WITHOUT_SPACES = {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"}


def certain_end(text: str) -> int:
    """Where the last whole word of `text` ends: what follows may go on in the next piece."""
    end = len(text)
    while end and len(text) - end < HOLD_MOST and _goes_on(text[end - 1]):
        end -= 1
    return end if end or len(text) < HOLD_MOST else len(text)


def _goes_on(letter: str) -> bool:
    """Whether a word that ends with this letter may go on."""
    if not (letter.isalnum() or letter in "'’-"):
        return False
    return unicodedata.name(letter, "").split(" ")[0] not in WITHOUT_SPACES
