"""being assets and being doctor, as a person and a script see them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from program import being, refused

from being import assets, doctor
from being.assets import Asset, UrlSource
from being.doctor import Check

CONTENT = b"weights"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder, empty, for two small files whose sources are out of reach."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEING_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("BEING_OFFLINE", "1")
    for name in list(assets.ASSETS):
        monkeypatch.delitem(assets.ASSETS, name)
    digest = hashlib.sha256(CONTENT).hexdigest()
    for name, base in (("small", True), ("extra", False)):
        source = UrlSource(f"http://127.0.0.1:9/{name}")
        made = Asset(
            f"{name}.bin", f"{name} part", "CC0-1.0", 7, digest, (source,), None, ("train",), base
        )
        monkeypatch.setitem(assets.ASSETS, name, made)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_list_tells_all_facts_and_whether_files_are_whole(shelf: Path) -> None:
    (shelf / "small.bin").write_bytes(CONTENT)
    (shelf / "extra.bin").write_bytes(b"weight?")
    shown = being("assets", "list").stdout
    for part in ("small", "cached", "extra", "damaged", "CC0-1.0", "http://127.0.0.1:9/extra"):
        assert part in shown
    small, extra = json.loads(being("assets", "list", "--json").stdout)["files"]
    assert small["state"] == "cached" and extra["state"] == "damaged"
    assert small["sha256"] == hashlib.sha256(CONTENT).hexdigest() and small["size"] == 7
    assert small["base"] and not extra["base"] and small["sources"] == ["http://127.0.0.1:9/small"]
    assert small["purpose"] == "small part" and small["licence"] == "CC0-1.0"


def test_verify_names_a_damaged_file_and_what_to_do(shelf: Path) -> None:
    assert being("assets", "verify").exit_code == 0  # nothing is cached
    (shelf / "small.bin").write_bytes(CONTENT)
    assert json.loads(being("assets", "verify", "--json").stdout)["files"][0]["state"] == "cached"
    (shelf / "extra.bin").write_bytes(CONTENT[:-1])
    error = refused(1, "extra.bin.*6 bytes instead of 7", "assets", "verify")
    assert error["fix"] == "Fetch again: being assets pull extra"
    assert being("assets", "verify", "small").exit_code == 0


def test_pull_offline_refuses_all_that_is_not_cached(shelf: Path) -> None:
    error = refused(3, r"small \(missing\)", "assets", "pull")
    assert "extra" not in error["what"] and "BEING_OFFLINE" in error["why"]
    error = refused(3, r"small \(missing\), extra \(missing\)", "assets", "pull", "--all")
    (shelf / "small.bin").write_bytes(CONTENT)
    assert being("assets", "pull").exit_code == 0
    assert being("assets", "pull", "small").exit_code == 0


def test_pull_names_what_it_could_not_fetch(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEING_OFFLINE")
    result = being("assets", "pull", "--all", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 3 and "2 of 2 files" in answer["error"]["what"]
    assert [found["state"] for found in answer["files"]] == ["missing", "missing"]


def test_wrong_names_are_refused_with_the_nearest(shelf: Path) -> None:
    assert "small" in refused(2, "smal", "assets", "pull", "smal")["fix"]
    refused(2, "--all", "assets", "pull", "small", "--all")
    refused(2, "nothing", "assets", "verify", "nothing")


@pytest.mark.parametrize("name", ["doctor", "assets list", "assets pull", "assets verify"])
def test_every_command_has_help_and_an_example(name: str) -> None:
    result = being(*name.split(), "--help")
    assert result.exit_code == 0 and "--json" in result.stdout and "Example" in result.stdout


@pytest.mark.parametrize("level, code", [("ok", 0), ("warning", 0), ("failure", 3)])
def test_doctor_ends_with_3_where_a_check_failed(
    level: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [Check("Python", "ok", "3.12"), Check("disk", level, "it is full", "Make room")]
    asked = []
    monkeypatch.setattr(doctor, "examine", lambda *words: asked.append(words) or iter(checks))
    result = being("doctor", "--serve", "--port", "9000", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == code and answer["ok"] == (code == 0)
    assert answer["checks"][1] == vars(checks[1]) and answer["counts"][level] >= 1
    assert asked == [(None, ("127.0.0.1", 9000))]
    plain = being("doctor")
    line = f"{level:<8} {'disk':<25} it is full. Make room"
    assert line in (plain.stderr if code else plain.stdout).splitlines()
