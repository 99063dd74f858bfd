"""Text of foreign files on the terminal: one door prints, and it escapes what commands."""

from __future__ import annotations

import ast
import io
import os
import sys
from pathlib import Path

import pytest
from program import being as program

import being
from being.console import console, printable

HOSTILE = "a\x1b[31mred\x1b[0m\r\x07\x9b2J\u202egpj\u2066\x7f\udcff\u2028"


def test_what_commands_a_terminal_is_printed_as_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    console.info(HOSTILE)
    console.warn(HOSTILE)
    console.error(f"{HOSTILE}\nerror: a second line")
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, printable(HOSTILE)):
        assert not any(c in text for c in "\x1b\r\x07\x9b\u202e\u2066\x7f\u2028")
        assert "\\x1b[31m" in text and "\\x9b" in text and "\\u202e" in text and "\\xff" in text
    assert shown.err.count("\n") == 2, "an error is one line"
    assert printable("Größe 日本 علی\tx\n") == "Größe 日本 علی\tx\n"


def test_a_stream_that_knows_few_letters_prints_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.info("Größe 日本")
    assert stream.buffer.getvalue().decode() == "Gr\\xf6\\xdfe \\u65e5\\u672c\n"  # type: ignore[attr-defined]


def test_only_the_console_prints() -> None:
    """One door prints: names and fields of foreign files pass through `printable`."""
    root = Path(being.__file__).parent
    # Programs of their own (`python -m`), and the one JSON object, in which json escapes all.
    allowed = {
        "console.py",
        "cli/command.py",
        "cli/app.py",
        "bench/splat.py",
        "bench/cold_start.py",
        "bench/drawn_load.py",
        "bench/live_load.py",
        "interop/web/cached.py",
        "session/render_process.py",
        "assets/package_index.py",
    }
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print",
                "sys.stdout.write",
                "sys.stderr.write",
                "typer.echo",
                "typer.secho",
            ):
                found.add(path.relative_to(root).as_posix())
    assert found <= allowed, found - allowed


def test_a_file_with_a_hostile_name_is_refused_without_its_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a\x1b[31m.mp4", os.fsdecode(b"a\xff\xfe.mp4")):
        Path(name).write_bytes(b"no video")
        result = program("preprocess", name, "--name", "x")
        assert result.exit_code == 4 and "Traceback" not in result.stderr, result.stderr
        assert "\x1b" not in result.stderr and "internal error" not in result.stderr
