"""Names of subjects and paths inside containers: one check at every door."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from family_folder import truth, write_folder
from needs import load_or_skip
from program import being

from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.face.canonical_mesh import canonical_mesh
from being.interop.family import import_family
from being.interop.gaussiantalker.importer import import_checkpoint
from being.names import check_links, check_subject_name, is_subject_name, path_inside

BAD_NAMES = [
    "", " ", ".", "..", ".hidden", "a/b", "../x", "/etc", "a\\b", "a:b", "a\0b", "a\nb", "a\x1b[2J",
    "a\x9b", "a\u202egpj", "a\udcff", "n" * 201, "名" * 67,
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_folder_should_have_is_refused(name: str) -> None:
    assert not is_subject_name(name)
    with pytest.raises(UsageError, match="cannot be the name"):
        check_subject_name(name)


@pytest.mark.parametrize(
    "name", ["May", "Größe 'eins' 日本 (1)", "علی", "n" * 200, "क्\u200dष", "-x"]
)
def test_letters_of_all_scripts_are_names(name: str) -> None:
    check_subject_name(name)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../../b", "", "a/" * 9 + "b", ".a/b", 5]
)
def test_a_path_that_leads_out_of_a_container_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a path inside"):
        path_inside(tmp_path, name)


def test_a_path_inside_stays_inside(tmp_path: Path) -> None:
    assert path_inside(tmp_path, "a/b.npy") == tmp_path / "a/b.npy"


@pytest.mark.parametrize("name", ["../../../escape", "/escape", "a\x1b[31m", 7])
def test_a_dataset_whose_name_leads_out_of_the_home_is_refused(
    name: object, scene: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(scene, tmp_path / "scene")
    manifest = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**manifest, "name": name}))
    with pytest.raises(InputRejected, match="its name"):
        Dataset.open(copy)


@pytest.mark.parametrize("file", ["/etc/passwd", "../other/aud_hama.npy"])
def test_a_dataset_with_features_outside_of_it_is_refused(
    file: str, scene: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(scene, tmp_path / "scene")
    manifest = json.loads((copy / "dataset.json").read_text())
    for entry in manifest["features"].values():
        entry["file"] = file
    (copy / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(InputRejected, match="features"):
        Dataset.open(copy)


def test_an_imported_name_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    for name in ("../../x", "/x", "a\x1bb"):
        with pytest.raises(UsageError, match="cannot be the name"):
            import_checkpoint(tmp_path, name=name)
        with pytest.raises(UsageError, match="cannot be the name"):
            import_family(tmp_path, tmp_path / "out", name=name)
    assert not list(tmp_path.iterdir())


def test_the_program_writes_nothing_for_a_name_that_leads_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "May").mkdir(parents=True)
    monkeypatch.setenv("BEING_HOME", str(home))
    monkeypatch.chdir(home)
    for command in (["data", "import", "May"], ["import-checkpoint", "May"]):
        result = being(*command, "--name", "../../escape")
        assert result.exit_code == 2 and "cannot be the name" in result.stderr, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_link_out_of_a_family_folder_is_refused(tmp_path: Path) -> None:
    load_or_skip(canonical_mesh)
    secret = tmp_path / "secret"
    secret.write_text("of the victim")
    folder = write_folder(tmp_path / "May", truth(24))
    (folder / "bs.npy").symlink_to(secret)
    with pytest.raises(InputRejected, match="link that leads out"):
        import_family(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_inside_a_folder_are_followed_and_those_out_of_it_named(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "images").mkdir(parents=True)
    (folder / "images/0.jpg").write_bytes(b"")
    (folder / "same").symlink_to("images")
    check_links(folder)
    os.symlink(folder, tmp_path / "b")
    check_links(tmp_path / "b")  # the folder itself may be given by a link
    (folder / "images/1.jpg").symlink_to("/etc/passwd")
    with pytest.raises(InputRejected, match="1.jpg is a link that leads out"):
        check_links(folder)
