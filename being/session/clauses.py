"""Cuts text that comes in pieces into clauses: the first is spoken while later ones come."""

from __future__ import annotations

import re

# Ends of a sentence and of a clause, with the space after them.
SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’)\]]*(?=\s|$)\s*|\n+")
CLAUSE_END = re.compile(r"[,;:—–.!?…。！？、]+[\"'”’)\]]*(?=\s|$)\s*|\n+")
# The first clause is short, so that it plays soon; without punctuation it ends after some words.
FIRST_LEAST, FIRST_MOST = 8, 48  # characters
# Later ones are whole sentences, which sound better, up to this length.
LATER_MOST = 240


class ClauseCutter:
    """Text in, clauses out."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def push(self, text: str) -> list[str]:
        """The clauses that are complete now. More text may follow."""
        self._text += text
        clauses = []
        while (clause := self._next(final=False)) is not None:
            clauses.append(clause)
        return [clause for clause in clauses if clause]

    def finish(self) -> list[str]:
        """The remaining clauses. No text follows."""
        clauses = []
        while self._text.strip():
            clause = self._next(final=True)
            clauses.append(self._cut(len(self._text)) if clause is None else clause)
        return [clause for clause in clauses if clause]

    def _next(self, final: bool) -> str | None:
        """The next clause, cut off the text, or None where it may go on."""
        pattern, least = (CLAUSE_END, FIRST_LEAST) if self._first else (SENTENCE_END, 1)
        most = FIRST_MOST if self._first else LATER_MOST
        for found in pattern.finditer(self._text):
            if found.end() == len(self._text) and not final and "\n" not in found.group():
                # "3." may go on as "3.5".
                break
            if len(self._text[: found.end()].strip()) >= least and _spoken(
                self._text[: found.end()]
            ):
                if found.end() <= most:
                    return self._cut(found.end())
                break
        if len(self._text) <= most:
            return None
        # Too long: at the last pause, else between words, else anywhere.
        head = self._text[:most]
        pauses = [found.end() for found in CLAUSE_END.finditer(head) if found.end() < most]
        space = head.rfind(" ")
        if pauses and _spoken(head[: pauses[-1]]):
            return self._cut(pauses[-1])
        return self._cut(space + 1 if space > 0 else most)

    def _cut(self, end: int) -> str:
        clause, self._text = self._text[:end].strip(), self._text[end:]
        self._first = self._first and not clause
        return clause


def _spoken(text: str) -> bool:
    """Whether there is anything to say in `text`."""
    return any(character.isalnum() for character in text)
