"""Progress bars at the bottom of a terminal, drawn by rich. `console` says when, and what.

Of rich only the drawing is used. Its threads, its redirection of stdout and its hidden cursor are
not: stdout may carry JSON, and a killed process could not bring the cursor back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, NamedTuple, cast

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

WIDE = 60  # columns of a terminal from which bars are drawn
BAR_MAX, LABEL_MAX = 40, 28  # columns of one bar, and of a label beside bars


class Row(NamedTuple):
    """What is shown of one running step: texts on one line, which command no terminal."""

    label: str
    counts: str
    left: str
    elapsed: str
    note: str
    done: int
    total: int | None  # None: not known


class Bars:
    """The rows of all running steps. One thread at a time may use it."""

    def __init__(self, write: Callable[[str], object], encoding: str):
        """write: writes a text to the terminal, and raises nothing where that is closed."""
        stream = cast(IO[str], _Stream(write, encoding))
        self._console = _CursorStays(file=stream, force_terminal=True, highlight=False)
        # rich shortens bar and notes first; a narrow terminal has no bar, and shortens labels too.
        numbers = [
            _TextColumn(name, Column(no_wrap=True)) for name in ("counts", "left", "elapsed")
        ]
        texts = [*numbers, _TextColumn("note", Column())]
        label = _TextColumn("label", Column(no_wrap=True, max_width=LABEL_MAX))
        bar = BarColumn(bar_width=None, table_column=Column(max_width=BAR_MAX))
        self._wide = (label, bar, *texts)
        self._narrow = (_TextColumn("label", Column()), *texts)
        self._rows = Progress(console=self._console, auto_refresh=False, get_time=time.monotonic)
        self._live: Live | None = None

    def draw(self, rows: list[Row]) -> None:
        """Draw `rows` in place of those that were drawn before."""
        self._rows.columns = self._wide if self._console.width >= WIDE else self._narrow
        for old in self._rows.task_ids:
            self._rows.remove_task(old)
        for row in rows:
            self._rows.add_task("", total=row.total, completed=row.done, row=row)

        if self._live is not None:
            self._live.refresh()
            return
        self._live = Live(
            get_renderable=self._rows.get_renderable,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def erase(self) -> bool:
        """Erase the rows; whether there were any."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        return live is not None


class _TextColumn(ProgressColumn):
    """One text of each row, cut where the terminal is narrow."""

    def __init__(self, name: str, table_column: Column):
        super().__init__(table_column)
        self.name = name

    def render(self, task: Task) -> Text:
        return Text(getattr(task.fields["row"], self.name), no_wrap=True, overflow="ellipsis")


class _CursorStays(Console):
    """A console that never hides the cursor."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Stream:
    """The file of a console: what is written goes through one function."""

    def __init__(self, write: Callable[[str], object], encoding: str):
        self.encoding, self._write = encoding, write

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing: `write` has flushed."""

    def isatty(self) -> bool:
        return True
