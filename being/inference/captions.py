"""Captions of spoken text: words with times become cues, and cues a WebVTT file.

A cue has at most two lines of about 42 characters and ends where a clause ends, as the guides of
broadcasters ask. It lasts a second or more where the speech leaves the time, and cues never
overlap.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from being.inference.caption_words import CaptionWord

COLUMNS = 42  # characters of a line; a Chinese character counts as two
LINES = 2
LEAST_S = 1.0  # a cue's duration, where there is time
LINGER_S = 0.3  # that a cue stays after its last word
EARLY_S = 0.5  # by which a short cue may come before its first word
GAP_S = 1.0  # of silence, at which a cue ends
CLOSE_S = 0.5  # silence between a short cue and the one that it is joined with
STEP_S = 0.04  # between the beginnings of two cues: a frame
SENTENCE_ENDS = ".!?…。！？"
CLAUSE_ENDS = SENTENCE_ENDS + ",;:—–、，；："
CLOSERS = "\"'”’»)]）」』"
CLAUSE_BONUS = 0.35  # of a sentence's length: how far from its middle it is cut at a clause


@dataclass(frozen=True)
class Cue:
    """One caption."""

    start: float  # s
    end: float  # s
    lines: tuple[str, ...]  # at most LINES


def caption_cues(words: Sequence[CaptionWord], seconds: float, columns: int = COLUMNS) -> list[Cue]:
    """The cues of words in order; they end by `seconds` s. columns: characters of a line."""
    pieces: list[Sequence[CaptionWord]] = []
    for sentence in _sentences([part for word in words for part in _short_words(word, columns)]):
        pieces += _fitting_pieces(sentence, columns)
    pieces = _without_short_ones(pieces, columns)

    starts: list[float] = []
    for piece in pieces:
        starts.append(max(piece[0].start, starts[-1] + STEP_S if starts else 0.0))
    cues: list[Cue] = []
    for k, piece in enumerate(pieces):
        start, following = starts[k], starts[k + 1] if k + 1 < len(pieces) else seconds
        end = min(max(piece[-1].end + LINGER_S, start + LEAST_S), following, seconds)
        if end - start < LEAST_S:
            before = cues[-1].end if cues else 0.0
            start = min(start, max(before, end - LEAST_S, start - EARLY_S, 0.0))
        if round(end, 3) > round(start, 3):
            lines = _lines(piece, columns)
            assert lines is not None, "each piece fits"
            cues.append(Cue(start, end, lines))
    return cues


def vtt_text(cues: Sequence[Cue], note: str = "") -> str:
    """The WebVTT file of cues. note: a comment at its top, one line."""
    blocks = ["WEBVTT"] + ([f"NOTE {note}"] if note else [])
    for cue in cues:
        text = "\n".join(_escaped(line) for line in cue.lines)
        blocks.append(f"{_clock(cue.start)} --> {_clock(cue.end)}\n{text}")
    return "\n\n".join(blocks) + "\n"


def text_width(text: str) -> int:
    """Columns that a text takes: two for wide characters, none for marks."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float) -> str:
    """Time as WebVTT writes it, 00:00:01.500."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _short_words(word: CaptionWord, columns: int) -> list[CaptionWord]:
    """A word cut into parts that fit into a line."""
    if text_width(word.text) <= columns:
        return [word]
    size = max(1, columns // 2)
    texts = [word.text[k : k + size] for k in range(0, len(word.text), size)]
    step = (word.end - word.start) / len(texts)
    parts = [
        replace(word, text=text, spaced=False, start=word.start + k * step, ends=False)
        for k, text in enumerate(texts)
    ]
    parts[0], parts[-1] = replace(parts[0], spaced=word.spaced), replace(parts[-1], ends=word.ends)
    return [replace(part, end=part.start + step) for part in parts]


def _sentences(words: list[CaptionWord]) -> list[list[CaptionWord]]:
    """The words of each sentence; a long silence and the end of a line end one too."""
    sentences: list[list[CaptionWord]] = [[]]
    for k, word in enumerate(words):
        sentences[-1].append(word)
        silent = k + 1 < len(words) and words[k + 1].start - word.end >= GAP_S
        if word.ends or silent or _ends_with(word, SENTENCE_ENDS):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def _ends_with(word: CaptionWord, marks: str) -> bool:
    return word.text.rstrip(CLOSERS)[-1:] in tuple(marks)


def _fitting_pieces(words: Sequence[CaptionWord], columns: int) -> list[Sequence[CaptionWord]]:
    """A sentence in pieces that fit into a cue: cut near the middle, best where a clause ends."""
    if _lines(words, columns) is not None:
        return [words]
    cut = _best_cut(words)
    return _fitting_pieces(words[:cut], columns) + _fitting_pieces(words[cut:], columns)


def _best_cut(words: Sequence[CaptionWord]) -> int:
    """The number of words before the best cut of at least two words."""
    widths = [text_width(word.text) + word.spaced for word in words]
    total, before, scores = sum(widths), 0, []
    for k in range(1, len(words)):
        before += widths[k - 1]
        bonus = CLAUSE_BONUS if _ends_with(words[k - 1], CLAUSE_ENDS) else 0.0
        scores.append((abs(total - 2 * before) / total - bonus, k))
    return min(scores)[1]


def _lines(words: Sequence[CaptionWord], columns: int) -> tuple[str, ...] | None:
    """The lines of a cue, None where they are too many."""
    if sum(len(word.text) for word in words) > 2 * LINES * columns:
        return None
    whole = joined_words(words)
    if text_width(whole) <= columns:
        return (whole,)
    best: tuple[float, tuple[str, ...]] | None = None
    for k in range(1, len(words)):
        lines = joined_words(words[:k]), joined_words(words[k:])
        first, second = map(text_width, lines)
        if max(first, second) > columns:
            continue
        bonus = CLAUSE_BONUS if _ends_with(words[k - 1], CLAUSE_ENDS) else 0.0
        score = abs(first - second) / (first + second) - bonus
        if best is None or score < best[0]:
            best = score, lines
    return None if best is None else best[1]


def joined_words(words: Sequence[CaptionWord]) -> str:
    """The text of words, with spaces where the text has them."""
    return "".join((" " if word.spaced and k else "") + word.text for k, word in enumerate(words))


def _without_short_ones(
    pieces: list[Sequence[CaptionWord]], columns: int
) -> list[Sequence[CaptionWord]]:
    """Pieces, where those that are spoken in less than LEAST_S are joined with a neighbour."""
    joined: list[Sequence[CaptionWord]] = []
    for piece in pieces:
        if joined:
            last = joined[-1]
            short = min(p[-1].end - p[0].start for p in (last, piece)) < LEAST_S
            close = piece[0].start - last[-1].end < CLOSE_S
            together = [*last, *piece]
            if short and close and _lines(together, columns) is not None:
                joined[-1] = together
                continue
        joined.append(piece)
    return joined
