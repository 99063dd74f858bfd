"""The script of text that comes in fragments, as language models stream it.

Words come out as soon as they are certain. What a fragment may have cut in two waits: a tag, a
pause, a link or code until its end, a table until its last row. A line ends all of these but the
table, and so do HOLD_MOST characters. Marks of emphasis are dropped one by one, so bold text need
not wait for its end. The text of one single message is read as a whole (`read_script`).
"""

from __future__ import annotations

import re

from being.tts.script import (
    CODE,
    PAUSES_MAX,
    WRAPPED_LEAST,
    Part,
    ScriptReader,
    check_pauses,
    full_stop,
)

HOLD_MOST = 300  # characters of an unfinished tag, link or piece of code
TABLE_MOST = 5_000  # characters of an unfinished table
_PREFIX = re.compile(r"[ \t]*(?:#{1,6}|[-*+]|>|(\d{1,9})[.)])[ \t]+|[ \t]*>")
_TASK = re.compile(r"^\[[ xX]\][ \t]+")
_RULE = re.compile(r"[ \t]*([-=*_][ \t]*){3,}$")
_FENCE = re.compile(r"[ \t]*(?:[-*+>][ \t]+)?(`{3,}|~{3,})")
_HELD = re.compile(r"!?\[|`+|<[A-Za-z/!?]")


class ScriptStream:
    """Fragments of a text in, parts of its script out."""

    def __init__(self, pauses_most: float = PAUSES_MAX) -> None:
        """pauses_most: s, of all pauses together."""
        self._pauses_most, self._paused = pauses_most, 0.0  # s
        self._reader = ScriptReader()
        self._held = ""  # text that is not read yet
        self._fence = ""  # the mark that ends the block of code
        self._new_line = True  # `_held` begins at the start of a line
        self._item = False  # the line is a heading or an item of a list
        self._length = 0  # characters of the line so far
        self._end = ""  # the end of what was read of the line

    def push(self, text: str) -> list[Part]:
        """The parts that are certain now. More text may follow.

        Raises InputRejected for a pause that cannot be used, and for too many; the text after it
        can be pushed on.
        """
        self._held += text.replace("\r\n", "\n")
        while self._read_next(final=False):
            pass
        return self._take()

    def finish(self) -> list[Part]:
        """The remaining parts. No text follows. Raises as `push`."""
        while self._held and self._read_next(final=True):
            pass
        self._end_line("")
        return self._take()

    def _take(self) -> list[Part]:
        parts = self._reader.take()
        self._paused = check_pauses(parts, self._pauses_most, self._paused)
        return parts

    def _read_next(self, final: bool) -> bool:
        """Read the next piece of the held text; whether there was one that is certain."""
        line, newline, _ = self._held.partition("\n")
        whole = bool(newline) or final
        if self._fence:
            return self._skip_code(line, whole)
        if self._new_line and (fence := _FENCE.match(line)):
            if whole:
                self._fence = fence[1]
                self._reader.left_out[CODE] = None
                self._held = self._held[len(line) + 1 :]
            return whole
        if self._new_line and line.lstrip().startswith("|"):
            return self._read_table(final)
        end = len(line) if whole else _certain_end(line)
        if not whole and not end:
            return False
        self._held = self._held[end + len(newline) :] if whole else self._held[end:]
        self._read_words(line[:end])
        if whole:
            self._end_line("" if newline == "" else "\n")
        return bool(self._held) or not whole

    def _skip_code(self, line: str, whole: bool) -> bool:
        """Skip a line of a block of code."""
        if not whole:
            if len(line) > HOLD_MOST:  # no end of a block is as long
                self._held = line[:1] + line[-1:]
            return False
        fence = line.strip()
        if fence.startswith(self._fence) and not fence.strip(self._fence[0]):
            self._fence = ""
        self._held = self._held[len(line) + 1 :]
        return True

    def _read_table(self, final: bool) -> bool:
        """Read a table, once the line after it has begun."""
        end = 0
        for row in self._held.splitlines(keepends=True):
            if row.strip() and not row.lstrip().startswith("|"):
                break
            if not row.endswith("\n") and not final and end + len(row) < TABLE_MOST:
                return False
            end += len(row)
        if end == len(self._held) and not final and end < TABLE_MOST:
            return False
        table, self._held = self._held[:end], self._held[end:]
        self._reader.read_blocks(table)
        return bool(self._held)

    def _read_words(self, piece: str) -> None:
        """Read a piece of a line that cuts no markup in two."""
        if self._new_line:
            piece = self._without_prefix(piece)
        elif piece[:1].isspace():
            self._reader.add(" ")
        self._new_line = self._new_line and not piece.strip()
        self._length += len(piece)
        if piece.strip():
            self._reader.read_inline(piece.strip())
            self._reader.add(" " if piece[-1].isspace() else "")
            self._end = piece.rstrip()[-20:]

    def _without_prefix(self, piece: str) -> str:
        """The beginning of a line without the marks of headings, lists and quotes."""
        if _RULE.match(piece):
            return ""
        while found := _PREFIX.match(piece):
            self._item = True
            self._reader.add(f"{found[1]}. " if found[1] else "")
            piece = piece[found.end() :]
        return _TASK.sub("", piece, count=1) if self._item else piece

    def _end_line(self, newline: str) -> None:
        """End a line: a full stop for an item, a space where an editor wrapped the text."""
        wrapped = self._length >= WRAPPED_LEAST and not self._item
        if self._item and self._end:
            self._reader.add(full_stop(self._end))
        if newline:
            self._reader.add(" " if wrapped else newline)
        self._new_line, self._item, self._length, self._end = True, False, 0, ""


def _certain_end(line: str) -> int:
    """Where the words of an unfinished line end that no markup can hold any more."""
    at = 0
    while found := _HELD.search(line, at):
        stop = _construct_end(line, found)
        if stop is None and len(line) - found.start() < HOLD_MOST:
            line = line[: found.start()]
            break
        at = stop if stop is not None else found.end()
    space = max(line.rfind(" "), line.rfind("\t"))
    # A link whose brackets hold a space is one word.
    return space + 1 if space + 1 > at else _last_space_before(line, at)


def _construct_end(line: str, start: re.Match[str]) -> int | None:
    """One past the tag, link or code that begins at `start`; None where it is not finished."""
    mark = start.group()
    if mark[0] == "`":
        end = line.find(mark, start.end())
        return None if end < 0 or end + len(mark) == len(line) else end + len(mark)
    if mark[0] == "<":
        end = line.find(">", start.end())
        return None if end < 0 else end + 1
    end = line.find("]", start.end())
    if end < 0 or end + 1 == len(line):
        return None
    if line[end + 1] != "(":
        return end + 1
    close = line.find(")", end)
    return None if close < 0 else close + 1


def _last_space_before(line: str, at: int) -> int:
    """`at` where the construct that ends there is followed by a space, else nothing is certain."""
    return at if line[at : at + 1].isspace() else 0
