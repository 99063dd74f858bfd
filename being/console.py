"""Console output: lines of text, and progress of running steps with the time left.

On a terminal, rich draws the progress (`progress_bars`). All other lines are written here.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from being.progress_bars import Bars, Row

# Off a terminal, a line of progress is printed every few seconds, so that log files stay readable.
LINE_EVERY_S = 5.0
REDRAW_EVERY_S = 0.2
# A thread redraws or prints what is due also while a step does not advance.
TICK_S = 0.25
IDLE_REDRAW_EVERY_S = 1.0
NOTE_EVERY_S = 1.0  # how often a function that returns a note is called

# The pace of a step
SAMPLE_S = 0.2  # shortest sample
WINDOW_SAMPLES = 100  # the pace is the mean of the last ones
START_SAMPLES = 10  # the first ones, which may hold start-up work
START_UP = 3.0  # a first sample that is this many times as slow as the latest ones is start-up
KNOWN_FROM_SAMPLES = 4  # the pace may be that of the start-up before, unless it has ended

# Characters that command a terminal or hide what a text says: controls, marks and overrides of the
# writing direction, line separators, and bytes of a path that are no UTF-8 (surrogates).
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
LINE_BREAKS = re.compile("[\t\n]")


def printable(text: str, one_line: bool = False) -> str:
    """`text` with every character that would command the terminal written as its number.

    one_line: line breaks and tabs too.
    """
    text = UNPRINTABLE.sub(_as_number, text)
    return LINE_BREAKS.sub(_as_number, text) if one_line else text


def _as_number(match: re.Match[str]) -> str:
    code = ord(match.group())
    # A byte of a path that is no UTF-8 is kept by Python as U+DC80 to U+DCFF.
    code = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@dataclass
class Console:
    """Prints lines for people. `quiet` drops information; `json` moves it from stdout to stderr."""

    quiet: bool = False
    json: bool = False

    def info(self, text: str) -> None:
        """Print one line of information (stdout, or stderr when stdout carries JSON)."""
        if not self.quiet:
            with _screen.aside():
                write_line(text, "stderr" if self.json else "stdout")

    def notice(self, text: str) -> None:
        """Print one line on stderr, even with `-q`."""
        with _screen.aside():
            write_line(text, "stderr")

    def warn(self, text: str) -> None:
        """Print one warning line on stderr, even with `-q`."""
        self.notice(f"warning: {text}")

    def error(self, text: str) -> None:
        """Print the error that ends a command, on one line of stderr."""
        self.notice(f"error: {' '.join(text.split())}")

    def can_ask(self) -> bool:
        """Whether a person at a terminal can answer a question."""
        if sys.stdin is None or sys.stderr is None or self.quiet or self.json:
            return False
        return sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str) -> str:
        """The line that the person at the terminal answers, without spaces around it."""
        write_line(question, "stderr", end="")
        return sys.stdin.readline().strip()


def write_line(text: str, name: str, end: str = "\n") -> bool:
    """Write a text, which may hold names and fields of foreign files, to "stdout" or "stderr";
    whether that was possible.

    The work goes on where nobody reads any more (`being train | head`, a closed terminal) or the
    disk of a log file is full: one line on stderr says so, later text is dropped.
    """
    return _write(printable(text) + end, name)


def _write(text: str, name: str) -> bool:
    """`write_line` of a text that may command the terminal, in the stream's encoding."""
    stream = getattr(sys, name)
    if stream is None:  # closed by the caller
        return False
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, file=stream, end="", flush=True)
        return True
    except (OSError, ValueError) as error:
        drop_stream(name, error)
        return False


def drop_stream(name: str, error: Exception) -> None:
    """Send what is written to the broken "stdout" or "stderr" to nowhere, also what Python flushes
    at exit.
    """
    stream = getattr(sys, name)
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        setattr(sys, name, None)
    if name == "stdout":
        why = getattr(error, "strerror", None) or str(error)
        write_line(f"warning: stdout is closed ({why}): the work goes on without it", "stderr")


