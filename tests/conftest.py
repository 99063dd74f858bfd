"""Fixtures shared by the tests: the tiny synthetic dataset; where the optional real footage and golden data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The tests' scenes are tiny: threads would only wait for each other, all the more where tests share the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a command talked (`-q`, `--json`) does not stay with the next test."""
    from being import progress

    monkeypatch.setattr(progress.voice, "quiet", False)
    monkeypatch.setattr(progress.voice, "json", False)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real clips, speech and golden reference data; tests that use it are skipped where it is absent."""
    folder = Path(os.environ.get("BEING_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared footage beside this checkout")
    return folder


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny synthetic dataset of `scene.write_scene`, written once; tests that change files do so in a copy."""
    from scene import write_scene

    return write_scene(tmp_path_factory.mktemp("scene") / "scene")
