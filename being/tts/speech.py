"""What a voice returns, and the checks on text that all voices share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.errors import InputRejected


@dataclass(frozen=True)
class Speech:
    """Spoken text."""

    samples: np.ndarray  # float32 [T] in [-1, 1], mono
    rate: int  # Hz
    words: list[tuple[str, float, float]] | None = (
        None  # (word as spoken, start s, end s), where the voice tells
    )
    phonemes: list[tuple[str, float, float]] | None = (
        None  # (IPA symbol, start s, end s), where the voice tells
    )
    # characters of the text that were left out, each once (emoji, symbols without a reading)
    unspoken: str = ""

    @property
    def seconds(self) -> float:
        """Duration, s."""
        return len(self.samples) / self.rate


def checked_text(text: str) -> str:
    """`text` without surrounding space. Raises InputRejected if it is not Unicode or has no letter
    and no digit.
    """
    text = text.strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputRejected(
            "the text cannot be read",
            f"it is not valid Unicode at character {error.start + 1}",
            "Give it in UTF-8",
        ) from error
    if not text:
        raise InputRejected(
            "there is nothing to say", "the text is empty", "Give a sentence, for instance: Hello"
        )
    if not any(character.isalnum() for character in text):
        raise InputRejected(
            "there is nothing to say",
            f"the text has neither letters nor digits: {shown(text)}",
            "Give a sentence, for instance: Hello",
        )
    return text


def shown(characters: str, most: int = 10) -> str:
    """The distinct visible characters in order of appearance, for a message: at most `most` of
    them.
    """
    distinct = [
        c if c.isprintable() else f"U+{ord(c):04X}"
        for c in dict.fromkeys(characters)
        if not c.isspace()
    ]
    return " ".join(distinct[:most]) + (" ..." if len(distinct) > most else "")
