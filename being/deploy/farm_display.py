"""What a person sees of a farm: a table of states on a terminal, else a line for each change."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from being.console import clock, console, printable
from being.deploy.farm import SubjectState

TAIL_BYTES = 2000  # of a log file that is read for its last line
REDRAWS_A_SECOND = 2
MARKS = {"waiting": "dim", "running": "cyan", "done": "green", "failed": "red"}


class FarmDisplay:
    """Shows the states while a farm runs. Use it as a context."""

    def __init__(self, log_file: Callable[[str], Path]):
        """log_file: of a subject; its last line says what a running stage does."""
        self._log_file = log_file
        self._states: dict[str, SubjectState] = {}
        self._live: Any = None
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> FarmDisplay:
        if self._terminal and not console.quiet:
            from rich.console import Console
            from rich.live import Live

            screen = Console(stderr=True)
            self._live = Live(console=screen, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def changed(self, state: SubjectState) -> None:
        """A subject has another state. Only its failure is printed on a terminal, and with `-q`."""
        self._states[state.name] = state
        if state.state == "failed":
            self._aside(lambda: console.notice(state.line()))
        elif self._live is None:
            console.info(state.line())
        self.tick()

    def tick(self) -> None:
        """Draw the table again."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def _aside(self, show: Callable[[], None]) -> None:
        """Print a line above the table."""
        if self._live is not None:
            self._live.update("", refresh=True)
        show()

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left")
        for column in ("subject", "stage", "state", "time", "what"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        rows, more = _shown(self._states.values(), self._live.console.height - 4)
        for state in rows:
            seconds = "" if state.state in ("done", "failed") else _since(state)
            words = [state.name, state.stage, state.state, seconds, self._doing(state)]
            cells = [Text(printable(word, one_line=True)) for word in words]
            cells[2].stylize(MARKS[state.state])
            table.add_row(*cells)
        counts = Counter(state.state for state in self._states.values())
        total = ", ".join(f"{counts[word]} {word}" for word in MARKS if counts[word])
        table.caption = f"{total}{f'; {more} more are not shown' if more else ''}"
        return table

    def _doing(self, state: SubjectState) -> str:
        if state.state == "failed":
            return " ".join(state.error.split())
        if state.state != "running":
            return state.results.get("render", "") if state.state == "done" else ""
        again = f"attempt {state.attempt}: " if state.attempt > 1 else ""
        return again + last_line(self._log_file(state.name))


def last_line(file: Path) -> str:
    """The last line of a text file, empty where there is none."""
    try:
        with open(file, "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""


def _shown(states: Iterable[SubjectState], most: int) -> tuple[list[SubjectState], int]:
    """The rows that a terminal has room for, and the number of the others.

    Running ones come first, then failed, waiting and done ones.
    """
    order = ("running", "failed", "waiting", "done")
    rows = sorted(states, key=lambda state: order.index(state.state))
    return rows[: max(1, most)], max(0, len(rows) - max(1, most))


def _since(state: SubjectState) -> str:
    return clock(time.monotonic() - state.since)
