"""The wheel and the source distribution hold all files of the package."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def files_of_the_package() -> set[str]:
    """The files of `being/` that git knows and that exist."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    done = subprocess.run(
        ["git", "ls-files", "-z", "being"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def package_data() -> dict[str, list[str]]:
    """The patterns of files of each package, as pyproject.toml gives them."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return settings["tool"]["setuptools"]["package-data"]


def test_each_file_of_the_package_is_packaged_and_each_pattern_finds_one() -> None:
    found: set[str] = set()
    for package, patterns in package_data().items():
        folder = ROOT.joinpath(*package.split("."))
        for pattern in patterns:
            names = glob.glob(pattern, root_dir=folder, recursive=True)
            assert names, f"{package}: nothing matches {pattern}"
            found |= {str((folder / name).relative_to(ROOT)) for name in names}
    others = {name for name in files_of_the_package() if not name.endswith(".py")}
    assert others <= found, f"not packaged: {sorted(others - found)}"


def test_each_folder_with_python_files_is_a_package() -> None:
    folders = {Path(name).parent for name in files_of_the_package() if name.endswith(".py")}
    assert not [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()]


def test_wheel_and_source_distribution_hold_all_files(tmp_path: Path) -> None:
    pytest.importorskip("build")
    names = files_of_the_package()
    source = tmp_path / "source"
    tops = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
    for name in (*names, *tops):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    # The wheel is built from the source distribution; what that lacks, it lacks. The compiler fails
    # at once: libraries are no matter of this test.
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source],
        env={**os.environ, "CXX": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    assert names <= in_wheel, sorted(names - in_wheel)
    (tar,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(tar) as archive:
        in_tar = {name.partition("/")[2] for name in archive.getnames()}
    assert names | set(tops) <= in_tar, sorted((names | set(tops)) - in_tar)
    for name in (
        "being/py.typed",
        "being/config/presets/quick.yaml",
        "being/audio/causal_conformer.safetensors",
        "being/sample/speaker.mp4",
    ):
        assert name in in_wheel & in_tar
    assert any(name.startswith("being/api/page/") for name in in_wheel & in_tar)
