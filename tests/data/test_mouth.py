"""The mouth code of a dataset: measured, kept, and read again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from needs import load_or_skip

from being.data.dataset import Dataset
from being.data.mouth import MOUTH_FILE, load_mouth_code, store_mouth_code
from being.errors import InputRejected
from being.face.canonical_mesh import canonical_mesh


@pytest.fixture
def dataset(scene: Path, tmp_path: Path) -> Dataset:
    load_or_skip(canonical_mesh)
    return Dataset.open(shutil.copytree(scene, tmp_path / "data"))


def test_the_code_is_kept_and_read_again(dataset: Dataset) -> None:
    measured = load_mouth_code(dataset)
    assert not (dataset.path / MOUTH_FILE).exists(), "measuring alone writes nothing"
    store_mouth_code(dataset, measured)
    assert [file.name for file in dataset.path.glob("*mouth_code*")] == [MOUTH_FILE]
    again = load_mouth_code(dataset)
    np.testing.assert_allclose(again.values, measured.values, atol=1e-3)
    np.testing.assert_array_equal(again.found, measured.found)


def test_measures_of_another_clip_are_refused(dataset: Dataset) -> None:
    np.savez(dataset.path / MOUTH_FILE, measures=np.zeros((3, 16), np.float32))
    with pytest.raises(InputRejected, match="expected"):
        load_mouth_code(dataset)
