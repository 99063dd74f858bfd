"""Downloads go on where they broke off, and only the right bytes get through."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from being import assets
from being.assets import Asset, UrlSource, cache, http_download
from being.assets.http_download import WrongContent, ask_address
from being.assets.package_index import _ask
from being.assets.weight_converters import SourceFailed
from being.errors import EnvironmentFault
from being.locks import acquire

CONTENT = np.random.default_rng(0).bytes(5000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class BreakingSite:
    """A server that sends at most `limit` bytes a connection, then breaks it off."""

    def __init__(self) -> None:
        self.content, self.limit, self.ranges = CONTENT, 2000, True
        self.asked: list[int] = []  # first byte of each request
        self.down = False
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
                start = int(found[1]) if found else 0
                site.asked.append(start)
                if site.down:
                    self.send_error(503)
                    return
                size = len(site.content)
                if start >= size:
                    self.send_error(416)
                    return
                start = start if site.ranges else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(size - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                self.end_headers()
                self.wfile.write(site.content[start : start + site.limit])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/weights.bin"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BreakingSite]:
    """The server, with the asset "stand_in" that comes from it."""
    made = BreakingSite()
    monkeypatch.setattr(http_download, "PAUSE_S", 0)
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "cache"))
    for name in cache.OFFLINE_SWITCHES:
        monkeypatch.delenv(name, raising=False)
    asset = Asset("weights.bin", "weights", "CC0", 5000, SHA256, (UrlSource(made.url),), base=True)
    for name in list(assets.ASSETS):
        monkeypatch.delitem(assets.ASSETS, name)
    monkeypatch.setitem(assets.ASSETS, "stand_in", asset)
    yield made
    made.server.shutdown()
    made.server.server_close()


def cached_files() -> list[str]:
    return sorted(path.name for path in assets.cache_folder().rglob("*") if path.is_file())


def test_a_connection_that_breaks_off_is_continued(site: BreakingSite) -> None:
    told: list[tuple[int, int]] = []
    path = assets.fetch("stand_in", lambda done, size: told.append((done, size)))
    assert path.read_bytes() == CONTENT and site.asked == [0, 2000, 4000]
    assert told == sorted(told) and told[-1] == (5000, 5000)
    assert [p.name for p in assets.cache_folder().iterdir()] == ["weights.bin"]


def test_a_later_run_continues_what_is_kept(site: BreakingSite) -> None:
    site.limit = 0
    with pytest.raises(EnvironmentFault):
        assets.fetch("stand_in")
    assert cached_files() == []  # nothing came: nothing is kept

    # The server goes down after the first bytes.
    site.limit, site.asked = 2000, []
    send = site.server.RequestHandlerClass.do_GET  # type: ignore[attr-defined]

    def once(handler: object) -> None:
        send(handler)
        site.down = True

    site.server.RequestHandlerClass.do_GET = once  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentFault, match="2000 of 5000 bytes are kept"):
        assets.fetch("stand_in")
    assert cached_files() == [f"{SHA256[:32]}.part"]

    site.server.RequestHandlerClass.do_GET = send  # type: ignore[attr-defined]
    site.down, site.asked = False, []
    assert assets.fetch("stand_in").read_bytes() == CONTENT
    assert site.asked == [2000, 4000] and cached_files() == ["weights.bin"]


def test_a_server_without_ranges_sends_all_again(site: BreakingSite, tmp_path: Path) -> None:
    part, target = tmp_path / "a/part", tmp_path / "target"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:3000])
    site.ranges, site.limit = False, 5000
    http_download.download(ask_address(site.url), 5000, SHA256, part, target)
    assert target.read_bytes() == CONTENT and site.asked == [3000] and not part.parent.exists()


@pytest.mark.parametrize("kept", [b"?" * 3000, b"?" * 5000, b"?" * 6000, CONTENT])
def test_kept_bytes_of_another_file_are_downloaded_again(
    site: BreakingSite, tmp_path: Path, kept: bytes
) -> None:
    part, target = tmp_path / "part", tmp_path / "target"
    part.write_bytes(kept)
    http_download.download(ask_address(site.url), 5000, SHA256, part, target)
    assert target.read_bytes() == CONTENT and not part.exists()
    assert (site.asked == []) == (kept == CONTENT)


def test_a_refused_range_begins_again(site: BreakingSite, tmp_path: Path) -> None:
    """The server's file is shorter than what is kept: it is another one."""
    part, target = tmp_path / "part", tmp_path / "target"
    part.write_bytes(CONTENT[:3000])
    site.content = CONTENT[:2500]
    with pytest.raises(WrongContent, match="2500 bytes, not the expected 5000"):
        http_download.download(ask_address(site.url), 5000, SHA256, part, target)
    assert site.asked == [3000, 0] and not part.exists() and not target.exists()


def test_another_file_of_the_same_size_is_refused_and_not_kept(site: BreakingSite) -> None:
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(EnvironmentFault, match="sha256"):
        assets.fetch("stand_in")
    assert cached_files() == []


def test_a_part_in_use_is_left_alone(site: BreakingSite, tmp_path: Path) -> None:
    part, target = tmp_path / "part", tmp_path / "target"
    with open(part, "a+b") as other:
        other.write(b"other")
        other.flush()
        assert acquire(other.fileno())
        http_download.download(ask_address(site.url), 5000, SHA256, part, target)
    assert target.read_bytes() == CONTENT and part.read_bytes() == b"other"


def test_pips_session_continues_too(site: BreakingSite, tmp_path: Path) -> None:
    requests = pytest.importorskip("pip._vendor.requests")
    part, target = tmp_path / "part", tmp_path / "target"
    http_download.download(_ask(requests.Session(), site.url), 5000, SHA256, part, target)
    assert target.read_bytes() == CONTENT and site.asked == [0, 2000, 4000]


def test_a_full_disk_ends_the_download_with_its_reason(
    site: BreakingSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    reply = ask_address(site.url)(0)
    with open(full, "wb", buffering=0) as file, pytest.raises(SourceFailed, match="space"):
        for chunk in reply.chunks:
            http_download._write(file, chunk)


def test_hub_offline_forbids_downloads_too(
    site: BreakingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for switch in cache.OFFLINE_SWITCHES:
        monkeypatch.setenv(switch, "1")
        with pytest.raises(EnvironmentFault, match=f"{switch} is set"):
            assets.fetch("stand_in")
        monkeypatch.setenv(switch, "0")
    assert site.asked == [] and assets.fetch("stand_in").read_bytes() == CONTENT
