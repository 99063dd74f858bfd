"""The script of a text: what is spoken of Markdown and SSML, and the pauses that it asks for.

`[pause 0.5]` and `<break time="500ms"/>` become pauses. All other tags are dropped. Markdown is
read by markdown-it-py: headings, list items and cells become sentences, links and pictures their
words, a block of code is left out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from being.errors import InputRejected
from being.tts.speech import checked_text

TEXT_MAX = 200_000  # characters: about three hours of speech
PAUSE_MAX = 30.0  # s, of one pause
PAUSES_MAX = 600.0  # s, of all pauses of a text
# Seconds of <break strength="..."/>; those of Azure's voices.
STRENGTHS = {
    "none": 0.0,
    "x-weak": 0.25,
    "weak": 0.5,
    "medium": 0.75,
    "strong": 1.0,
    "x-strong": 1.25,
}
HOW_TO_PAUSE = 'Write [pause 0.5] or <break time="500ms"/>, for at most 30 s'
# Tags that only divide or wrap a text: nothing is lost without them.
DIVIDING_TAGS = ("br", "p", "s")
WRAPPING_TAGS = ("speak",)
CODE = "a block of code"
# A line of at least so many characters was wrapped by an editor: its end is a space.
WRAPPED_LEAST = 40
# After these no full stop is added to a heading, a list item or a cell.
STOPS = ".,;:!?…—–。！？：；，、"

_SECONDS = re.compile(
    r"([+-]?)(\d+(?:[.,]\d*)?|[.,]\d+)\s*(ms|milliseconds?|s|sec|seconds?|)", re.I
)
_ATTRIBUTE = re.compile(r"([\w:-]+)\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"'>]+)")
_TAG = r"</?[A-Za-z][\w:.-]*(?:\s[^<>]*=[^<>]*)?\s*/?>"
_MARK = re.compile(
    rf"\[\s*pause\b(?P<pause>[^\[\]\n]*)\]|(?P<tag>{_TAG})"
    r"|(?P<broken>\[\s*pause\b[^\n]{0,40}|<\s*break\b[^\n]{0,40})",
    re.I,
)
_ADDRESS = re.compile(r"\bhttps?://[^\s<>\"]+|\bwww\.[^\s<>\"]+\.[^\s<>\"]+", re.I)
_FOOTNOTE = re.compile(r"\[\^[^\]\s]+\]")
_TASK = re.compile(r"\s*\[[ xX]\]\s+")
_RULE = re.compile(r"^[ \t]*[=\-*_|:]{3,}[ \t]*$", re.M)
# Marks of emphasis that have lost their partner.
_OPENING = re.compile(r"(?<![\w*_~])(?:\*{1,3}|_{1,3}|~~)(?=\w)")
_CLOSING = re.compile(r"(?<=[\w.,;:!?…)\"'”’])(?:\*{1,3}|_{2,3}|~~)(?![\w*_~])")
_PRODUCT = re.compile(r"(?<=\d)\*(?=\d)")


@dataclass(frozen=True)
class Pause:
    """Silence between two words."""

    seconds: float


Part = str | Pause


@dataclass(frozen=True)
class Script:
    """What a voice says of a text."""

    # Texts and pauses in turn; every text has letters or digits.
    parts: tuple[Part, ...]
    # What is not spoken, each once: tags ("<prosody>") and blocks of code.
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The spoken text without its pauses."""
        return " ".join(part for part in self.parts if isinstance(part, str))


def read_script(text: str, pauses_most: float = PAUSES_MAX) -> Script:
    """The script of `text`, which may hold Markdown and SSML.

    pauses_most: s, of all pauses together. Raises InputRejected for text without letters and
    digits, for text that is too long, and for a pause that cannot be read, is negative or is longer
    than PAUSE_MAX.
    """
    if len(text) > TEXT_MAX:
        raise InputRejected(
            f"the text has {len(text):,} characters",
            f"at most {TEXT_MAX:,} are spoken at once",
            "Give it in parts",
        )
    reader = ScriptReader()
    reader.read_blocks(checked_text(text))
    parts = joined_parts(reader.take())
    if not any(isinstance(part, str) for part in parts):
        left_out = ", ".join(reader.left_out)
        raise InputRejected(
            "there is nothing to say",
            "the text is empty without its markup" + (f" ({left_out})" if left_out else ""),
            "Give a sentence, for instance: Hello",
        )
    check_pauses(parts, pauses_most)
    return Script(tuple(parts), tuple(reader.left_out))


def check_pauses(parts: Iterable[Part], most: float, before: float = 0.0) -> float:
    """Seconds of all pauses, with those before. Raises InputRejected above `most` seconds."""
    total = before + sum(part.seconds for part in parts if isinstance(part, Pause))
    if total > most:
        raise InputRejected(
            f"the pauses of the text last {total:.0f} s",
            f"at most {most:.0f} s are allowed",
            "Give it in parts",
        )
    return total


