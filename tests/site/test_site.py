"""The site of the documentation: strict build, generated pages, and each page in Chromium."""

from __future__ import annotations

import ast
import functools
import http.server
import importlib.metadata
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium, LoopThread, find_chromium

from being import assets
from scripts.site import error_list, hooks, licences

pytest.importorskip("mkdocs")
pytest.importorskip("material")
ROOT = Path(__file__).parents[2]
WIDTHS = {"desktop": 1280, "phone": 390}  # px


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """`make docs` into another folder."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
def test_all_pages_of_docs_and_all_generated_ones_are_there(site: Path) -> None:
    wanted = {page.with_suffix(".html").name for page in (ROOT / "docs").glob("*.md")}
    wanted |= {"index.html", "contributing.html", "changelog.html", "examples.html"}
    wanted |= {"licences.html", "errors.html"}
    assert wanted <= {page.name for page in site.glob("*.html")}
    # A bar inside code of a table is a bar.
    assert "coarse|fine|all" in text_of(site / "commands.html").replace("&#124;", "|")
    for program in (ROOT / "examples").glob("*.py"):
        anchor = program.name.replace(".", "")
        assert f'id="{anchor}"' in (site / "examples.html").read_text()
        assert f'href="examples.html#{anchor}"' in (site / "commands.html").read_text()


def test_every_page_is_in_the_navigation_and_make_counts_warnings() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r": (\w+\.md)$", navigation, re.M))
    made = {"index.md", "contributing.md", "changelog.md", "examples.md", "licences.md"}
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} | made | {"errors.md"}
    # With --quiet, warnings are not counted, and --strict has no effect.
    recipe = re.search(r"mkdocs.*build.*", (ROOT / "Makefile").read_text())
    assert recipe and "--strict" in recipe[0] and "--quiet" not in recipe[0]


def text_of(page: Path) -> str:
    """The text of a page, without tags."""
    return re.sub(r"<[^>]+>", "", page.read_text("utf-8"))


def test_a_broken_link_and_a_broken_anchor_fail(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for link in ("gone.md", "index.md#gone"):
        (folder / "index.md").write_text(f"# Page\n\n[link]({link})\n")
        config = tmp_path / "mkdocs.yml"
        text = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[0]
        config.write_text(re.sub(r"^hooks:.*$|.*custom_dir.*$", "", text, flags=re.MULTILINE))
        done = build(tmp_path / "site", config)
        assert done.returncode == 1 and "gone" in done.stderr, done.stderr


@pytest.mark.slow
def test_each_page_opens_in_chromium_without_complaints_or_requests_elsewhere(
    site: Path, address: str
) -> None:
    find_chromium()
    loop = LoopThread()
    browser = Chromium(loop)
    try:
        pages = sorted(page.name for page in site.glob("*.html"))
        for number, name in enumerate(pages):
            # Each page in one width, by turns: what differs is the theme's own.
            width = list(WIDTHS.values())[number % len(WIDTHS)]
            page = browser.open(address + name, width=width)
            assert not page.complaints, (name, page.complaints)
            away = [url for url in page.requests if not url.startswith((address, "data:"))]
            assert not away, (name, away)
            wide = page.run("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is {wide} px wider than a window of {width} px"
            broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
            assert page.run(broken) == 0, name
            page.close()
    finally:
        browser.close()
        loop.close()


# --- links


@pytest.mark.parametrize(
    "folder, link, wanted",
    [
        ("docs", "commands.md#voices", "commands.md#voices"),
        ("docs", "../CONTRIBUTING.md", "contributing.md"),
        ("docs", "../examples/render_frames.py", "examples.md#render_framespy"),
        ("docs", "https://example.org/a.md", "https://example.org/a.md"),
        ("", "docs/training.md#stages", "training.md#stages"),
        ("", "docs/images/speaker.webp", "images/speaker.webp"),
        ("", "examples", "examples.md"),
        ("", "CHANGELOG.md", "changelog.md"),
    ],
)
def test_links_lead_to_pages_of_the_site(folder: str, link: str, wanted: str) -> None:
    found = hooks.LINK.search(f"[text]({link})")
    assert found
    assert hooks.site_link(found, hooks.PurePosixPath(folder)) == f"]({wanted})"


# --- licences


def test_every_file_and_every_installed_wheel_has_its_licence() -> None:
    page = licences.licence_page()
    for name, asset in assets.registry().items():
        assert f"| `{name}` | {asset.purpose} | {asset.licence} |" in page
    found = {wheel.name.lower(): wheel for wheel in licences.wheels()}
    torch = found["torch"]
    assert torch.version == importlib.metadata.version("torch") and "BSD" in torch.licence
    assert licences.BASE in torch.extras
    assert "serve" in found["fastapi"].extras and licences.BASE not in found["fastapi"].extras
    assert "starlette" in found, "what a wheel needs is listed too"
    assert "pytest" not in found, "tools of those who change the code are not"


@pytest.mark.parametrize(
    "fields, licence",
    [
        ({"License-Expression": "MIT", "License": "other"}, "MIT"),
        ({"License": "BSD 3-Clause"}, "BSD 3-Clause"),
        (
            {"License": "text " * 99, "Classifier": "License :: OSI Approved :: MIT License"},
            "MIT License",
        ),
        ({"License": "text " * 99}, f"{('text ' * 99)[:60]} ..."),
        ({}, "not stated"),
    ],
)
def test_the_licence_is_that_of_the_metadata(fields: dict[str, str], licence: str) -> None:
    from email.message import Message

    metadata = Message()
    for name, value in fields.items():
        metadata[name] = value
    assert licences.licence_of(metadata) == licence  # type: ignore[arg-type]


# --- errors


def test_messages_are_collected_with_what_is_computed_left_out(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room/a.py").write_text(
        'LIMIT = 5\nFIX = "Do this"\n'
        'raise InputRejected(f"{path} has {LIMIT} parts", "it " + "does", fix=FIX)\n'
        'raise UsageError(f"{a} {b}")\n'
        'raise Refusal("code", "too many" if n else "too few", "there are", "Wait")\n'
    )
    found = error_list.collected(tmp_path)
    assert [(error.what, error.why, error.fix, error.code) for error in found] == [
        ("too few", "there are", "Wait", ""),
        ("too many", "there are", "Wait", ""),
        ("… has 5 parts", "it does", "Do this", "4"),
    ]


def test_the_page_of_errors_has_hundreds_of_them() -> None:
    page = error_list.error_page(ROOT / "being")
    assert page.count("\n| ") > 300
    assert "Unset …, or copy" in page


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    known = {error.what for error in error_list.collected(ROOT / "being")}
    # The inspection's findings, and errors that are made of them, are no errors of their own.
    known |= findings(ROOT / "being/preprocess/inspection")
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/troubleshooting.md").read_text(), re.M)
    assert len(rows) > 40
    assert not [row for row in rows if row not in known]


def findings(folder: Path) -> set[str]:
    """What the findings of the inspection say."""
    return {
        error_list._text(node.args[2], {})
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Finding"
        and len(node.args) > 2
    }
