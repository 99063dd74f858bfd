"""The page's modules that need no browser, run by Node's own test runner."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "being/api/page"
# A quoted address that does not begin at the page itself.
ABSOLUTE = r"""(?:=|\bfrom|\bimport|\(|\burl\()\s*["'](https?://|//|/[^/"'])"""
TESTS = Path(__file__).parent / "page"


@pytest.fixture(scope="session")
def node() -> str:
    """Node's path; skips where there is none or an old one."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("no Node.js: apt-get install nodejs")
    version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < 18:
        pytest.skip(f"Node.js {version.strip()} has no test runner")
    return path


@pytest.mark.parametrize("test", sorted(TESTS.glob("*.test.mjs")), ids=lambda path: path.stem)
def test_modules(test: Path, node: str, tmp_path: Path) -> None:
    shutil.copytree(PAGE, tmp_path, dirs_exist_ok=True)
    shutil.copy(test, tmp_path)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    done = subprocess.run(
        [node, "--test", test.name], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) > 3, done.stdout


def test_the_page_asks_for_nothing_outside_and_has_no_absolute_path() -> None:
    """A proxy may put a path before the page, and no other host is asked for anything."""
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        outside = re.findall(ABSOLUTE, text)
        assert not outside, f"{path.name}: {outside}"


def test_all_modules_are_asked_for_at_once() -> None:
    """Without `modulepreload`, each level of imports costs the page one more way to the server."""
    listed = re.findall(r'rel="modulepreload" href="([^"]+)"', (PAGE / "index.html").read_text())
    modules = {path.name for path in PAGE.glob("*.js")} - {"main.js", "worklet.js"}
    assert set(listed) == modules
