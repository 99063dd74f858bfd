"""What a person sees while a command works: lines of text and progress with time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

LINE_EVERY_S = 5.0  # off a terminal: one line every few seconds, so that log files stay readable
REDRAW_EVERY_S = 0.2


@dataclass
class Voice:
    """How the running command talks: `quiet` drops human text, `json` moves it to stderr."""

    quiet: bool = False
    json: bool = False


voice = Voice()


def say(text: str) -> None:
    """Print one line of human text (stdout, or stderr when stdout carries JSON)."""
    if not voice.quiet:
        print(text, file=sys.stderr if voice.json else sys.stdout, flush=True)


def warn(text: str) -> None:
    """Print one line that a person must see, even with `-q`, on stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """`seconds` as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class Progress:
    """Progress of one step: `with Progress("landmarks", total=1259) as p: p.advance()`.

    On a terminal one line is redrawn; otherwise a line is printed every few seconds. The step's wall time is in
    `seconds` afterwards.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "", done: int = 0):
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.note: str | Callable[[], str] = ""
        self._first = done
        self._start = self._shown = time.monotonic()
        self._tty = sys.stderr.isatty()
        self._drawn = False
        self.seconds = 0.0

    def __enter__(self) -> Progress:
        return self

    def advance(self, steps: int = 1, note: str | Callable[[], str] | None = None) -> None:
        """Count `steps` more; `note`, or what it says when asked (only when shown), stands behind the figures."""
        self.done += steps
        if note is not None:
            self.note = note
        now = time.monotonic()
        if now - self._shown >= (REDRAW_EVERY_S if self._tty else LINE_EVERY_S):
            self._shown = now
            self._show(now)

    def _text(self, now: float) -> str:
        spent = now - self._start
        parts = [self.label]
        if self.total:
            parts.append(f"{self.done}/{self.total}{' ' + self.unit if self.unit else ''}")
            fresh = self.done - self._first
            if 0 < fresh and self.done < self.total:
                parts.append(f"{clock(spent / fresh * (self.total - self.done))} left")
        elif self.done:
            parts.append(f"{self.done} {self.unit}".rstrip())
        parts.append(clock(spent))
        note = self.note if isinstance(self.note, str) else self.note()
        if note:
            parts.append(note)
        return "  ".join(parts)

    def _show(self, now: float) -> None:
        if voice.quiet:
            return
        if self._tty:
            self._drawn = True
            sys.stderr.write("\r\x1b[2K" + self._text(now)[:200])
            sys.stderr.flush()
        else:
            print(self._text(now), file=sys.stderr, flush=True)

    def __exit__(self, kind: object, *_: object) -> None:
        now = time.monotonic()
        self.seconds = now - self._start
        if voice.quiet:
            return
        if self._drawn:
            sys.stderr.write("\r\x1b[2K")
        if kind is None:
            print(self._text(now), file=sys.stderr, flush=True)
