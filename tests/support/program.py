"""Runs the program in this process, and checks how it refuses wrong input."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from being.cli.app import app

# Folders of the checkout, where a test may run, with tens of thousands of files
TOOLS = (".venv", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__")


def being(*arguments: Any) -> Any:
    """Result of the program with these arguments: exit_code, stdout, stderr."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def listing(folder: Path) -> list[str]:
    """Every file and folder below `folder` with its size, without those of TOOLS."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in TOOLS]
        for path in (Path(place, name) for name in (*folders, *files)):
            size = path.stat().st_size if path.is_file() else ""
            found.append(f"{path.relative_to(folder)} {size}")
    return sorted(found)


def refused(
    code: int, message: str, *arguments: Any, watch: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """Assert that the command ends with `code`, one error line that matches `message`, and leaves
    no files behind; returns the error of its JSON output.
    """
    folders = (Path.cwd(), *watch)
    before = [listing(folder) for folder in folders]
    result = being(*arguments, "--json")
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    assert re.search(message, lines[0], re.IGNORECASE), lines[0]
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert answer["ok"] is False and answer["error"]["code"] == code, answer
    assert lines[0].startswith(f"error: {' '.join(answer['error']['what'].split())}"), (
        lines,
        answer,
    )
    assert answer["error"]["why"] or answer["error"]["fix"], "an error says why, or what to do"
    assert [listing(folder) for folder in folders] == before, "nothing may be left behind"
    return answer["error"]
