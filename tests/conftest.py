"""Fixtures that tests share: a tiny dataset, a home with a finished run, optional real footage."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from drawn_dataset import DrawnClip

# The tests' scenes are tiny. More threads would only wait for each other, and tests may share the
# machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No file of a test must outlast a power cut. What is saved, and when, test_files.py and
# test_write_attacks.py see from the calls.
os.fsync = lambda _: None
os.sync = lambda: None
# Under nohup SIGHUP is ignored, and SIGINT behind `&`; what tests start would ignore them too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# With Triton's interpreter, memory that no kernel has written holds NaN or the largest number, so
# that a read of it shows.
if os.environ.get("TRITON_INTERPRET") == "1":
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True


# The files that take longest begin first, so that the processes of `make test` end together.
LONG_FILES = (
    "test_interpreted.py",
    "preprocess/test_pipeline.py",
    "test_readme.py",
    "test_write_attacks.py",
    "api/test_page_in_browser.py",
    "api/test_page_with_server.py",
    "train/test_training.py",
    "cli/test_avatar_commands.py",
    "train/test_resume.py",
    "cli/test_bad_inputs.py",
    "preprocess/inspection/test_picture.py",
    "interop/pack/test_pack.py",
    "interop/family/test_importer.py",
    "cli/test_commands.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of LONG_FILES first, in this order."""
    folder = Path(__file__).parent
    order = {folder / name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(autouse=True)
def fresh_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with a console without `-q` and `--json`, which commands set."""
    from being.console import console

    monkeypatch.setattr(console, "quiet", False)
    monkeypatch.setattr(console, "json", False)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real clips, speech and golden reference data; skips where it is missing."""
    folder = Path(os.environ.get("BEING_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared footage beside this checkout")
    return folder


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny synthetic dataset of `scene.write_scene`; a test that changes files uses a copy."""
    from scene import write_scene

    return write_scene(tmp_path_factory.mktemp("scene") / "scene")


@pytest.fixture(scope="session")
def shared_home(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a dataset and a finished run of a few steps; a test writes elsewhere."""
    from tiny_home import make_home

    return make_home(tmp_path_factory.mktemp("home"), scene)


@pytest.fixture(scope="session")
def drawn_clip(tmp_path_factory: pytest.TempPathFactory) -> DrawnClip:
    """A video of a drawn talking head, with its truth. Skips where the pretrained files of face
    landmarks cannot be had.
    """
    from drawn_dataset import drawn_clip
    from needs import load_or_skip

    from being.face.landmarks import FaceLandmarker

    load_or_skip(FaceLandmarker)

    return drawn_clip(tmp_path_factory)


@pytest.fixture(scope="session")
def drawn_dataset(drawn_clip: DrawnClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `drawn_clip` as preprocessing writes it; a test that changes files uses a
    copy.
    """
    from drawn_dataset import drawn_dataset

    return drawn_dataset(tmp_path_factory)


@pytest.fixture
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`shared_home` as BEING_HOME, and an empty folder as the current one."""
    monkeypatch.setenv("BEING_HOME", str(shared_home))
    monkeypatch.chdir(tmp_path)
    return shared_home


@pytest.fixture
def run(home: Path) -> Path:
    """The run in `home`."""
    return next((home / "runs/scene").iterdir())


@pytest.fixture
def avatar(run: Path, tmp_path: Path) -> Path:
    """A copy of the avatar in `home`, which a test may damage."""
    return shutil.copytree(run / "avatar", tmp_path / "avatar")


@pytest.fixture(scope="session")
def speech_encoder() -> None:
    """Skip the test where the speech encoder cannot be loaded."""
    from needs import load_or_skip

    from being.audio.encoders import load_encoder

    load_or_skip(lambda: load_encoder("hama"))


@pytest.fixture
def loudness_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The speech encoder "loudness", which is known while the test runs."""
    from loudness_encoder import LoudnessEncoder

    from being.audio import encoders

    monkeypatch.setitem(encoders.ENCODERS, "loudness", LoudnessEncoder)
    encoders.load_encoder.cache_clear()
    yield
    encoders.load_encoder.cache_clear()
