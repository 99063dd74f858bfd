"""Console output: lines of text, and progress of running steps with the time left."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Off a terminal, a line of progress is printed every few seconds, so that log files stay readable.
LINE_EVERY_S = 5.0
REDRAW_EVERY_S = 0.2


@dataclass
class Console:
    """Prints lines for people. `quiet` drops information; `json` moves it from stdout to stderr."""

    quiet: bool = False
    json: bool = False

    def info(self, text: str) -> None:
        """Print one line of information (stdout, or stderr when stdout carries JSON)."""
        if not self.quiet:
            with _screen.aside():
                print(text, file=sys.stderr if self.json else sys.stdout, flush=True)

    def warn(self, text: str) -> None:
        """Print one warning line on stderr, even with `-q`."""
        with _screen.aside():
            print(f"warning: {text}", file=sys.stderr, flush=True)


# The console of the running command.
console = Console()


def clock(seconds: float) -> str:
    """`seconds` as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class _Screen:
    """The progress lines at the bottom of a terminal, one a running step.

    Lines of finished steps scroll up above them.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running: list[Progress] = []
        self._drawn_lines = 0

    def draw(self, finished: str = "") -> None:
        """Draw the lines of all running steps again, below the line `finished` if there is one."""
        with self.lock:
            self._erase()
            now, columns = time.monotonic(), shutil.get_terminal_size().columns - 1
            lines = [finished] if finished else []
            lines += [step.text(now)[:columns] for step in self.running]
            sys.stderr.write("".join(line + "\n" for line in lines))
            sys.stderr.flush()
            self._drawn_lines = len(self.running)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Erase the progress lines while other text is printed, then draw them below it."""
        with self.lock:
            drawn = self._drawn_lines
            self._erase()
            yield
            if drawn:
                self.draw()

    def _erase(self) -> None:
        if self._drawn_lines:
            sys.stderr.write(f"\x1b[{self._drawn_lines}A\r\x1b[J")
            sys.stderr.flush()
        self._drawn_lines = 0


_screen = _Screen()


class Progress:
    """Progress of one step: `with Progress("landmarks", total=1259) as p: p.advance()`.

    On a terminal, each running step has one line that is redrawn; otherwise a line is printed every
    few seconds. Steps may run in parallel threads. `seconds` is the step's wall time afterwards.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "", done: int = 0):
        """total: number of units, if known; done: units that an earlier run has done."""
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.note: str | Callable[[], str] = ""
        self.seconds = 0.0
        # The pace is measured from the first advance on, because loading comes before it.
        self._first_done, self._first_time = done, 0.0
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if self._terminal and not console.quiet:
            with _screen.lock:
                _screen.running.append(self)
        return self

    def advance(self, steps: int = 1, note: str | Callable[[], str] | None = None) -> None:
        """Count `steps` more.

        note: text after the numbers, or a function that returns it and is called when it is shown.
        """
        now = time.monotonic()
        if self.done == self._first_done and not self._first_time:
            self._first_done, self._first_time = self._first_done + steps, now
        self.done += steps
        if note is not None:
            self.note = note

        interval = REDRAW_EVERY_S if self._terminal else LINE_EVERY_S
        if console.quiet or now - self._shown < interval:
            return
        self._shown = now
        if self._terminal:
            _screen.draw()
        elif self.done != self.total:
            # The last line is printed at the end of the step.
            print(self.text(now), file=sys.stderr, flush=True)

    def text(self, now: float) -> str:
        """The progress line at the time `now` of the monotonic clock."""
        parts = [self.label]
        unit = f" {self.unit}" if self.unit else ""
        if self.total:
            parts.append(f"{self.done}/{self.total}{unit}")
            measured = self.done - self._first_done
            if 0 < measured and self.done < self.total:
                pace = (now - self._first_time) / measured
                parts.append(f"{clock(pace * (self.total - self.done))} left")
        elif self.done:
            parts.append(f"{self.done}{unit}")
        parts.append(clock(now - self._start))

        note = self.note if isinstance(self.note, str) else self.note()
        if note:
            parts.append(note)
        return "  ".join(parts)

    def __exit__(self, kind: object, *_: object) -> None:
        now = time.monotonic()
        self.seconds = now - self._start
        if console.quiet:
            return
        line = self.text(now) if kind is None else ""
        if self._terminal:
            with _screen.lock:
                _screen.running.remove(self)
                _screen.draw(line)
        elif line:
            print(line, file=sys.stderr, flush=True)
