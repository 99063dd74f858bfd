"""Fetches the archive of a published package as it is: nothing in it is run.

`pip download` prepares the metadata of a source archive, and that runs the archive's own code. So
the files that the package index offers are listed here, and the one with the pinned sha256 is
downloaded. pip still gives its settings (index, extra indexes, links, proxy, certificates) and its
network session (credentials, retries). pip runs in a process of its own, because its modules are
made for its own program only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from being.assets.http_download import Ask, Progress, Reply, WrongContent, download, position

# Time without progress, s: the index pages of a project come first.
TIMEOUT = 120
POLL_S = 0.2  # between two looks at the part file
PAGE_MAX = 64 << 20  # bytes of an index page
CHUNK = 1 << 18  # bytes that are read at once
RETRIES = 2
ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.5, "
    "text/html; q=0.1"
)
SUFFIXES = (".whl", ".tar.gz", ".zip")


class NotFetched(Exception):
    """An archive cannot be fetched; the text says why."""


def fetch_archive(
    package: str,
    sha256: str,
    size: int,
    folder: Path,
    part: Path,
    progress: Progress | None = None,
) -> Path:
    """The archive of `package` ("name==version") with this sha256 and size, put into `folder`.

    part: where the download is kept while it is incomplete. progress: called with (bytes done,
    `size`). The caller compares the sha256 of what came. Raises NotFetched.
    """
    words = [package, sha256, str(size), str(folder), str(part)]
    with subprocess.Popen(
        [sys.executable, "-m", __name__, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            output, errors = _watched(process, part, size, progress)
        except BaseException:
            process.kill()
            raise
    try:
        answer = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError) as error:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        raise NotFetched((lines or ["pip failed without a message"])[-1]) from error
    if "reason" in answer:
        raise NotFetched(answer["reason"])
    return folder / answer["file"]


def _watched(
    process: subprocess.Popen[str], part: Path, size: int, progress: Progress | None
) -> tuple[str, str]:
    """What the process wrote to stdout and stderr; meanwhile the growth of the part is told.

    Raises NotFetched when nothing came for TIMEOUT seconds.
    """
    done, last = 0, time.monotonic()
    while True:
        try:
            return process.communicate(timeout=POLL_S)
        except subprocess.TimeoutExpired as error:
            with suppress(OSError):
                now = part.stat().st_size
                if now != done:
                    done, last = now, time.monotonic()
                    if progress is not None:
                        progress(done, size)
            if time.monotonic() - last > TIMEOUT:
                raise NotFetched(f"the index did not answer in {TIMEOUT} s") from error


# --- in the process of its own


class _Links(HTMLParser):
    """The addresses of the links of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attributes if tag == "a" and key == "href" and value]


@contextmanager
def _pip() -> Iterator[tuple[Any, Any]]:
    """pip's settings for downloads, and a network session with them."""
    try:
        from pip._internal.commands import create_command
    except ImportError as error:
        raise NotFetched(
            "this Python environment has no pip (python -m ensurepip adds it)"
        ) from error
    command: Any = create_command("download")
    options = command.parser.get_default_values()
    options.cache_dir, options.no_input, options.retries = False, True, RETRIES
    with command.main_context():
        yield options, command.get_default_session(options)


def _page_links(session: Any, address: str) -> list[tuple[str, str]]:
    """(address, sha256 or "") of each file that an index page or a folder of links offers."""
    if address.startswith("file:"):
        folder = Path(url2pathname(urlsplit(address).path))
        if folder.is_dir() and not (folder / "index.html").is_file():
            return [(path.as_uri(), "") for path in sorted(folder.iterdir()) if path.is_file()]
        page = folder / "index.html" if folder.is_dir() else folder
        if not page.is_file():
            return []
        return _html_links(page.read_text(errors="replace"), page.as_uri())

    reply = session.get(address, headers={"Accept": ACCEPT}, stream=True)
    if reply.status_code == 404:
        return []
    reply.raise_for_status()
    content = b""
    for chunk in reply.iter_content(CHUNK):
        content += chunk
        if len(content) > PAGE_MAX:
            raise NotFetched(f"an index page has more than {PAGE_MAX} bytes")
    if "json" in reply.headers.get("Content-Type", ""):
        files = json.loads(content)["files"]
        return [
            (urljoin(reply.url, file["url"]), file.get("hashes", {}).get("sha256", ""))
            for file in files
        ]
    return _html_links(content.decode(errors="replace"), reply.url)


