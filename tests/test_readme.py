"""The commands of the README and the docs: their options exist, and those of the README run."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from needs import load_or_skip
from PIL import Image
from program import being

from being import media, sample
from being.cli.app import app
from being.face.canonical_mesh import canonical_mesh

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Length in s and side in px of the built-in clip, in place of a video of one's own
SECONDS, SIDE = 2.4, 256
# Settings that make a training of minutes one of seconds; the commands stay as they are written.
TINY = {
    "BEING_TRAIN__COARSE__STEPS": "2",
    "BEING_TRAIN__FINE__STEPS": "2",
    "BEING_TRAIN__LIPS__WARMUP_STEPS": "2",
    "BEING_TRAIN__LIPS__CLOSURE_STEPS": "2",
    "BEING_TRAIN__PREVIEW_SECONDS": "0",
    "BEING_DATA__SIZE": "64",
    "BEING_DATA__INITIAL_GAUSSIANS": "500",
}


def commands(page: Path) -> list[list[str]]:
    """The words of every line of a code block that begins with `being`, without its comment."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("being ")]


def options(words: list[str]) -> tuple[set[str], set[str]]:
    """The options that a command line uses, and those that its command has."""
    command = typer.main.get_command(app)
    arguments = words[1:]
    # A group of commands has `commands`; typer brings its own copy of click's classes.
    while group := getattr(command, "commands", None):
        command = group[arguments.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    return {word for word in arguments if word.startswith("-")}, known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_pages_has_the_options_that_it_is_shown_with(page: Path) -> None:
    for words in commands(page):
        used, known = options(words)
        assert used <= known, (words, used - known)


def test_the_commands_of_the_readme_run_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_or_skip(canonical_mesh)
    frames = itertools.islice(media.read_frames(sample.sample_clip()), round(25 * SECONDS))
    audio = media.read_audio(sample.sample_clip())[: round(16_000 * SECONDS)]
    with media.VideoWriter(tmp_path / "me.mp4", SIDE, SIDE, audio=audio) as video:
        for frame in frames:
            video.write(np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))))
    for name, value in TINY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("BEING_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    shown = commands(ROOT / "README.md")
    assert [words[1] for words in shown] == ["preprocess", "train", "tts-video"]
    for words in shown:
        done = being(*words[1:])
        assert done.exit_code == 0, (words, done.stderr[-2000:], done.exception)
    assert len(list(tmp_path.glob("**/avatar/manifest.json"))) == 1
    assert len(list(tmp_path.glob("**/*.mp4"))) >= 2
