"""Console: the time left of a step without its start-up, lines while a step does not advance, bars.

A virtual clock replaces the monotonic one, and the test calls what the thread would call.
"""

from __future__ import annotations

import errno
import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import being.console
from being.console import LINE_EVERY_S, Progress


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the console during a test; the thread of the screen sleeps."""
    clock = Clock()
    fake_time = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(being.console, "time", fake_time)
    monkeypatch.setattr(being.console, "TICK_S", 3600.0)
    monkeypatch.setattr(being.console, "_screen", being.console._Screen())
    return clock


class Terminal(io.StringIO):
    """A terminal as stderr, which can also say what it shows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> None:
        super().__init__()
        monkeypatch.setattr("sys.stderr", self)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """The lines on the screen, without empty ones and spaces at the end."""
        lines, row = [""], 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part[0] not in "\x1b\r":
                lines[row] += part
        return [line.rstrip() for line in lines if line.strip()]


def fail_as_closed(text: str) -> int:
    raise OSError(errno.EIO, "Input/output error")


def steps(progress: Progress, clock: Clock, *seconds: float) -> None:
    """Advance once after each of `seconds`."""
    for duration in seconds:
        clock.pass_time(duration)
        progress.advance()


def time_left(progress: Progress, clock: Clock) -> str | None:
    """The time left in the progress line, as m:ss, or None."""
    parts = progress.text(clock.now).split("  ")
    return next((part.removesuffix(" left") for part in parts if part.endswith(" left")), None)


def test_the_time_left_does_not_count_the_start_up(clock: Clock) -> None:
    with Progress("fine", 100, "steps") as progress:
        # The first step compiles for a minute, the second is captured in half a minute.
        steps(progress, clock, 60, 30)
        assert time_left(progress, clock) is None
        steps(progress, clock, 1)
        assert time_left(progress, clock) == "1:37"
        steps(progress, clock, *[1] * 37)
        assert time_left(progress, clock) == "1:00"


def test_the_time_left_waits_for_the_end_of_a_long_start_up(clock: Clock) -> None:
    with Progress("fine", 100, "steps") as progress:
        # Several steps compile, each another kernel.
        for seconds in (60, 30, 25, 20):
            steps(progress, clock, seconds)
            assert time_left(progress, clock) is None
        for left in ("1:35", "1:34", "1:33"):
            steps(progress, clock, 1)
            assert time_left(progress, clock) == left


def test_the_time_left_follows_the_last_steps(clock: Clock) -> None:
    with Progress("fine", 1000, "steps") as progress:
        steps(progress, clock, *[0.5] * 300)
        assert time_left(progress, clock) == "5:50"
        steps(progress, clock, *[2.0] * 100)
        assert time_left(progress, clock) == "20:00"


def test_the_time_left_counts_the_evaluations_between_steps(clock: Clock) -> None:
    with Progress("fine", 10_000, "steps") as progress:
        steps(progress, clock, *([1.0] * 24 + [11.0]) * 8)
        assert time_left(progress, clock) == "3:48:40"  # 9,800 steps of 1.4 s


def test_frames_that_threads_finish_together_do_not_spoil_the_time_left(clock: Clock) -> None:
    with Progress("load clip", 1000, "frames") as progress:
        steps(progress, clock, *[0.0, 0.0, 0.0, 0.1] * 100)
        assert time_left(progress, clock) == "0:15"


def test_a_resumed_step_counts_its_own_pace(clock: Clock) -> None:
    with Progress("fine", 1000, "steps", done=900) as progress:
        steps(progress, clock, 20, *[1.0] * 20)
        assert time_left(progress, clock) == "1:19"


