"""Checks of Python, packages, GPU, disk and the shell's completion."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from being.assets import cache_folder
from being.doctor.check import FAILURE, OK, WARNING, Check, of_status
from being.paths import home
from being.reading.content import Unreadable, read_text

TESTED = (("Linux", "x86_64"),)
# System -> what is known of it.
UNTESTED = {
    "Linux": "native code is built for the processor's baseline alone",
    "Darwin": "files, cache and native code know it; no GPU of it is used",
    "Windows": "files, cache and locks know it; without a GNU compiler rendering is slow",
}
PYTHON_FIRST, PYTHON_LAST = (3, 10), (3, 13)
GB = 1_000_000_000
COMPLETION_VARIABLE = "_BEING_COMPLETE"
# Shell -> the script that typer writes, the file that loads it at the start, and by which text.
COMPLETIONS = {
    "bash": ("{home}/.bash_completions/being.sh", "{home}/.bashrc", ".bash_completions/being.sh"),
    "zsh": ("{home}/.zfunc/_being", "{home}/.zshrc", ".zfunc"),
    "fish": ("{home}/.config/fish/completions/being.fish", "", ""),
}
# Free bytes: a dataset of some minutes and its runs take some GB.
FREE_WANTED, FREE_NEEDED = 5 * GB, GB // 2


def check_python() -> Iterator[Check]:
    """The version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if PYTHON_FIRST <= tuple(sys.version_info[:2]) <= PYTHON_LAST:
        yield Check("Python", OK, version)
        return
    first, last = (".".join(map(str, limit)) for limit in (PYTHON_FIRST, PYTHON_LAST))
    yield Check(
        "Python",
        FAILURE,
        f"{version} is not supported",
        f"Make an environment with Python {first} to {last}",
    )


def check_platform() -> Iterator[Check]:
    """The system and the processor: one pair is tested."""
    found = (platform.system(), platform.machine())
    text = " ".join(found)
    if found in TESTED:
        yield Check("platform", OK, text)
        return
    known = UNTESTED.get(found[0], "nothing is known about it")
    fix = "Run being demo first, and report what does not work"
    yield Check("platform", WARNING, f"{text} is not tested: {known}", fix)


def check_packages() -> Iterator[Check]:
    """The required packages in the versions that `pyproject.toml` names; torch on its own line."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires("being") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", FAILURE, "being is not installed", "pip install being")
        return
    faults, torch_line = [], None
    for text in texts:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        fault = _package_fault(needed.name, str(needed.specifier))
        if needed.name == "torch" and not fault:
            torch_line = Check("torch", OK, importlib.metadata.version("torch"))
        elif fault:
            faults.append((fault, f"pip install '{needed.name}{needed.specifier}'"))
    for fault, fix in faults:
        yield Check("packages", FAILURE, fault, fix)
    if not faults:
        yield Check("packages", OK, "all required packages are installed")
    if torch_line:
        yield torch_line


def _package_fault(name: str, wanted: str) -> str:
    """What is wrong with an installed package; "" if nothing is."""
    from packaging.specifiers import SpecifierSet

    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is not installed"
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return ""
    return f"{name} is {version}, needed is {wanted}"


def check_triton() -> Iterator[Check]:
    """Triton, where there is a GPU, in the version that torch asks for."""
    import torch
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in importlib.metadata.requires("torch") or []]
    wanted = next((str(item.specifier) for item in needed if item.name == "triton"), "")
    fault = _package_fault("triton", wanted)
    if not fault:
        yield Check("Triton", OK, importlib.metadata.version("triton"))
    elif torch.cuda.is_available():
        yield Check("Triton", WARNING, fault, f"pip install 'triton{wanted}'")
    else:
        yield Check("Triton", OK, f"{fault}; it is used on a GPU only")


def check_gpu() -> Iterator[Check]:
    """The GPU and its memory, or whether torch and the driver do not fit together."""
    from being.model.gpu import gpu_status

    yield of_status("GPU", gpu_status(), WARNING)


def check_completion() -> Iterator[Check]:
    """Whether the user's shell completes commands, as `being --install-completion` sets it up."""
    name, shell = "shell completion", Path(os.environ.get("SHELL", "")).name
    install = "being --install-completion"
    if shell not in COMPLETIONS:
        yield Check(name, OK, f"not looked for: the shell is {shell or 'not known'}", install)
        return
    script, start_file, loads = (part.format(home=Path.home()) for part in COMPLETIONS[shell])
    texts = [_text_of(Path(file)) for file in (script, start_file) if file]
    if not texts[0]:
        yield Check(name, OK, f"not installed for {shell} (optional)", install)
    elif COMPLETION_VARIABLE not in texts[0]:
        yield Check(name, WARNING, f"{script} is damaged", install)
    elif start_file and loads not in texts[1]:
        yield Check(name, WARNING, f"{start_file} does not load {script}", install)
    else:
        yield Check(name, OK, f"installed for {shell}")


def _text_of(file: Path) -> str:
    """The text of a file of the user's; "" where it cannot be read."""
    try:
        return read_text(file)
    except (OSError, Unreadable):
        return ""


def check_disk() -> Iterator[Check]:
    """Free space and permission to write where datasets, runs and pretrained files lie."""
    for name, folder, switch in (
        ("disk of the home", home(), "BEING_HOME"),
        ("disk of the cache", cache_folder(), "BEING_CACHE"),
    ):
        yield _disk(name, folder.absolute(), switch)


def _disk(name: str, folder: Path, switch: str) -> Check:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    elsewhere = f"set {switch} to a folder on another disk"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fix = f"Set {switch} to a folder that can be written"
        return Check(name, FAILURE, f"{folder} cannot be written", fix)
    free = shutil.disk_usage(there).free
    text = f"{free / GB:.1f} GB free at {folder}"
    if free < FREE_NEEDED:
        return Check(name, FAILURE, text, f"Make room, or {elsewhere}")
    if free < FREE_WANTED:
        return Check(name, WARNING, text, f"A dataset and its runs take some GB: {elsewhere}")
    return Check(name, OK, text)
