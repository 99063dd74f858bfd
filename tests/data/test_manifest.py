"""`dataset.json` of wrong types, false counts and too long texts is refused by its key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from being.data.consent import STATEMENT_MAX, Consent, consent_note
from being.data.dataset import Dataset
from being.data.manifest import manifest_fault
from being.errors import InputRejected, UsageError

WRONG: dict[str, list[Any]] = {
    "frames": ["44", 0, -1, 1.5, True, None, 10**12, [44]],
    "width": ["48", 0, 10**9, None, 48.0],
    "height": [[], 5, 100_000],
    "fps": [30, "25", None],
    "segments": [[[0, 10]], [[0, "x"]], "x", [[0, 44], [44, 44]], [0, 44], {"a": 1}, [[0, 1.5]]],
    "missing": ["x", [-1], [44], [1.5], [[0]], {}],
    "features": [[], {"ds": 3}, {"ds": {"file": 3, "width": 6}}, {"ds": {"file": "a", "width": 0}}],
    "steps": [[], {"frames": 3}, {"frames": {"digest": None}}],
    "findings": [{}, [3], [{"check": 1, "level": "ok", "what": "w"}], [{"at": 3}]],
    "consent": [[], 3, {"statement": 3}, {"statement": "x" * (STATEMENT_MAX + 1)}],
    "source": [
        [],
        {"crop": [0, 0]},
        {"crop": [0, 0, 0]},
        {"frames": [[0, 10**12]]},
        {"sha256": 3},
        {"clips": [{}]},
        {"clips": [{"file": 3, "sha256": "0", "frames": 9}]},
    ],
    "schema": [2, None, "1"],
}


@pytest.mark.parametrize("key", WRONG)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(
    key: str, scene: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(scene, tmp_path / "scene")
    manifest = json.loads((copy / "dataset.json").read_text())
    for wrong in WRONG[key]:
        (copy / "dataset.json").write_text(json.dumps({**manifest, key: wrong}))
        with pytest.raises(InputRejected, match=key):
            Dataset.open(copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"schema": 1}'])
def test_a_manifest_that_is_none_is_refused(content: bytes, scene: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(scene, tmp_path / "scene")
    (copy / "dataset.json").write_bytes(content)
    with pytest.raises(InputRejected):
        Dataset.open(copy)


def test_more_frames_than_images_are_refused_before_memory_is_taken(
    scene: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(scene, tmp_path / "scene")
    manifest = json.loads((copy / "dataset.json").read_text())
    manifest |= {"frames": 300_000, "segments": [[0, 300_000]]}
    (copy / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputRejected, match="lacks ori_imgs/299999.jpg"):
        Dataset.open(copy)


def test_runs_of_source_frames_must_make_the_frames(scene: Path) -> None:
    manifest = json.loads((scene / "dataset.json").read_text())
    frames = manifest["frames"]
    for runs in ([[0, 10**12]], [[0, frames + 1]], [[0, frames - 1]], [[-1, frames]], "x"):
        assert "frames" in manifest_fault({**manifest, "source": {"frames": runs}})
    assert not manifest_fault({**manifest, "source": {"frames": [[5, frames - 2], [99, 2]]}})


def test_a_consent_of_a_novels_length_is_refused_at_every_door(tmp_path: Path) -> None:
    from being.interop.family import import_family
    from being.interop.gaussiantalker.importer import import_checkpoint

    novel = "I agree. " * 300
    for door in (
        lambda: Consent(novel),
        lambda: import_family(tmp_path, tmp_path / "out", name="May", consent=novel),
        lambda: import_checkpoint(tmp_path, consent=novel),
    ):
        with pytest.raises(UsageError, match="2700 characters"):
            door()


def test_the_note_in_a_video_commands_no_terminal_and_has_a_limit() -> None:
    note = consent_note({"confirmed": True, "statement": "me \x1b[2J\x9b1m" + "x" * 9000})
    assert "\x1b" not in note and "\x9b" not in note and len(note) < STATEMENT_MAX + 100
