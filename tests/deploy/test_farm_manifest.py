"""The manifest of a farm: every fault of it is told at once, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import refused

from being.deploy.farm_manifest import read_manifest
from being.errors import InputRejected, UsageError


def write(folder: Path, text: str) -> Path:
    """A manifest beside a file that is called clip.mp4."""
    (folder / "clip.mp4").write_bytes(b"content")
    path = folder / "people.yaml"
    path.write_text(text)
    return path


def test_subjects_have_the_values_of_defaults_unless_they_set_their_own(tmp_path: Path) -> None:
    manifest = write(
        tmp_path,
        """
        defaults: {size: 256, gpus: 1, text: Hello}
        subjects:
          - {name: anna, video: clip.mp4, consent: my own face}
          - {name: ben, video: [clip.mp4], consent: null, gpus: 0, speech: clip.mp4}
        """,
    )
    anna, ben = read_manifest(manifest)
    assert anna.video == ben.video == (tmp_path / "clip.mp4",)
    assert (anna.consent, anna.size, anna.gpus, anna.text) == ("my own face", 256, 1, "Hello")
    assert (anna.config_name, anna.device) == ("64_dim_1_transformer", "cuda")
    assert (ben.config_name, ben.device) == ("quick", "cpu")
    assert ben.consent is None and ben.text is None and ben.speech == tmp_path / "clip.mp4"


@pytest.mark.parametrize(
    "entry, told",
    [
        ("consnet: me", "unknown key 'consnet', did you mean 'consent'?"),
        ("consent: me, gpuss: 1", "unknown key 'gpuss', did you mean 'gpus'?"),
        ("size: 256", "`consent` is missing: write whose face it is"),
        ("consent: me, size: 12", "`size` must be a whole number from 128 to 2048, not 12"),
        ("consent: me, tight: 1", "`tight` must be true or false, not 1"),
        ("consent: me, gpus: true", "`gpus` must be a whole number"),
        ("consent: me, config: nosuch", "no config file"),
        ("consent: me, override: [train.fine.stepz=3]", "did you mean 'train.fine.steps'?"),
        ("consent: me, text: Hello, speech: clip.mp4", "`text` and `speech` exclude each other"),
        ("consent: me, audio: 'https://x.org/a.wav'", "is a URL"),
        (f"consent: {'x' * 2001}", "`consent` has more than 2000 characters"),
    ],
)
def test_a_wrong_entry_is_named_with_its_subject(tmp_path: Path, entry: str, told: str) -> None:
    manifest = write(tmp_path, f"subjects: [{{name: anna, video: clip.mp4, {entry}}}]")
    with pytest.raises(UsageError) as error:
        read_manifest(manifest)
    assert "subject 'anna': " in error.value.why
    assert told.lower() in error.value.why.lower()


@pytest.mark.parametrize(
    "text, told",
    [
        ("- a list", "it has no list `subjects`"),
        ("subjects: []", "it has 0 subjects"),
        ("subjets: []", "it has no list `subjects`"),
        ("subjects: [anna]", "subject 1 is no mapping"),
        ("subjects: [{name: ../a, video: clip.mp4, consent: x}]", "cannot be a name of folders"),
        ("subjects: [{name: a, consent: x}]", "`video` is missing"),
        ("defaults: {consent: x}\nsubjects: [{name: a}]", "'consent' belongs to each subject"),
        (
            "subjects: [{name: a, video: clip.mp4, consent: x}, "
            "{name: A, video: clip.mp4, consent: x}]",
            "two subjects are called 'a' and 'A'",
        ),
        ("a: [", "cannot read the manifest"),
    ],
)
def test_a_manifest_that_is_none_says_why(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as error:
        read_manifest(write(tmp_path, text))
    assert told in str(error.value)


def test_all_faults_are_told_in_one_error(tmp_path: Path) -> None:
    manifest = write(
        tmp_path,
        """
        subjects:
          - {name: anna, video: gone.mp4, consnet: me}
          - {name: ben, video: clip.mp4, consent: me, sizze: 3}
        """,
    )
    with pytest.raises(UsageError) as error:
        read_manifest(manifest)
    for told in ("'consnet'", "`consent` is missing", "'sizze'", "Nothing was begun"):
        assert told in str(error.value)


def test_clips_that_are_missing_are_rejected_input(tmp_path: Path) -> None:
    manifest = write(tmp_path, "subjects: [{name: a, video: [clip.mp4, gone.mp4], consent: x}]")
    with pytest.raises(InputRejected, match="gone.mp4 does not exist"):
        read_manifest(manifest)
    with pytest.raises(InputRejected, match="there is no manifest"):
        read_manifest(tmp_path / "none.yaml")


def test_the_command_refuses_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "subjects: [{name: a, video: clip.mp4, consent: x, gpuss: 1}]")
    refused(2, "did you mean 'gpus'", "farm", "people.yaml")
    write(tmp_path, "subjects: [{name: a, video: gone.mp4, consent: x}]")
    refused(4, "gone.mp4 does not exist", "farm", "people.yaml")


def test_without_ray_the_command_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("being.deploy.ray_cluster.importlib.util.find_spec", lambda name: None)
    write(tmp_path, "subjects: [{name: a, video: clip.mp4, consent: x}]")
    refused(3, r"Ray is not installed.*being\[ray\]", "farm", "people.yaml")
