"""The files of an export appear together, or none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from being.interop.export_files import exported_together


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_export_into_a_new_folder_appears_at_once(tmp_path: Path) -> None:
    with exported_together(tmp_path / "made") as part:
        (part / "a.onnx").write_text("a")
        assert not (tmp_path / "made").exists()
        (part / "b.onnx").write_text("b")
    assert names(tmp_path / "made") == ["a.onnx", "b.onnx"] and names(tmp_path) == ["made"]


def test_an_export_into_a_folder_keeps_its_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.onnx").write_text("old")
    with exported_together(tmp_path) as part:
        (part / "a.onnx").write_text("new")
        (part / "b.onnx").write_text("b")
        assert (tmp_path / "a.onnx").read_text() == "old"
    assert names(tmp_path) == ["a.onnx", "b.onnx", "mine.txt"]
    assert (tmp_path / "a.onnx").read_text() == "new"


@pytest.mark.parametrize("exists", [False, True])
def test_after_an_error_nothing_is_exported(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    if exists:
        folder.mkdir()
        (folder / "a.onnx").write_text("old")
    with pytest.raises(RuntimeError), exported_together(folder) as part:
        (part / "a.onnx").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == (["made"] if exists else [])
    assert not exists or (folder / "a.onnx").read_text() == "old"
