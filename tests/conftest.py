"""Fixtures shared by the tests: the tiny synthetic dataset, a home with a run of it; where the
optional real footage and golden data are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# The tests' scenes are tiny: threads would only wait for each other, all the more where tests share
# the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if (
    os.environ.get("TRITON_INTERPRET") == "1"
):  # kernels meet NaN, or the largest number, where nothing was written
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture(autouse=True)
def own_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a command talked (`-q`, `--json`) does not stay with the next test."""
    from being import console

    monkeypatch.setattr(console.voice, "quiet", False)
    monkeypatch.setattr(console.voice, "json", False)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real clips, speech and golden reference data; tests that use it are skipped where
    it is absent.
    """
    folder = Path(os.environ.get("BEING_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared footage beside this checkout")
    return folder


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny synthetic dataset of `scene.write_scene`, written once; tests that change files do
    so in a copy.
    """
    from scene import write_scene

    return write_scene(tmp_path_factory.mktemp("scene") / "scene")


@pytest.fixture(scope="session")
def made(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset and a finished run of it, in a few steps; tests write elsewhere."""
    from tiny_home import make_home

    return make_home(tmp_path_factory.mktemp("home"), scene)


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`made` as BEING_HOME, and an empty folder as the current one."""
    monkeypatch.setenv("BEING_HOME", str(made))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def run(home: Path) -> Path:
    """The run in `home`."""
    return next((home / "runs/scene").iterdir())


@pytest.fixture
def avatar(run: Path, tmp_path: Path) -> Path:
    """A copy of the avatar, to be spoilt."""
    return shutil.copytree(run / "avatar", tmp_path / "avatar")


@pytest.fixture(scope="session")
def hearing() -> None:
    """Skip where the speech encoder cannot be had."""
    from needs import had

    from being.audio.encoders import encoder

    had(lambda: encoder("hama"))
