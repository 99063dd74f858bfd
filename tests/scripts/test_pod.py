"""scripts/pod.sh: what it runs, what it refuses and how it resumes, on a simulated machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/pod.sh"
TOOLS = (
    "bash",
    "sh",
    "env",
    "cat",
    "sed",
    "grep",
    "head",
    "sort",
    "id",
    "dirname",
    "basename",
    "mkdir",
    "touch",
    "tail",
    "gcc",
)
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("bash") is None,
    reason="a script for Linux",
)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, the only ones there are: the usual tools, an A100, a whole Python, a
    compiler.
    """
    folder = tmp_path / "bin"
    for tool in TOOLS:
        if (found := shutil.which(tool)) is not None:
            program(folder / tool, f'exec {found} "$@"')
    for compiler in ("gcc", "g++"):
        program(folder / compiler, "exit 0")
    program(folder / "nvidia-smi", 'echo "NVIDIA A100-SXM4-80GB, 81920 MiB, 580.10, 8.0"')
    program(folder / "python3", 'case "$2" in *torch*) exit 1;; *print*) echo 3.12;; esac')
    (tmp_path / "me.being").write_text("")
    return folder


def pod(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The output of the script, run in the home of the machine."""
    home = machine.parent / "home"
    environment = {
        key: value for key, value in os.environ.items() if key not in ("CC", "CXX", "BEING_HOME")
    }
    return subprocess.run(
        [str(machine / "bash"), str(SCRIPT), "--home", str(home), *arguments],
        text=True,
        cwd=machine.parent,
        env={**environment, "PATH": str(machine)},
        capture_output=True,
    )


def commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line[2:].strip() for line in done.stderr.splitlines() if line.startswith("+ ")]


def test_its_syntax_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    assert os.access(SCRIPT, os.X_OK)


def test_a_dry_run_tells_every_step_and_does_none(machine: Path) -> None:
    done = pod(machine, "--dry-run", "me.being", "--", "--until-plateau", "--log", "wandb")
    assert done.returncode == 0, done.stderr
    home = machine.parent / "home"
    venv, install, stamp, unpack, train = commands(done)
    assert venv.endswith(f"python3 -m venv {home}/.being-venv")
    assert "--constraint" in install and install.endswith(
        f"--editable {SCRIPT.parents[1]}\\[all\\]"
    )
    assert stamp == f"touch {home}/.being-venv/.installed"
    assert unpack == f"{home}/.being-venv/bin/being data unpack me.being --out {home}/data/me"
    assert train == (
        f"{home}/.being-venv/bin/being train {home}/data/me --config 64_dim_1_transformer "
        "--until-plateau --log wandb"
    )
    assert "A100" in done.stderr and not home.exists()


def test_another_build_of_torch_comes_first_and_is_not_pinned(machine: Path) -> None:
    done = pod(
        machine,
        "--dry-run",
        "--torch-index",
        "https://example.org/whl",
        "--config",
        "quick",
        "me.being",
    )
    torch, install = commands(done)[1:3]
    assert torch.endswith("--index-url https://example.org/whl torch\\>=2.11")
    assert "--constraint " + str(machine.parent / "home/.being-venv/constraints.txt") in install
    assert commands(done)[-1].endswith("--config quick")


def test_a_torch_that_is_there_and_drives_the_gpu_is_kept(machine: Path) -> None:
    program(machine / "python3", 'case "$2" in *print*) echo 3.12;; esac')
    venv, install = commands(pod(machine, "--dry-run", "me.being"))[:2]
    assert "--system-site-packages" in venv and ".being-venv/constraints.txt" in install
    program(machine / "python3", 'case "$2" in *base_prefix*) exit 1;; *print*) echo 3.12;; esac')
    assert "--system-site-packages" not in commands(pod(machine, "--dry-run", "me.being"))[0]


def test_what_the_machine_lacks_is_installed_or_named(machine: Path) -> None:
    program(
        machine / "python3",
        'case "$2" in *ensurepip*|*Python.h*) exit 1;; *print*) echo 3.12;; esac',
    )
    (machine / "g++").unlink()
    program(machine / "id", "echo 1000")
    done = pod(machine, "--dry-run", "me.being")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith(
        "apt-get install python3.12-venv python3.12-dev g++"
    )
    program(machine / "id", "echo 0")
    program(machine / "apt-get", "exit 1")
    assert commands(pod(machine, "--dry-run", "me.being"))[1].endswith(
        "--yes python3.12-venv python3.12-dev g++"
    )


@pytest.mark.parametrize(
    "fault, code, says",
    [
        ("no driver", 3, "nvidia-smi is missing"),
        ("no GPU", 3, "finds no GPU"),
        ("old GPU", 3, "compute capability 7.5, 8.0"),
        ("no python", 3, "no Python 3.10 to 3.13"),
        ("no data", 4, "nowhere.being does not exist"),
        ("option", 2, "unknown option --log"),
        ("two", 2, "more than one dataset"),
        ("none", 2, "no dataset is named"),
        ("no room", 1, "cannot write"),
        ("no value", 2, "--config needs a value"),
    ],
)
def test_what_will_not_do_is_one_line_and_a_code(
    machine: Path, fault: str, code: int, says: str
) -> None:
    arguments = {
        "no data": ["nowhere.being"],
        "option": ["me.being", "--log", "wandb"],
        "two": ["me.being", "a"],
        "none": [],
        "no value": ["me.being", "--config"],
    }.get(fault, ["me.being"])
    if fault == "no driver":
        (machine / "nvidia-smi").unlink()
    elif fault == "no GPU":
        program(machine / "nvidia-smi", "exit 6")
    elif fault == "old GPU":
        program(machine / "nvidia-smi", 'echo "Tesla T4, 15360 MiB, 580.10, 7.5"')
    elif fault == "no python":
        program(machine / "python3", "exit 1")
    elif fault == "no room":
        (machine.parent / "home").write_text("")
    done = pod(machine, *arguments)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code and len(errors) == 1 and says in errors[0], done.stderr
    assert not (machine.parent / "home/.being-venv").exists()


def installed(machine: Path, trained: str = "") -> Path:
    """Pretend that everything is installed; the file in which `being` notes what it was called
    with.
    """
    venv, noted = machine.parent / "home/.being-venv", machine.parent / "noted.txt"
    program(venv / "bin/python", f'case "$2" in *Run.open*) echo "{trained}";; esac')
    program(
        venv / "bin/being",
        f'echo "$BEING_HOME: $*" >> {noted}\n'
        'if [ "$2" = unpack ]; then mkdir -p "$5"; echo {} > "$5/dataset.json"; fi',
    )
    (venv / ".installed").write_text("")
    return noted


def test_run_again_it_goes_on_without_installing_or_unpacking_anew(machine: Path) -> None:
    noted, home = installed(machine), machine.parent / "home"
    for _ in range(2):
        done = pod(machine, "me.being", "--", "--until-plateau")
        assert done.returncode == 0, done.stderr
    unpack, *trains = noted.read_text().splitlines()
    assert unpack == f"{home}: data unpack me.being --out {home}/data/me"
    assert (
        trains
        == [f"{home}: train {home}/data/me --config 64_dim_1_transformer --until-plateau"] * 2
    )


def test_what_is_trained_is_not_trained_again(machine: Path) -> None:
    noted = installed(machine, trained="runs/me/1_64_dim_1_transformer")
    done = pod(machine, "me.being")
    assert done.returncode == 0 and "trained already: runs/me/1_64" in done.stderr
    assert ": train " not in noted.read_text()
    pod(machine, "me.being", "--", "--fresh")
    assert noted.read_text().splitlines()[-1].endswith("--fresh")


def test_a_torch_that_cannot_use_the_gpu_is_explained(machine: Path) -> None:
    installed(machine)
    program(
        machine.parent / "home/.being-venv/bin/python",
        'case "$2" in *print*) echo "torch 2.13.0 is built for CUDA 13.0";; *) exit 1;; esac',
    )
    done = pod(machine, "me.being")
    assert (
        done.returncode == 3
        and "2.13.0 is built for CUDA 13.0 and cannot use this GPU" in done.stderr
    )
    assert "--torch-index" in done.stderr
