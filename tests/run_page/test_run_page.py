"""The page of a running training: what it reads, what it refuses, and what a browser shows."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import Chromium, LoopThread
from PIL import Image
from program import refused

from being.config import load
from being.errors import EnvironmentFault
from being.run_page import server
from being.run_page.server import RunPage
from being.runs.run_directory import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    dataset = tmp_path / "data"
    dataset.mkdir()
    (dataset / "manifest.json").write_text("{}")
    made = Run.create(dataset, "me", load("quick", ["train.fine.steps=100"]), "quick", tmp_path)
    made.update(device="cpu")
    return made


@pytest.fixture
def page(run: Run) -> Iterator[RunPage]:
    with RunPage(0) as page:
        page.show(run.path)
        yield page


def log_rows(run: Run, stage: str, *steps: int) -> None:
    for step in steps:
        run.log(stage, step, {"loss": 1 / step, "psnr_head": 20 + step / 100})


def sheet(run: Run, name: str) -> None:
    (run.path / "previews").mkdir(exist_ok=True)
    Image.new("RGB", (60, 20), "teal").save(run.path / "previews" / name)


def get(page: RunPage, path: str, host: str = "") -> tuple[int, bytes]:
    address = urlsplit(page.url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)
    connection.request("GET", path, headers={"Host": host or f"localhost:{address.port}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def answer(page: RunPage, path: str) -> Any:
    status, body = get(page, path)
    assert status == 200, (status, body)
    return json.loads(body)


def test_rows_come_once_and_half_a_row_waits(run: Run, page: RunPage) -> None:
    assert answer(page, "/metrics") == {"rows": [], "next": 0, "again": False}
    log_rows(run, "coarse", 50, 100)
    first = answer(page, "/metrics")
    assert [row["step"] for row in first["rows"]] == [50, 100]
    file = run.path / "metrics.jsonl"
    with open(file, "a") as content:
        content.write('{"stage": "fine", "step": 10, "loss": NaN}\n[1]\nxx\n{"stage": "fine", "st')
    more = answer(page, f"/metrics?start={first['next']}")
    assert more["rows"] == [{"stage": "fine", "step": 10}]
    assert answer(page, f"/metrics?start={more['next']}")["rows"] == []
    assert answer(page, "/metrics?start=-1")["again"]
    assert answer(page, f"/metrics?start={file.stat().st_size + 1}")["again"]
    assert get(page, "/metrics?start=x")[0] == 422


def test_a_long_run_comes_in_parts(
    run: Run, page: RunPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_ROWS", 2)
    log_rows(run, "coarse", 1, 2, 3)
    first = answer(page, "/metrics")
    rest = answer(page, f"/metrics?start={first['next']}")
    assert [len(first["rows"]), len(rest["rows"])] == [2, 1]


def test_nothing_but_previews_is_given_out(run: Run, page: RunPage) -> None:
    sheet(run, "sheet_coarse_000500.jpg")
    (run.path / "previews" / "notes.txt").write_text("x")
    (run.path / "previews" / "sheet_fine_000500.jpg").symlink_to(run.path / "nowhere")
    assert answer(page, "/run")["previews"] == ["sheet_coarse_000500.jpg"]
    assert get(page, "/previews/sheet_coarse_000500.jpg")[0] == 200
    for path in (
        "/previews/notes.txt",
        "/previews/sheet_fine_000500.jpg",
        "/previews/..%2frun.json",
        "/previews/../run.json",
        "/run.json",
        "/server.py",
    ):
        assert get(page, path)[0] == 404, path


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.0.2.1", "[2001:db8::1]"])
def test_a_name_that_another_site_points_here_is_refused(page: RunPage, host: str) -> None:
    for path in ("/", "/run", "/metrics", "/page.js"):
        assert get(page, path, host)[0] == 403
    assert get(page, "/run", "[::1]:80")[0] == 200


def test_before_a_run_and_with_a_damaged_one() -> None:
    with RunPage(0) as page:
        assert get(page, "/run")[0] == 404 and get(page, "/")[0] == 200
        assert page.url.startswith("http://localhost:")


def test_a_damaged_run_says_why(run: Run, page: RunPage) -> None:
    (run.path / "run.json").write_text("{")
    status, body = get(page, "/run")
    assert status == 503 and b"run.json" in body


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(EnvironmentFault, match="--port"):
            RunPage(taken.getsockname()[1])


def test_a_port_without_a_page(tmp_path: Path) -> None:
    refused(2, "--port belongs to --page", "train", tmp_path, "--port", "9000")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    loop = LoopThread()
    chromium = Chromium(loop)
    yield chromium
    chromium.close()
    loop.close()


def test_a_browser_shows_figures_and_sheets_as_they_come(
    run: Run, page: RunPage, browser: Chromium
) -> None:
    log_rows(run, "coarse", 100, 600)
    sheet(run, "sheet_coarse_000500.jpg")
    view = browser.open(page.url, width=500)
    view.wait("document.querySelector('#sheet img')?.complete")
    assert view.run("document.getElementById('state').textContent") == (
        "coarse stage, step 600 of 600"
    )
    log_rows(run, "fine", 50)
    sheet(run, "sheet_fine_000050.jpg")
    view.wait("document.getElementById('state').textContent === 'fine stage, step 50 of 100'")
    view.wait("document.querySelector('#sheet img').src.endsWith('sheet_fine_000050.jpg')")
    assert "20.50 dB" in view.run("document.getElementById('figures').textContent")
    points = view.run("document.querySelector('#quality polyline').getAttribute('points')")
    assert len(points.split()) == 3 and "NaN" not in points
    run.update(finished=True)
    view.wait("document.getElementById('state').textContent.startsWith('Finished')")
    assert view.complaints == []
    assert all(url.startswith(page.url) for url in view.requests)
