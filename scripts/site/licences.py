"""The page of licences: every pretrained file, and every wheel that an extra installs.

The files come from the registry of `being.assets`, the wheels from the metadata of the installed
distributions. A wheel that is not installed where the page is built is named as such.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from being.assets import ASSETS, PackageParts, UrlSource, megabytes
from being.assets.registry import Source

ROOT = "being"
BASE = "base"  # what `pip install being` installs
LEFT_OUT = ("test", "dev", "docs")  # extras of those who change the code
LICENCE_MAX = 60  # characters; a longer field holds the whole text of a licence
CLASSIFIER = "License :: "

HEAD = """# Licences

The package itself is under Apache-2.0. This page was generated when the site was built: the files
from the registry of `being.assets`, the wheels from the metadata of the distributions installed at
that time. Nobody has checked that a wheel's metadata are right.

Two wheels hold programs or libraries under another licence than their own: `av` holds FFmpeg with
libx264 and libx265 (GPL), `imageio-ffmpeg` an ffmpeg program (GPL). Who passes on an image with
them passes on GPL parts ([live sessions](live.md#marks-and-licences)).
"""


@dataclass
class Wheel:
    """A distribution that an extra needs."""

    name: str
    version: str = ""  # "": not installed
    licence: str = ""
    extras: set[str] = field(default_factory=set)


def licence_page() -> str:
    """The page as Markdown."""
    lines = [HEAD, "## Pretrained files\n"]
    lines += [
        "| file | purpose | licence | size | commercial | source |",
        "|---|---|---|---|---|---|",
    ]
    for name, asset in ASSETS.items():
        allowed = "allowed" if asset.commercial else "not allowed, or not known"
        sources = "; ".join(map(source_name, asset.sources))
        cells = (f"`{name}`", asset.purpose, asset.licence, megabytes(asset.size), allowed, sources)
        lines.append(row(cells))
    lines.append(
        "\nModels of the hub (`--encoder owner/model`, `--parser`) have licences of their own.\n"
    )
    found = wheels()
    installed = [wheel for wheel in found if wheel.version]
    lines += ["## Wheels\n", "| wheel | version | licence | needed by |", "|---|---|---|---|"]
    for wheel in installed:
        lines.append(row((wheel.name, wheel.version, wheel.licence, needed_by(wheel))))
    absent = [wheel for wheel in found if not wheel.version]
    if absent:
        lines += [
            "\n## Not installed where this page was built\n",
            "| wheel | needed by |",
            "|---|---|",
        ]
        lines += [row((wheel.name, needed_by(wheel))) for wheel in absent]
    return "\n".join(lines) + "\n"


def source_name(source: Source) -> str:
    """Where a file comes from, without the path inside: `being assets list` has that."""
    if isinstance(source, UrlSource):
        return urlsplit(source.url).hostname or source.url
    if isinstance(source, PackageParts):
        return ", ".join(map(source_name, source.parts))
    return source.package


def needed_by(wheel: Wheel) -> str:
    """The extras that need a wheel; the base alone where that needs it."""
    return BASE if BASE in wheel.extras else ", ".join(sorted(wheel.extras))


def row(cells: tuple[str, ...]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "&#124;") for cell in cells) + " |"


def wheels() -> list[Wheel]:
    """All distributions that the base and the extras of this package need, by name."""
    found: dict[str, Wheel] = {}
    extras = importlib.metadata.metadata(ROOT).get_all("Provides-Extra") or []
    for extra in (BASE, *(name for name in extras if name not in LEFT_OUT)):
        for name in closure(extra):
            found.setdefault(name, _wheel(name)).extras.add(extra)
    return [found[name] for name in sorted(found)]


def closure(extra: str) -> set[str]:
    """The distributions that `extra` of this package needs, with all that these need."""
    seen: set[tuple[str, str]] = set()
    waiting = [(ROOT, "" if extra == BASE else extra)]
    while waiting:
        name, option = waiting.pop()
        if (name, option) in seen:
            continue
        seen.add((name, option))
        for needed in requirements(name, option):
            options = ("", *needed.extras)
            waiting += [(canonicalize_name(needed.name), wanted) for wanted in options]
    return {name for name, _ in seen} - {ROOT}


def requirements(name: str, extra: str) -> Iterator[Requirement]:
    """What a distribution needs here for one extra ("": without any)."""
    try:
        texts = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    environment = {**default_environment(), "extra": extra}
    for text in texts:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate(environment):
            yield needed


def _wheel(name: str) -> Wheel:
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return Wheel(name)
    return Wheel(metadata["Name"], metadata["Version"], licence_of(metadata))


def licence_of(metadata: importlib.metadata.PackageMetadata) -> str:
    """The licence that a distribution's metadata name, on one line."""
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    stated = " ".join((metadata.get("License") or "").split())
    classifiers = [
        text.split(" :: ")[-1]
        for text in metadata.get_all("Classifier") or []
        if text.startswith(CLASSIFIER)
    ]
    if stated and len(stated) <= LICENCE_MAX and stated.upper() != "UNKNOWN":
        return stated
    return ", ".join(classifiers) or (f"{stated[:LICENCE_MAX]} ..." if stated else "not stated")
