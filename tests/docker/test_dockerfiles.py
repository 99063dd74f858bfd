"""The Dockerfiles: hadolint finds nothing, and what they name exists. They are not built here."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
import typer

from being.assets import registry
from being.cli.app import app

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SERVE = ROOT / "docker/serve.Dockerfile"


def instructions(file: Path) -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, with continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(name, arguments.strip()) for name, _, arguments in found]


def arguments_of(file: Path, name: str) -> list[str]:
    """The arguments of all instructions of a name, in order."""
    return [arguments for found, arguments in instructions(file) if found == name]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.is_file() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, "--format", "json", file], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout) == [], done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_copied_files_are_there_and_are_let_into_the_build(file: Path) -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    for arguments in arguments_of(file, "COPY"):
        if arguments.startswith("--from="):
            continue
        for source in shlex.split(arguments)[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, rule) for rule in allowed), source


def test_nothing_of_a_person_is_let_into_a_build() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert not allowed & {"data", "runs", ".venv", ".git", "demo", "eval", "exports", "certificate"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_runs_without_the_rights_of_root_and_in_its_volume(file: Path) -> None:
    (user,) = arguments_of(file, "USER")
    assert user.isdecimal() and user != "0"
    made = " ".join(arguments_of(file, "RUN"))
    assert f"--uid {user}" in made
    (volume,) = arguments_of(file, "VOLUME")
    settings = " ".join(arguments_of(file, "ENV"))
    assert f"chown being:being {volume}" in made and f"BEING_HOME={volume}" in settings
    # The user is named after all that only root may do.
    order = [name for name, _ in instructions(file)]
    assert order.index("USER") > max(k for k, name in enumerate(order) if name in ("RUN", "COPY"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_extras_and_files_that_it_installs_exist(file: Path) -> None:
    made = "\n".join(arguments_of(file, "RUN"))
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", made)
    known = set(metadata("being").get_all("Provides-Extra") or [])
    assert set(extras.split(",")) <= known
    assert "--constraint constraints.txt" in made
    for names in re.findall(r"being assets pull ([\w ]+)", made):
        assert set(names.split()) <= set(registry())


def test_the_server_listens_where_its_health_is_asked() -> None:
    (entry,), (health,) = arguments_of(SERVE, "ENTRYPOINT"), arguments_of(SERVE, "HEALTHCHECK")
    words = json.loads(entry)
    port = words[words.index("--port") + 1]
    assert arguments_of(SERVE, "EXPOSE") == [port] and f":{port}/health" in health
    # The program of the check is whole, and fails where nothing answers.
    program = json.loads(health[health.index("[") :])
    assert program[:2] == ["python", "-c"]
    code = program[2].replace(f":{port}/", ":9/")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "URLError" in done.stderr
    serve = getattr(typer.main.get_command(app), "commands")["serve"]  # noqa: B009
    known = {name for parameter in serve.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_no_compiler_gets_into_the_serving_image() -> None:
    text = SERVE.read_text()
    last = text[text.rindex("\nFROM ") :]
    assert "apt-get" not in last and "COPY --from=build /opt/being" in last
    assert "BEING_OFFLINE=1" in last
