"""Facts of a trained GaussianTalker directory that its own text gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from trained_gaussiantalker import write_trained

from being.interop.gaussiantalker.checkpoint import read_checkpoint


@pytest.mark.parametrize("name", ["x" * 5000, "nowhere", "", "a\0b"])
def test_a_source_that_no_file_system_has_counts_as_gone(tmp_path: Path, name: str) -> None:
    write_trained(tmp_path / "May")
    found = read_checkpoint(tmp_path / "May")
    found.settings["source_path"] = name
    assert found.source is None
    found.settings["source_path"] = str(tmp_path)
    assert found.source == tmp_path