def joined_parts(parts: Iterable[Part]) -> list[Part]:
    """`parts` with neighbouring texts and pauses joined, and without text that nobody can say."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif isinstance(part, Pause) and isinstance(last, Pause):
            joined[-1] = Pause(last.seconds + part.seconds)
        else:
            joined.append(part)
    spoken = [p.strip() if isinstance(p, str) else p for p in joined]
    kept = [p for p in spoken if not isinstance(p, str) or is_spoken(p)]
    return kept if len(kept) == len(joined) else joined_parts(kept)


def is_spoken(text: str) -> bool:
    """Whether there is anything to say in `text`."""
    return any(character.isalnum() for character in text)


class ScriptReader:
    """Collects the parts of Markdown and SSML that is read piece by piece."""

    def __init__(self) -> None:
        self.left_out: dict[str, None] = {}
        self._parts: list[Part] = []
        self._row: list[list[Part]] = []  # cells of the table's row
        self._header: list[str] = []
        self._in_item = 0  # depth of the list
        self._in_head = self._in_cell = False

    def take(self) -> list[Part]:
        """The parts that were read since the last call."""
        parts, self._parts = self._parts, []
        return parts

    def read_blocks(self, text: str) -> None:
        """Read whole blocks: paragraphs, headings, lists, tables."""
        for token in _markdown().parse(_PRODUCT.sub(" × ", text)):
            self._read_block(token)

    def read_inline(self, text: str) -> None:
        """Read a piece of a line."""
        for token in _markdown().parseInline(_PRODUCT.sub(" × ", text)):
            self._parts += self._inline(token.children or [])

    def add(self, text: str) -> None:
        """Append text that needs no reading."""
        self._parts.append(text)

    def end_sentence(self) -> None:
        """End a heading, a list item or a row with a full stop, where it has none."""
        written = (p for p in reversed(self._parts) if isinstance(p, Pause) or p.strip())
        last = next(written, "")
        if isinstance(last, str):
            self._parts.append(full_stop(last))
        self._parts.append("\n")

    def _read_block(self, token: Token) -> None:
        kind = token.type
        if kind in ("fence", "code_block"):
            self.left_out[CODE] = None
        elif kind == "list_item_open":
            self._in_item += 1
            self.add(f"{token.info}. " if token.info else "")
        elif kind == "list_item_close":
            self._in_item -= 1
        elif kind in ("thead_open", "tr_open"):
            self._in_head = self._in_head or kind == "thead_open"
            self._row = []
        elif kind in ("th_open", "td_open", "th_close", "td_close"):
            self._in_cell = kind.endswith("open")
        elif kind == "tr_close":
            self._end_row()
        elif kind == "thead_close":
            self._in_head = False
        elif kind == "inline":
            self._read_paragraph(token)
        elif kind == "heading_close" or (kind == "paragraph_close" and self._in_item):
            self.end_sentence()
        elif kind == "paragraph_close":
            self.add("\n")

    def _read_paragraph(self, token: Token) -> None:
        children = token.children or []
        parts = self._inline(children)
        if self._in_item and parts and isinstance(parts[0], str):
            parts[0] = _TASK.sub("", parts[0], count=1)
        if self._in_cell:
            self._row.append(parts)
            return
        self._parts += parts
        # A paragraph that is bold as a whole is a heading.
        marks = [child.type for child in children if child.content or child.nesting]
        whole = marks[:1] == ["strong_open"] and marks[-1:] == ["strong_close"]
        if whole and marks.count("strong_open") == 1:
            self.end_sentence()

    def _end_row(self) -> None:
        cells = [_plain_text(cell) for cell in self._row]
        if self._in_head:
            self._header = cells
            return
        first = True
        for k, cell in enumerate(self._row):
            if not is_spoken(cells[k]):
                continue
            title = self._header[k] if k < len(self._header) else ""
            self.add(("" if first else ", ") + (f"{title}: " if is_spoken(title) else ""))
            self._parts += cell
            first = False
        if not first:
            self.end_sentence()

    def _inline(self, tokens: Sequence[Token]) -> list[Part]:
        """The parts of a paragraph's tokens."""
        parts: list[Part] = []
        line = 0  # characters of the line
        skipped = False  # the words of an address
        for token in tokens:
            if token.type == "link_open" and token.info == "auto":
                parts.append(self._address(str(token.attrs.get("href", ""))))
                skipped = True
            elif token.type == "link_close":
                skipped = False
            elif token.type == "html_inline":
                parts += self._tag(token.content)
            elif token.type == "image":
                parts += self._inline(token.children or [])
            elif token.type in ("text", "code_inline") and not skipped:
                parts += self._text(token.content)
                line += len(token.content)
            elif token.type in ("softbreak", "hardbreak"):
                wrapped = token.type == "softbreak" and line >= WRAPPED_LEAST
                parts.append(" " if wrapped else "\n")
                line = 0
        return parts

    def _text(self, text: str) -> list[Part]:
        """The parts of text in which the parser saw no markup."""
        parts: list[Part] = []
        done = 0
        for found in _MARK.finditer(text):
            parts.append(_clean(text[done : found.start()]))
            done = found.end()
            if found["broken"] is not None:
                raise _bad_pause(found["broken"], "it has no end")
            if found["pause"] is not None:
                amount = found["pause"].strip(" \t:=,\"'")
                seconds = STRENGTHS["medium"] if not amount else _seconds(amount, found.group(), 1)
                parts.append(Pause(seconds))
            else:
                parts += self._tag(found["tag"])
        return [*parts, _clean(text[done:])]

    def _tag(self, tag: str) -> list[Part]:
        """What a tag asks for: a pause, a new line, or nothing."""
        named = re.match(r"</?\s*([\w:.-]+)", tag)
        if not named:
            return []  # a comment or an instruction
        name = named[1].lower()
        if name == "break":
            return [] if tag.startswith("</") else [Pause(_break_seconds(tag))]
        if name in DIVIDING_TAGS:
            return ["\n"]
        if name not in WRAPPING_TAGS:
            self.left_out[f"<{name}>"] = None
        return []

    def _address(self, address: str) -> str:
        """How the address of a page or a mailbox is read."""
        scheme = address.partition(":")[0].lower()
        if scheme in ("http", "https"):
            return _host(address)
        if scheme == "mailto":
            return address.partition(":")[2]
        # <mstts:express-as> has the form of an address.
        self.left_out[f"<{address[:40]}>"] = None
        return ""