# The console of the running command.
console = Console()


def clock(seconds: float) -> str:
    """`seconds` as m:ss or h:mm:ss."""
    whole = max(0, round(seconds))
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class _Screen:
    """The progress of running steps.

    On a terminal, each step has one row at the bottom, and lines of finished steps scroll up above.
    Off a terminal, each line is printed below the others. While steps run, a thread keeps the
    progress fresh. Only the holder of `lock` draws.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.running: list[Progress] = []
        self.last_text = time.monotonic()  # when something was printed
        self._bars: Bars | None = None
        self._idle = threading.Event()

    def add(self, step: Progress) -> None:
        """Show `step` from now on."""
        with self.lock:
            self.running.append(step)
            if len(self.running) == 1:
                self._idle = threading.Event()
                threading.Thread(target=self._keep_fresh, args=[self._idle], daemon=True).start()

    def remove(self, step: Progress, last_line: str) -> None:
        """Show `step` no more; print its last line unless it is empty."""
        with self.lock:
            self.running.remove(step)
            if not self.running:
                self._idle.set()
            drawn = self._erase()
            if last_line:
                self.print_line(printable(last_line, one_line=True))
            if drawn and self.running:
                self.draw()

    def draw(self) -> None:
        """Draw the rows of all running steps again."""
        with self.lock:
            if self._bars is None:
                from being.progress_bars import Bars

                encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
                self._bars = Bars(lambda text: _write(text, "stderr"), encoding)
            self._bars.draw([step.row() for step in self.running])
            self.last_text = time.monotonic()

    def print_line(self, line: str) -> None:
        """Print a line of progress."""
        with self.lock:
            write_line(line, "stderr")
            self.last_text = time.monotonic()

    def tick(self) -> None:
        """Redraw or print the lines that are due, whether or not their steps advance."""
        with self.lock:
            now = time.monotonic()
            if any(step.terminal for step in self.running):
                if now - self.last_text >= IDLE_REDRAW_EVERY_S:
                    self.draw()
                return
            for step in self.running:
                step.print_if_due(now)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Erase the progress while other text is printed, then draw it below."""
        with self.lock:
            drawn = self._erase()
            yield
            self.last_text = time.monotonic()
            if drawn:
                self.draw()

    def _keep_fresh(self, idle: threading.Event) -> None:
        while not idle.wait(TICK_S):
            self.tick()

    def _erase(self) -> bool:
        """Erase the rows on a terminal; whether there were any."""
        return self._bars is not None and self._bars.erase()


_screen = _Screen()


