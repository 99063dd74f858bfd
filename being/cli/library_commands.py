"""Commands for all that lies under the home: list, rm."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from being.cli.command import command
from being.console import console, printable
from being.errors import BeingError, UsageError

if TYPE_CHECKING:
    from being.library.belongings import Belongings
    from being.library.entries import Entry

QUESTION = "Remove all of this for ever? Type yes: "
CONSENT_WIDTH = 32  # characters of a statement in the table
HEADER = ("kind", "name", "size", "length", "state", "consent", "date", "path")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(app, "list", epilog="Example: being list --json")(list_)
    command(app, "rm", epilog="Example: being rm me --dry-run")(rm)


def list_() -> dict[str, Any]:
    """List the datasets, runs and avatars: size, length, state, consent, licence, date."""
    from being.library.entries import list_entries
    from being.paths import home

    folder = home()
    entries = list_entries(folder)
    if not entries:
        console.info(f"there is no dataset and no run under {folder.absolute()}")
    else:
        console.info(_table([HEADER, *map(_row, entries)]))
    for entry in entries:
        if entry.damage:
            console.warn(printable(f"{entry.path} is damaged: {entry.damage}", one_line=True))
    for line in _licences(entries):
        console.info(printable(line, one_line=True))
    total = sum(entry.bytes for entry in entries if entry.kind != "avatar")
    if entries:
        console.info(f"{readable_size(total)} under {folder.absolute()}")
    listed = [
        {**asdict(entry), "path": str(entry.path), "changed": _date(entry.changed)}
        for entry in entries
    ]
    return {"home": str(folder.absolute()), "entries": listed, "bytes": total}


def rm(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the subject, as being list shows it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
) -> dict[str, Any]:
    """Remove all that was made of a person: datasets, runs, avatars, videos, packs, exports.

    What lies outside the home, such as the recorded video, stays.
    """
    from being.library.belongings import find_belongings
    from being.library.removal import remove
    from being.paths import home

    folder = home()
    found = find_belongings(name, folder)
    if not found.items and not found.folders:
        raise UsageError(
            f"there is nothing of '{name}' under {folder.absolute()}",
            fix="See the names with: being list",
        )
    _show(found)
    result = _facts(found)
    if dry_run:
        return {**result, "dry_run": True}
    if not yes:
        _confirm(name, result)
    removal = remove(found)
    for path, why in removal.failed:
        console.warn(printable(f"{path} cannot be removed: {why}", one_line=True))
    result["removed"] = [str(item.path) for item in removal.removed]
    result["failed"] = [{"path": str(path), "why": why} for path, why in removal.failed]
    if removal.failed:
        path, why = removal.failed[0]
        error = BeingError(
            f"{len(removal.failed)} of the files and folders of '{name}' cannot be removed",
            f"{path}: {why}",
            f"Change that, then run again: being rm {name}",
        )
        error.details = result
        raise error
    console.info(f"removed {readable_size(sum(item.bytes for item in removal.removed))}")
    return result


def _confirm(name: str, result: dict[str, Any]) -> None:
    """Ask whether to remove. Raises UsageError where nobody can answer, BeingError for a no."""
    if not console.can_ask():
        error = UsageError(
            f"'{name}' is not removed",
            "there is no terminal to ask the question on",
            "Remove without a question with --yes",
        )
        error.details = result
        raise error
    if console.ask(QUESTION).lower() not in ("y", "yes"):
        raise BeingError(f"'{name}' is not removed", "the answer was not yes")


def _show(found: Belongings) -> None:
    """Print what would be removed, and what stays."""
    rows = [(item.kind, readable_size(item.bytes), str(item.path)) for item in found.items]
    total = sum(item.bytes for item in found.items)
    # Also where nothing else is printed: whoever removes must have seen what.
    console.notice(_table([*rows, ("all", readable_size(total), "")]))
    for note in found.kept:
        console.notice(printable(note, one_line=True))


def _facts(found: Belongings) -> dict[str, Any]:
    items = [{**asdict(item), "path": str(item.path)} for item in found.items]
    for item in items:
        del item["lock"]
    return {"items": items, "bytes": sum(item.bytes for item in found.items), "kept": found.kept}


def _row(entry: Entry) -> tuple[str, ...]:
    """The cells of an entry, in the order of HEADER."""
    length = ""
    if entry.frames is not None:
        length = f"{entry.frames} {'poses' if entry.kind == 'avatar' else 'frames'}"
    elif entry.steps is not None:
        length = f"{entry.steps} steps"
    consent = entry.consent
    if len(consent) > CONSENT_WIDTH:
        consent = f"{consent[: CONSENT_WIDTH - 3]}..."
    return (
        entry.kind,
        entry.name,
        readable_size(entry.bytes),
        length,
        entry.state,
        consent,
        _date(entry.changed),
        str(entry.path),
    )


def _table(rows: list[tuple[str, ...]]) -> str:
    """Rows of text as aligned columns; what would command the terminal is written as numbers."""
    from rich.cells import cell_len

    cells = [[printable(cell, one_line=True) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _licences(entries: list[Entry]) -> list[str]:
    """One line for each licence note, with the names that it is about."""
    names: dict[str, list[str]] = {}
    for entry in entries:
        if entry.licence and entry.name not in names.setdefault(entry.licence, []):
            names[entry.licence].append(entry.name)
    return [f"licence of {', '.join(found)}: {note}" for note, found in names.items()]


def readable_size(count: int) -> str:
    """A number of bytes as text, for instance 12.3 MB."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""