@functools.lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    """The parser. Tags stay in paragraphs, indented text is no code, `[Anna]: Hello` is text."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.disable(["html_block", "code", "reference"])
    return parser


def full_stop(text: str) -> str:
    """The full stop that `text` needs at its end, or ""."""
    end = text.rstrip().rstrip("\"'”’»)]*_")[-1:]
    if not end or end in STOPS:
        return ""
    return "。" if "\u3040" <= end <= "\u9fff" else "."


def _clean(text: str) -> str:
    """`text` without rules, footnotes, paths of addresses and lone marks of emphasis."""
    text = _FOOTNOTE.sub("", _ADDRESS.sub(lambda found: _host(found.group()), text))
    text = _CLOSING.sub("", _OPENING.sub("", _RULE.sub("", text)))
    return text.replace(" | ", ", ")


def _host(address: str) -> str:
    """The host of an address, with the punctuation that follows it in the text."""
    bare = address.rstrip(".,;:!?)]}'*_")
    try:
        host = urlsplit(bare if "//" in bare else f"//{bare}").hostname or ""
    except ValueError:
        host = ""
    return host.removeprefix("www.") + address[len(bare) :]


def _plain_text(parts: Iterable[Part]) -> str:
    return "".join(part for part in parts if isinstance(part, str)).strip()


def _break_seconds(tag: str) -> float:
    """Seconds of the tag <break>: its time, else its strength."""
    values = {name.lower(): value.strip("\"'") for name, value in _ATTRIBUTE.findall(tag)}
    if "time" in values:
        return _seconds(values["time"].rstrip("/").strip(), tag, 0)
    strength = values.get("strength", "medium").rstrip("/").strip().lower()
    if strength not in STRENGTHS:
        raise _bad_pause(tag, f"its strength is none of {', '.join(STRENGTHS)}")
    return STRENGTHS[strength]


def _seconds(amount: str, where: str, unit: float) -> float:
    """Seconds of an amount with a unit; unit: s of a number without one, 0 where it needs one."""
    found = _SECONDS.fullmatch(amount)
    if not found or (not found[3] and not unit):
        raise _bad_pause(
            where, f"'{amount[:40]}' is no time" + ("" if unit else ' such as "500ms"')
        )
    seconds = float(found[2].replace(",", ".").rstrip("."))
    seconds *= 0.001 if found[3].lower().startswith("m") else 1
    if found[1] == "-" and seconds:
        raise _bad_pause(where, "it is negative")
    if not seconds <= PAUSE_MAX:
        raise _bad_pause(where, f"it is longer than {PAUSE_MAX:.0f} s")
    return seconds


def _bad_pause(where: str, why: str) -> InputRejected:
    return InputRejected(f"the pause {where[:60].strip()} cannot be used", why, HOW_TO_PAUSE)
