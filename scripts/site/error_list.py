"""The page of all errors, collected from the code: each call that makes a `BeingError`.

Parts of a message that are known only when it happens are shown as `…`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from being.errors import ExitCode

UNKNOWN = "…"
# Classes of errors, and their exit codes. A refusal ends a live session, not a command.
CODES = {
    "BeingError": str(int(ExitCode.FAILED)),
    "UsageError": str(int(ExitCode.USAGE)),
    "EnvironmentFault": str(int(ExitCode.ENVIRONMENT)),
    "InputRejected": str(int(ExitCode.REJECTED)),
    "Refusal": "",
}
PARTS = ("what", "why", "fix")
HEAD = """# All errors

Each error says what is wrong, why, and what to do. This list was generated from the code; `…`
stands for what is known only when it happens. Common ones, with more advice:
[Troubleshooting](troubleshooting.md). `--json` gives the same three parts as fields. Errors without
an exit code end a live session.
"""


@dataclass(frozen=True, order=True)
class KnownError:
    """An error as the code writes it; `…` for what is computed."""

    room: str
    what: str
    why: str
    fix: str
    code: str


def error_page(package: Path) -> str:
    """The page as Markdown; package: the folder of the code."""
    lines, room = [HEAD], ""
    for error in collected(package):
        if error.room != room:
            room = error.room
            lines += [
                f"\n## {room}\n",
                "| what | why | what to do | exit code |",
                "|---|---|---|---|",
            ]
        cells = (error.what, error.why, error.fix, error.code)
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines) + "\n"


@functools.lru_cache(maxsize=2)
def collected(package: Path) -> tuple[KnownError, ...]:
    """The errors of all modules whose `what` the code states, at least in part; in order."""
    return tuple(sorted(set(_all_errors(package))))


def _all_errors(package: Path) -> Iterator[KnownError]:
    for file in sorted(package.rglob("*.py")):
        inside = file.relative_to(package)
        room = inside.parts[0].removesuffix(".py")
        module = ast.parse(file.read_text("utf-8"))
        constants = _constants(module)
        for node in ast.walk(module):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in CODES:
                for found in _errors(node, room, CODES[node.func.id], constants):
                    if found.what.strip(f"{UNKNOWN} .:"):
                        yield found


def _constants(module: ast.Module) -> dict[str, ast.expr]:
    """The expressions that names of a module stand for, where each is assigned once."""
    return {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }


def _errors(
    call: ast.Call, room: str, code: str, constants: dict[str, ast.expr]
) -> Iterator[KnownError]:
    """The errors of a call: one, or one for each side of a condition in `what`."""
    # A refusal's first argument is its code in the protocol.
    first = 0 if code else 1
    given = dict(zip(PARTS, call.args[first:], strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg in PARTS}
    texts = {name: _text(given[name], constants) if name in given else "" for name in PARTS}
    what = given.get("what")
    sides = [what.body, what.orelse] if isinstance(what, ast.IfExp) else [what] if what else []
    for side in sides:
        yield KnownError(room, _text(side, constants), texts["why"], texts["fix"], code)


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    """What an expression says, with `…` for what is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, constants) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, constants)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = (node.left, node.right)
        if any(isinstance(side, ast.Constant) and isinstance(side.value, int) for side in sides):
            return UNKNOWN
        return _text(node.left, constants) + _text(node.right, constants)
    if isinstance(node, ast.Name) and node.id in constants:
        return _text(constants[node.id], {})
    return UNKNOWN


def _cell(text: str) -> str:
    """Text of a cell: nothing in it is read as Markdown or HTML."""
    text = " ".join(text.split())
    for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(letter, name)
    for letter in "\\`*_[]":
        text = text.replace(letter, f"&#{ord(letter)};")
    return text