class Pace:
    """Seconds per unit of a running step: the mean of its last samples, without its start-up.

    A sample is the time of one or more advances. Loading comes before the first advance, and
    compilation may slow down some of the first samples: these are left out. They come first, so the
    latest samples tell which ones they are.
    """

    def __init__(self) -> None:
        # Number of the sample, its seconds and its units
        self._samples: deque[tuple[int, float, int]] = deque(maxlen=WINDOW_SAMPLES)
        self._count = itertools.count()
        self._since: float | None = None
        self._units = 0

    def add(self, units: int, now: float) -> None:
        """Count `units` that were done by the time `now`."""
        if self._since is None:
            self._since = now
            return
        self._units += units
        if now - self._since >= SAMPLE_S:
            self._samples.append((next(self._count), now - self._since, self._units))
            self._since, self._units = now, 0

    def seconds_per_unit(self) -> float | None:
        """The pace; None as long as there are too few samples."""
        samples = list(self._samples)  # another thread may append
        if len(samples) < 2:
            return None
        limit = START_UP * min(s / units for _, s, units in samples[-START_SAMPLES // 2 :])
        kept = [
            (seconds, units)
            for k, seconds, units in samples
            if k >= START_SAMPLES or seconds <= limit * units
        ]
        if len(kept) == len(samples) < KNOWN_FROM_SAMPLES:
            return None
        return sum(seconds for seconds, _ in kept) / sum(units for _, units in kept)


def is_dumb_terminal() -> bool:
    """Whether the terminal cannot erase what it shows."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


class Progress:
    """Progress of one step: `with Progress("landmarks", total=1259) as p: p.advance()`.

    On a terminal, each running step has one line that is redrawn; otherwise a line is printed every
    few seconds, also while the step does not advance. Steps may run in parallel threads. `seconds`
    is the step's wall time afterwards.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "", done: int = 0):
        """total: number of units, if known; done: units that an earlier run has done."""
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.seconds = 0.0
        self.terminal = sys.stderr is not None and sys.stderr.isatty() and not is_dumb_terminal()
        self._note = ""
        self._write_note: Callable[[], str] | None = None
        self._noted = 0.0  # when the note was written
        self._pace = Pace()
        self._start = time.monotonic()
        self._shown = self._start

    def __enter__(self) -> Progress:
        # The first line is due a few seconds after whatever was printed last.
        self._shown = max(_screen.last_text, self._start - LINE_EVERY_S)
        if not console.quiet:
            _screen.add(self)
        return self

    def advance(self, steps: int = 1, note: str | Callable[[], str] | None = None) -> None:
        """Count `steps` more.

        note: text after the numbers, or a function that returns it. The function is called once a
        second, and only from here: it may need the caller's thread.
        """
        now = time.monotonic()
        if steps:
            self._pace.add(steps, now)
            self.done += steps
        if isinstance(note, str):
            self._note, self._write_note = note, None
        elif note is not None:
            first, self._write_note = self._write_note is None, note
            if first or now - self._noted >= NOTE_EVERY_S:
                self._update_note()

        interval = REDRAW_EVERY_S if self.terminal else LINE_EVERY_S
        if console.quiet or now - self._shown < interval:
            return
        if self.terminal:
            self._shown = now
            _screen.draw()
        elif self.done != self.total:
            # The last line is printed at the end of the step.
            self.print_if_due(now)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show `what` as the note while something other than the counted units is done."""
        before = self._note, self._write_note
        self._note, self._write_note = what, None
        try:
            yield
        finally:
            self._note, self._write_note = before

    def print_if_due(self, now: float) -> None:
        """Off a terminal, print the line when the last one is some seconds old."""
        with _screen.lock:
            if now - self._shown >= LINE_EVERY_S:
                self._shown = now
                _screen.print_line(self.text(now))

    def text(self, now: float) -> str:
        """The progress line at the time `now` of the monotonic clock."""
        texts = (self.label, self._counts(), self._left(), clock(now - self._start), self._note)
        return "  ".join(text for text in texts if text)

    def row(self) -> Row:
        """What a terminal shows of the step now."""
        from being.progress_bars import Row

        def shown(text: str) -> str:
            return printable(text, one_line=True)

        return Row(
            shown(self.label),
            shown(self._counts()),
            self._left(),
            clock(time.monotonic() - self._start),
            shown(self._note),
            self.done,
            self.total or None,
        )

    def _counts(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.total:
            return f"{self.done}/{self.total}{unit}"
        return f"{self.done}{unit}" if self.done else ""

    def _left(self) -> str:
        """The time left; empty as long as it is not known."""
        pace = self._pace.seconds_per_unit()
        if not self.total or pace is None or self.done >= self.total:
            return ""
        return f"{clock(pace * (self.total - self.done))} left"

    def _update_note(self) -> None:
        if self._write_note is not None and not console.quiet:
            self._note, self._noted = self._write_note(), time.monotonic()

    def __exit__(self, kind: object, *_: object) -> None:
        now = time.monotonic()
        self.seconds = now - self._start
        if self not in _screen.running:
            return
        if kind is None:
            self._update_note()
        _screen.remove(self, self.text(now) if kind is None else "")
