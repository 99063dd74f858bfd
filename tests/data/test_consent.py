"""Consent of the person: the questions, the record, and the metadata of every video."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from scene import SIZE, WIDTH

from being.cli import data_commands
from being.config import load
from being.console import console
from being.data.clip import load_clip
from being.data.consent import Consent, consent_note
from being.data.dataset import Dataset
from being.inference.engine import Engine
from being.inference.video import StepTimes, render_video
from being.model.avatar import load_avatar
from being.model.avatar_writing import save_avatar
from being.runs.run_directory import Run
from being.train.preview import Previews
from being.train.trainer import untrained_model


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "typed, expected",
    [
        ("my own\nit is me\n", {"confirmed": True, "statement": "my own; it is me"}),
        ("\n", {"confirmed": False}),
        ("Ada\n\n", {"confirmed": False}),
        ("  \n", {"confirmed": False}),
        ("", {"confirmed": False}),
        ("Ada\n", {"confirmed": False}),
    ],
)
def test_two_questions_are_asked_and_an_empty_answer_leaves_it_unconfirmed(
    monkeypatch: pytest.MonkeyPatch, typed: str, expected: dict[str, object]
) -> None:
    asked = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", asked)
    assert data_commands.ask_consent().record() == expected
    assert asked.getvalue().startswith(data_commands.FACE_QUESTION)
    assert (data_commands.CONSENT_QUESTION in asked.getvalue()) == bool(
        typed.partition("\n")[0].strip()
    )


def test_nothing_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    here, away = Terminal(), io.StringIO()
    for stdin, stderr, quiet, as_json in (
        (away, here, False, False),
        (here, away, False, False),
        (here, here, True, False),
        (here, here, False, True),
        (here, here, False, False),
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(console, "quiet", quiet)
        monkeypatch.setattr(console, "json", as_json)
        wanted = stdin.isatty() and stderr.isatty() and not quiet and not as_json
        assert console.can_ask() == wanted


@pytest.mark.parametrize(
    "statement, record",
    [
        (None, {"confirmed": False}),
        ("", {"confirmed": False}),
        ("  ", {"confirmed": False}),
        (" her own ", {"confirmed": True, "statement": "her own"}),
    ],
)
def test_an_empty_statement_is_unconfirmed(
    statement: str | None, record: dict[str, object]
) -> None:
    assert Consent(statement).record() == record
    assert ("unconfirmed" in consent_note(record)) == (not record["confirmed"])
    assert "unconfirmed" in consent_note(None)


def comment(video: Path) -> str:
    """The comment in a video's metadata (Matroska writes its names in capitals)."""
    with av.open(str(video)) as container:
        return {name.lower(): value for name, value in container.metadata.items()}["comment"]


@pytest.mark.parametrize(
    "consent, note",
    [
        (Consent("Ada; signed release of 3 May").record(), "Consent: Ada; signed release of 3 May"),
        (Consent().record(), "Consent of the person: unconfirmed"),
        (None, "Consent of the person: unconfirmed"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_every_video_carries_the_consent_note(
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    consent: dict[str, object] | None,
    note: str,
    suffix: str,
) -> None:
    """The note passes from the dataset through the avatar to rendered speech and to previews."""
    data = shutil.copytree(scene, tmp_path / "data")
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**manifest, "consent": consent}))
    dataset, config = (
        Dataset.open(data),
        load(
            "quick",
            ["data.size=48", "model.plane_resolution=8", "model.mouth=audio"],
            environment={},
        ),
    )
    clip = load_clip(dataset, SIZE, "hama")
    model = untrained_model(config, WIDTH, torch.rand(40, 3) - 0.5, torch.rand(40, 3))
    engine = Engine(load_avatar(save_avatar(tmp_path / "avatar", model, config, dataset, clip)))
    monkeypatch.setattr(engine, "encode", lambda samples: [torch.zeros(5, 16, WIDTH)])
    out = tmp_path / f"speech{suffix}"
    render_video(engine, np.zeros(5 * 640, np.float32), out, "silence", StepTimes())
    assert comment(out).endswith(note) and comment(out).startswith("AI-generated")
    if suffix == ".mp4":
        run = Run.create(data, "scene", config, "x", tmp_path / "runs")
        with Previews(run, clip, dataset, dataset.split(), 0.2) as previews:
            previews.write(model, "fine", 1)
        assert comment(next((run.path / "previews").glob("*.mp4"))).endswith(note)