def test_off_a_terminal_a_step_that_does_not_advance_prints_lines(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    times = []
    with Progress("lip closure: other voices"):
        for _ in range(4 * 60):
            clock.pass_time(0.25)
            being.console._screen.tick()
            if capsys.readouterr().err:
                times.append(clock.now)
    gaps = [late - early for early, late in zip([1000.0, *times], times, strict=False)]
    assert len(gaps) == 60 / LINE_EVERY_S and max(gaps) <= LINE_EVERY_S + 0.25
    assert capsys.readouterr().err == "lip closure: other voices  1:00\n"


def test_the_first_line_is_due_five_seconds_after_the_text_before_the_step(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    being.console.console.info("run runs/me")
    clock.pass_time(3)
    with Progress("coarse", 60, "steps"):
        clock.pass_time(2)
        being.console._screen.tick()
        assert capsys.readouterr().err == "coarse  0/60 steps  0:02\n"


def test_a_terminal_is_redrawn_while_a_step_does_not_advance(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch)
    with Progress("save avatar"):
        for _ in range(12):
            clock.pass_time(0.25)
            being.console._screen.tick()
    assert re.findall("0:0.", terminal.getvalue())[:3] == ["0:01", "0:02", "0:03"]
    assert terminal.lines() == ["save avatar  0:03"]


def test_a_terminal_shows_a_bar_with_counts_time_left_and_note(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch, columns=80)
    with Progress("fine [red]", 200, "steps") as fine, Progress("save \x1b[2J", 8) as save:
        steps(fine, clock, *[1.0] * 50)
        fine.advance(50, "loss 0.012")
        save.advance(0)
        being.console._screen.draw()
        first, second = terminal.lines()
        words = first.split()
        assert words[:2] == ["fine", "[red]"] and words[3:5] == ["100/200", "steps"]
        assert words[6] == "left" and words[-2:] == ["loss", "0.012"]
        assert 10 < len(words[2]) <= 40 and set(words[2]) <= set("━╸╺")
        assert second.startswith(r"save \x1b[2J") and "0/8" in second
        assert first.index("100/200") == second.index("0/8"), "the columns are aligned"
    assert terminal.lines()[0].split()[:2] == ["save", r"\x1b[2J"]
    assert "100/200" in terminal.lines()[1] and "━" not in "".join(terminal.lines())


def test_a_narrow_terminal_has_no_bar_and_no_line_longer_than_it(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch, columns=40)
    with Progress("fine", 200, "steps") as fine, Progress("lip closure: other voices", 8):
        steps(fine, clock, *[1.0] * 50)
        fine.advance(50, "loss 0.012")
        being.console._screen.draw()
        first, second = terminal.lines()
        assert first.split()[:5] == ["fine", "100/200", "steps", "1:40", "left"]
        assert second.startswith("lip") and "0/8" in second
        assert max(len(first), len(second)) <= 40


def test_lines_scroll_up_above_the_bars_and_stdout_gets_its_own(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal, stdout = Terminal(monkeypatch), sys.stdout
    with Progress("outer", 3), Progress("inner", 3) as inner:
        steps(inner, clock, 1)
        assert sys.stdout is stdout, "what others print on stdout stays there"
        being.console.console.warn("a fan is loud")
        being.console.console.info("run runs/me")
        assert [line.split()[0] for line in terminal.lines()] == ["warning:", "outer", "inner"]
    assert capsys.readouterr().out == "run runs/me\n"
    assert [line.split()[0] for line in terminal.lines()] == ["warning:", "inner", "outer"]
    assert "?25l" not in terminal.getvalue(), "a killed process could not show the cursor again"


def test_a_closed_terminal_does_not_end_the_work(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch)
    with Progress("fine", 9) as progress:
        steps(progress, clock, 1)
        monkeypatch.setattr(terminal, "write", fail_as_closed)
        steps(progress, clock, *[1] * 8)
        being.console.console.warn("a fan is loud")
    assert progress.done == 9 and progress.seconds == 9


def test_a_terminal_that_cannot_erase_gets_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with Progress("fine", 9) as progress:
        steps(progress, clock, 6)
    assert terminal.getvalue() == "fine  1/9  0:06\n" * 2


def test_steps_of_many_threads_share_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(being.console, "_screen", being.console._Screen())
    monkeypatch.setattr(being.console, "REDRAW_EVERY_S", 0.0)
    terminal = Terminal(monkeypatch)

    def work(label: str) -> None:
        with Progress(label, 20) as progress:
            for _ in range(20):
                progress.advance()
        being.console.console.notice(f"{label} is done")

    labels = [f"step{k}" for k in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, labels))
    lines = [line.split()[0:2] for line in terminal.lines()]
    assert sorted(lines) == sorted([[x, "20/20"] for x in labels] + [[x, "is"] for x in labels])


def test_only_advance_calls_the_function_of_a_note(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads from the device, which another thread must not do while a graph is captured."""
    calls = []

    def note() -> str:
        calls.append(clock.now)
        return f"loss {len(calls)}"

    with Progress("fine", 100, "steps") as progress:
        progress.advance(1, note)
        for _ in range(100):
            clock.pass_time(0.25)
            being.console._screen.tick()
        assert len(calls) == 1 and "loss 1" in capsys.readouterr().err
        with progress.doing("saving a checkpoint and previews"):
            clock.pass_time(LINE_EVERY_S)
            being.console._screen.tick()
            assert "previews" in capsys.readouterr().err
        clock.pass_time(LINE_EVERY_S)
        progress.advance(1, note)
        assert "2/100" in (line := capsys.readouterr().err) and line.endswith("loss 2\n")


def test_a_line_that_the_thread_prints_has_a_fresh_note(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("fine", 100, "steps") as progress:
        for step in range(1, 61):
            progress.advance(1, lambda step=step: f"loss of step {step}")
            for _ in range(2):
                clock.pass_time(0.25)
                being.console._screen.tick()
            if line := capsys.readouterr().err:
                assert int(line.split()[-1]) >= step - 2, line


def test_quiet_prints_no_progress(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(being.console.console, "quiet", True)
    with Progress("coarse", 10) as progress:
        for _ in range(3):
            clock.pass_time(LINE_EVERY_S)
            being.console._screen.tick()
            progress.advance()
    assert capsys.readouterr() == ("", "") and progress.seconds == 3 * LINE_EVERY_S
