"""Fetches the archive of a published package as it is: nothing in it is run.

`pip download` prepares the metadata of a source archive, and that runs the archive's own code. So
the files that the package index offers are listed here, and the one with the pinned sha256 is
downloaded. pip still gives its settings (index, extra indexes, links, proxy, certificates) and its
network session (credentials, retries). pip runs in a process of its own, because its modules are
made for its own program only.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

# Time for a whole package, s; the largest is 100 MB.
TIMEOUT = 900
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


def fetch_archive(package: str, sha256: str, size: int, folder: Path) -> Path:
    """The archive of `package` ("name==version") with this sha256 and size, put into `folder`.

    The caller compares the sha256 of what came. Raises NotFetched.
    """
    command = [sys.executable, "-m", __name__, package, sha256, str(size), str(folder)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise NotFetched(f"the index did not answer in {TIMEOUT} s") from error
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise NotFetched((lines or ["pip failed without a message"])[-1]) from error
    if "reason" in answer:
        raise NotFetched(answer["reason"])
    return folder / answer["file"]


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


def _download(session: Any, address: str, size: int, file: Path) -> None:
    """Download the file at an address, which must have `size` bytes."""
    reply = session.get(address, headers={"Accept-Encoding": "identity"}, stream=True)
    reply.raise_for_status()
    done = 0
    with open(file, "wb") as out:
        for chunk in reply.iter_content(CHUNK):
            done += len(chunk)
            if done > size:
                break
            out.write(chunk)
    if done != size:
        raise NotFetched(f"{file.name} has not the expected {size} bytes: refused")


def _fetch(package: str, sha256: str, size: int, folder: Path) -> str:
    """The name of the archive in `folder`. Raises NotFetched and pip's own errors."""
    with _pip() as (options, session):
        return _fetch_from(options, session, package, sha256, size, folder)


def _fetch_from(
    options: Any, session: Any, package: str, sha256: str, size: int, folder: Path
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
            _download(session, address, size, file)
        except Exception as error:
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
            continue
        if hashlib.sha256(file.read_bytes()).hexdigest() == sha256:
            return f"archive/{file.name}"
    if offered and not reasons:
        raise NotFetched(
            "the index offers another archive than the pinned one (sha256 differs): refused"
        )
    raise NotFetched("; ".join(reasons) or f"No matching archive of {package} is offered")


def _main(arguments: list[str]) -> None:
    package, sha256, size, folder = arguments
    try:
        print(json.dumps({"file": _fetch(package, sha256, int(size), Path(folder))}))
    except NotFetched as why:
        print(json.dumps({"reason": str(why)}))


if __name__ == "__main__":
    _main(sys.argv[1:])
