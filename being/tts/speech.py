"""The speech that a voice returns, and the text checks that all voices share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from being.errors import InputRejected
from being.tts.symbol_times import TimedSymbol, phones_of

EXAMPLE = "Give a sentence, for instance: Hello"


@dataclass(frozen=True)
class Speech:
    """Synthesized speech."""

    # float32 [T] in [-1, 1], mono
    samples: np.ndarray
    # Hz
    rate: int
    # (word as spoken, start s, end s), where the voice gives them
    words: list[tuple[str, float, float]] | None = None
    # (symbol of the voice, start s, end s), where the voice gives them: IPA letters, stress marks,
    # spaces and punctuation; `phones` joins them
    phonemes: list[TimedSymbol] | None = None
    # characters of the text that were left out, each once (emoji, symbols without a reading)
    unspoken: str = ""
    # sentences that a person should read: what was left out, a language that the voice lacks
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration, s."""
        return len(self.samples) / self.rate

    @property
    def phones(self) -> list[TimedSymbol] | None:
        """(IPA phone, start s, end s), where the voice gives times (`symbol_times.phones_of`)."""
        return None if self.phonemes is None else phones_of(self.phonemes)


def checked_text(text: str) -> str:
    """`text` without surrounding space.

    Raises InputRejected when it is not Unicode or has neither letters nor digits.
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
        raise InputRejected("there is nothing to say", "the text is empty", EXAMPLE)
    if not any(character.isalnum() for character in text):
        raise InputRejected(
            "there is nothing to say",
            f"the text has neither letters nor digits: {visible_characters(text)}",
            EXAMPLE,
        )
    return text


def visible_characters(text: str, limit: int = 10) -> str:
    """The distinct visible characters of `text` in order, at most `limit`, for a message."""
    distinct = [
        character if character.isprintable() else f"U+{ord(character):04X}"
        for character in dict.fromkeys(text)
        if not character.isspace()
    ]
    return " ".join(distinct[:limit]) + (" ..." if len(distinct) > limit else "")
