"""Commands about this machine: doctor, assets list, assets pull, assets verify."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from being.cli.command import command
from being.console import Progress, console
from being.errors import BeingError, EnvironmentFault, UsageError

LEVELS = ("ok", "warning", "failure")
MB = 1_000_000
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="NAME...", help="Names as in being assets list.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(
        app, "doctor", epilog="Examples: being doctor; being doctor runs/me/20261130_quick --serve"
    )(doctor)
    assets = typer.Typer(name="assets", help="Pretrained files: list, fetch and check them.")
    app.add_typer(assets, name="assets")
    command(assets, "list", epilog="Example: being assets list --json")(list_)
    command(assets, "pull", fetches=True, epilog="Example: being assets pull kokoro kokoro_voices")(
        pull
    )
    command(assets, "verify", epilog="Example: being assets verify")(verify)


def doctor(
    avatar: Annotated[
        Path | None,
        typer.Argument(
            metavar="AVATAR",
            help="Folder of a run or of an avatar bundle: checked too (default: none).",
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Also check what being serve needs.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address for --serve.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port for --serve.")] = 8000,
) -> dict[str, Any]:
    """Check this machine, one line a check with what to do. Makes no connection.

    Exit code 0 without a failure, 3 with one.
    """
    from being.doctor import FAILURE, WARNING, examine

    checks = []
    for check in examine(avatar, (host, port) if serve else None):
        checks.append(check)
        if check.level == FAILURE:
            console.notice(check.line())
        else:
            console.info(check.line())
    counts = Counter(check.level for check in checks)
    facts: dict[str, Any] = {
        "checks": [vars(check) for check in checks],
        "counts": {level: counts[level] for level in LEVELS},
    }
    if counts[FAILURE]:
        first = next(check for check in checks if check.level == FAILURE)
        error = EnvironmentFault(
            f"{counts[FAILURE]} of {len(checks)} checks failed",
            f"the first is {first.name}: {first.what}",
            first.fix,
        )
        error.details = facts
        raise error
    console.info(f"{len(checks)} checks, no failure, {counts[WARNING]} warnings")
    return facts


def list_() -> dict[str, Any]:
    """List the pretrained files: purpose, licence, size, sources, and whether they are cached."""
    from being.assets import cache_folder, file_states, megabytes

    states = file_states()
    for found in states:
        asset = found.asset
        size = megabytes(asset.size)
        base = "" if asset.base else " (not needed by the base commands)"
        console.info(f"{found.name:<20} {found.state:<8} {size:>8}  {asset.purpose}{base}")
        console.info(f"  licence {asset.licence}; sha256 {asset.sha256}")
        console.info(f"  used by {', '.join(f'being {name}' for name in asset.commands)}")
        for source in asset.sources:
            console.info(f"  from {source}")
    console.info(f"cache {cache_folder()}")
    return {"cache": str(cache_folder()), "files": [found.to_dict() for found in states]}


def pull(
    names: NamesArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="Fetch every file.")] = False,
) -> dict[str, Any]:
    """Fetch pretrained files into the cache; a download that broke off goes on.

    Without names: those that the base commands need (preprocess, train, render, tts-video).
    """
    from being.assets import base_names, check_allowed, checked_names, file_states, registry

    if names and all_:
        raise UsageError("names and --all were given", fix="Give one of them")
    wanted = checked_names(names or (registry() if all_ else base_names()))
    check_allowed(wanted)
    failed: list[EnvironmentFault] = []
    for name in wanted:
        try:
            _fetch_with_bar(name)
        except EnvironmentFault as error:
            console.warn(error.message())
            failed.append(error)
    states = file_states(wanted)
    facts = {"files": [found.to_dict() for found in states]}
    if failed:
        what = f"{len(failed)} of {len(wanted)} files were not fetched"
        fault = EnvironmentFault(what, failed[0].message(), "What came is kept: try again")
        fault.details = facts
        raise fault
    for found in states:
        console.info(f"{found.name:<20} {found.asset.path}")
    return facts


def verify(names: NamesArgument = None) -> dict[str, Any]:
    """Check the sha256 of the cached files; exit code 1 when one is damaged."""
    from being.assets import file_states

    states = [found for found in file_states(names) if names or found.state != "missing"]
    damaged = [found for found in states if found.state == "damaged"]
    for found in states:
        console.info(f"{found.name:<20} {found.state}{f': {found.why}' if found.why else ''}")
    facts = {"files": [found.to_dict() for found in states]}
    if damaged:
        error = BeingError(
            f"damaged: {', '.join(str(found.asset.path) for found in damaged)}",
            "; ".join(f"{found.name}: {found.why}" for found in damaged),
            f"Fetch again: being assets pull {' '.join(found.name for found in damaged)}",
        )
        error.details = facts
        raise error
    return facts


def _fetch_with_bar(name: str) -> None:
    """Fetch a file unless it is cached, with a line of progress in MB."""
    from being.assets import fetch, is_cached

    if is_cached(name):
        return
    with Progress(name, unit="MB") as bar:

        def show(done: int, total: int) -> None:
            whole = -(-total // MB)
            if whole != bar.total:  # another source, or the file after its archive
                bar.total, bar.done = whole, 0
            bar.advance(min(whole, done // MB) - bar.done)

        fetch(name, show)
        bar.done = bar.total or bar.done