def _html_links(text: str, base: str) -> list[tuple[str, str]]:
    parser = _Links()
    parser.feed(text)
    links = []
    for href in parser.found:
        address, _, fragment = urljoin(base, href).partition("#")
        digest = re.search(r"sha256=([0-9a-f]{64})", fragment)
        links.append((address, digest[1] if digest else ""))
    return links


def _file_name(address: str) -> str:
    return unquote(urlsplit(address).path).rpartition("/")[2]


def _is_of_package(name: str, package: str, version: str) -> bool:
    """Whether an archive's file name is that of this package and version."""
    stem = re.sub(r"[-_.]+", "-", name).lower()
    start = re.sub(r"[-_.]+", "-", f"{package}-{version}").lower()
    return stem.startswith(f"{start}-") and name.endswith(SUFFIXES)


def _ask(session: Any, address: str) -> Ask:
    """Ask an address by pip's session."""

    def ask(start: int) -> Reply:
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        reply = session.get(address, headers=headers, stream=True)
        reply.raise_for_status()
        fields = {name.lower(): str(value) for name, value in reply.headers.items()}
        return Reply(*position(reply.status_code, fields), reply.iter_content(CHUNK))

    return ask


def _fetch(package: str, sha256: str, size: int, folder: Path, part: Path) -> str:
    """The name of the archive in `folder`. Raises NotFetched and pip's own errors."""
    with _pip() as (options, session):
        return _fetch_from(options, session, package, sha256, size, folder, part)


def _fetch_from(
    options: Any, session: Any, package: str, sha256: str, size: int, folder: Path, part: Path
) -> str:
    """The name of the archive in `folder`, by pip's settings and session."""
    name, _, version = package.partition("==")
    folders = [
        place if "://" in place else Path(place).resolve().as_uri()
        for place in options.find_links or []
    ]
    indexes = [] if options.no_index else [options.index_url, *(options.extra_index_urls or [])]
    project = re.sub(r"[-_.]+", "-", name).lower()
    pages = folders + [f"{index.rstrip('/')}/{project}/" for index in indexes if index]

    # All files of this version; those whose declared sha256 is the pinned one first.
    reasons: list[str] = []
    offered: list[tuple[str, str]] = []
    for page in pages:
        try:
            offered += _page_links(session, page)
        except Exception as error:  # pip's session raises types of several packages
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
    offered = [link for link in offered if _is_of_package(_file_name(link[0]), name, version)]
    offered.sort(key=lambda link: link[1] != sha256)
    for address, digest in offered:
        if digest not in ("", sha256):
            continue
        file = folder / "archive" / _file_name(address)
        file.parent.mkdir(exist_ok=True)
        try:
            download(_ask(session, address), size, sha256, part, file)
        except WrongContent:
            continue
        except Exception as error:
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
            continue
        return f"archive/{file.name}"
    if offered and not reasons:
        raise NotFetched(
            "the index offers another archive than the pinned one (sha256 differs): refused"
        )
    raise NotFetched("; ".join(reasons) or f"No matching archive of {package} is offered")


def _main(arguments: list[str]) -> None:
    package, sha256, size, folder, part = arguments
    try:
        print(json.dumps({"file": _fetch(package, sha256, int(size), Path(folder), Path(part))}))
    except NotFetched as why:
        print(json.dumps({"reason": str(why)}))


if __name__ == "__main__":
    _main(sys.argv[1:])
