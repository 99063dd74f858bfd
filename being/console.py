"""What a person sees while a command works: lines of text and progress with time left."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        with _screen.aside():
            print(text, file=sys.stderr if voice.json else sys.stdout, flush=True)


def warn(text: str) -> None:
    """Print one line that a person must see, even with `-q`, on stderr."""
    with _screen.aside():
        print(f"warning: {text}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """`seconds` as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class _Screen:
    """The lines of running steps at the foot of a terminal, one a step; finished steps scroll up
    above them.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running: list[Progress] = []
        self._drawn = 0

    def draw(self, finished: str = "") -> None:
        """Draw anew the lines of all running steps, under the line `finished` if there is one."""
        with self.lock:
            self._wipe()
            now, across = time.monotonic(), shutil.get_terminal_size().columns - 1
            lines = [line for line in [finished] if line] + [
                step.text(now)[:across] for step in self.running
            ]
            sys.stderr.write("".join(line + "\n" for line in lines))
            sys.stderr.flush()
            self._drawn = len(self.running)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Something else is printed: above the lines of the running steps, which come back below
        it.
        """
        with self.lock:
            drawn = self._drawn
            self._wipe()
            yield
            if drawn:
                self.draw()

    def _wipe(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\r\x1b[J")
            sys.stderr.flush()
        self._drawn = 0


_screen = _Screen()


class Progress:
    """Progress of one step: `with Progress("landmarks", total=1259) as p: p.advance()`.

    On a terminal each running step has one line that is redrawn; otherwise a line is printed every
    few seconds. Steps may run side by side in threads. The step's wall time is in `seconds`
    afterwards.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "", done: int = 0):
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.note: str | Callable[[], str] = ""
        self._first, self._pace_from = (
            done,
            0.0,
        )  # the pace is taken from the first advance on: learning comes before
        self._start = self._shown = time.monotonic()
        self._tty = sys.stderr.isatty()
        self.seconds = 0.0

    def __enter__(self) -> Progress:
        if self._tty and not voice.quiet:
            with _screen.lock:
                _screen.running.append(self)
        return self

    def advance(self, steps: int = 1, note: str | Callable[[], str] | None = None) -> None:
        """Count `steps` more; `note`, or what it says when asked (only when shown), stands behind
        the figures.
        """
        now = time.monotonic()
        if self.done == self._first and not self._pace_from:
            self._first, self._pace_from = self._first + steps, now
        self.done += steps
        if note is not None:
            self.note = note
        if now - self._shown >= (REDRAW_EVERY_S if self._tty else LINE_EVERY_S) and not voice.quiet:
            self._shown = now
            if self._tty:
                _screen.draw()
            elif self.done != self.total:  # the last line is that of the end
                print(self.text(now), file=sys.stderr, flush=True)

    def text(self, now: float) -> str:
        """The line as it is at the time `now` of the monotonic clock."""
        parts = [self.label]
        if self.total:
            parts.append(f"{self.done}/{self.total}{' ' + self.unit if self.unit else ''}")
            fresh = self.done - self._first
            if 0 < fresh and self.done < self.total:
                parts.append(
                    f"{clock((now - self._pace_from) / fresh * (self.total - self.done))} left"
                )
        elif self.done:
            parts.append(f"{self.done} {self.unit}".rstrip())
        parts.append(clock(now - self._start))
        note = self.note if isinstance(self.note, str) else self.note()
        if note:
            parts.append(note)
        return "  ".join(parts)

    def __exit__(self, kind: object, *_: object) -> None:
        now = time.monotonic()
        self.seconds = now - self._start
        if voice.quiet:
            return
        line = self.text(now) if kind is None else ""
        if self._tty:
            with _screen.lock:
                _screen.running.remove(self)
                _screen.draw(line)
        elif line:
            print(line, file=sys.stderr, flush=True)
