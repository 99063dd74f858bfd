"""The words of a text with the times at which a voice said them.

A voice gives times of the words that it spoke ("five dollars"), a caption shows those that are
written ("$5."). Both are compared in order. Written words without a partner get the time of the
spoken ones between their neighbours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from being.tts.script import Part

REACH = 16  # words that are looked ahead for the next pair
JOINERS = "\u200c\u200d"

# (word, start s, end s)
SpokenWord = tuple[str, float, float]


@dataclass(frozen=True)
class CaptionWord:
    """A written word, or a character of a script without spaces, with its punctuation."""

    text: str
    spaced: bool  # a space stands before it
    ends: bool  # its line ends, or a pause follows
    start: float = 0.0  # s
    end: float = 0.0  # s


def caption_words(parts: Sequence[Part], spoken: Sequence[SpokenWord]) -> list[CaptionWord]:
    """The written words of a script's parts, with times from the words that were spoken."""
    words = [word for part in parts if isinstance(part, str) for word in written_words(part)]
    said = [single for word in spoken for single in _single_words(word)]
    keys, said_keys = [_key(word.text) for word in words], [_key(word) for word, _, _ in said]
    times: list[tuple[float, float] | None] = [None] * len(words)
    i = j = 0
    while i < len(words) and j < len(said):
        ahead, said_ahead = _next_pair(keys[i : i + REACH], said_keys[j : j + REACH])
        times[i : i + ahead] = _spread(words[i : i + ahead], said[j : j + said_ahead])
        i, j = i + ahead, j + said_ahead
        if i < len(words) and j < len(said) and keys[i] == said_keys[j]:
            times[i] = said[j][1:]
            i, j = i + 1, j + 1
    times[i:] = _spread(words[i:], said[j:])
    return _with_times(words, times, said)


def written_words(text: str) -> list[CaptionWord]:
    """The words of a text, without times. What is no word belongs to the word before it."""
    words: list[CaptionWord] = []
    lines = text.splitlines()
    for line in lines:
        first = len(words)
        for chunk in line.split():
            printable = "".join(c for c in chunk if c.isprintable() or c in JOINERS)
            for k, piece in enumerate(_without_spaces(printable)):
                spaced = k == 0
                if words and not any(c.isalnum() for c in piece) and len(words) > first:
                    joint = " " if spaced else ""
                    words[-1] = replace(words[-1], text=words[-1].text + joint + piece)
                elif piece:
                    words.append(CaptionWord(piece, spaced, False))
        if len(words) > first:
            words[-1] = replace(words[-1], ends=True)
    return words


def _without_spaces(chunk: str) -> list[str]:
    """A chunk between two spaces, with each wide letter on its own; marks stay at letters."""
    pieces: list[str] = []
    apart = False  # the piece before is a wide letter
    for character in chunk:
        wide = character.isalnum() and unicodedata.east_asian_width(character) in "WF"
        if not pieces or wide or (apart and character.isalnum()):
            pieces.append(character)
        else:
            pieces[-1] += character
        apart = wide or (apart and not character.isalnum())
    return pieces


def _single_words(word: SpokenWord) -> list[SpokenWord]:
    """A word that a voice speaks; where it gives a whole clause as one, its words."""
    text, start, end = word
    pieces = [piece for chunk in text.split() for piece in _without_spaces(chunk)]
    total = sum(map(len, pieces))
    singles, at = [], 0
    for piece in pieces:
        begin, at = at, at + len(piece)
        span = (end - start) / total
        singles.append((piece, start + begin * span, start + at * span))
    return singles


def _key(text: str) -> str:
    """What is compared of a word: its letters and digits, without case."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in normal if c.isalnum())


def _next_pair(keys: Sequence[str], said: Sequence[str]) -> tuple[int, int]:
    """How many written and spoken words come before the next equal ones; one each if none are."""
    for total in range(len(keys) + len(said) - 1):
        for ahead in range(max(0, total - len(said) + 1), min(total, len(keys) - 1) + 1):
            if keys[ahead] and keys[ahead] == said[total - ahead]:
                return ahead, total - ahead
    return 1, 1


def _spread(
    words: Sequence[CaptionWord], said: Sequence[SpokenWord]
) -> list[tuple[float, float] | None]:
    """The time of the spoken words divided among the written ones, by their lengths."""
    if not words or not said:
        return [None] * len(words)
    start, span = said[0][1], max(0.0, said[-1][2] - said[0][1])
    total, at = sum(len(word.text) for word in words), 0
    times: list[tuple[float, float] | None] = []
    for word in words:
        begin, at = at, at + len(word.text)
        times.append((start + span * begin / total, start + span * at / total))
    return times


def _with_times(
    words: Sequence[CaptionWord],
    times: Sequence[tuple[float, float] | None],
    said: Sequence[SpokenWord],
) -> list[CaptionWord]:
    """The words with rising times; those without one come right after the word before."""
    timed: list[CaptionWord] = []
    now = said[0][1] if said else 0.0
    for word, time in zip(words, times, strict=True):
        start, end = time or (now, now)
        start = max(start, now)
        now = max(end, start)
        timed.append(replace(word, start=start, end=now))
    return timed
