"""The Python API: its names, no heavy import before they are used, and a dataset to frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scene import WIDTH
from tiny_training import settings

# The subpackages `being.preprocess` and `being.train` must not hide a name of the API.
CHECK_API = """
assert callable(being.preprocess_video) and callable(being.train_avatar)
from being import Avatar, Engine, preprocess_video, train_avatar
from being.inference import engine
from being.model import avatar
from being.preprocess import pipeline
from being.train import training
assert Avatar is being.Avatar is avatar.Avatar and Engine is being.Engine is engine.Engine
assert preprocess_video is being.preprocess_video is pipeline.preprocess_video
assert train_avatar is being.train_avatar is training.train_avatar
"""
IMPORT_PACKAGES = """
import being.preprocess, being.train
assert type(being.preprocess).__name__ == type(being.train).__name__ == "module"
"""
CHECK_LIGHT = """
import sys, being
assert not {"torch", "numpy"} & set(sys.modules), "heavy imports"
"""


@pytest.mark.parametrize(
    "code",
    [
        CHECK_LIGHT + CHECK_API + IMPORT_PACKAGES + CHECK_API,
        "import being\n" + IMPORT_PACKAGES + CHECK_LIGHT + CHECK_API,
    ],
    ids=["API first", "packages first"],
)
def test_the_api_has_its_functions_and_classes_in_either_order_of_imports(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    import being

    with pytest.raises(AttributeError, match="module 'being' has no attribute 'avatars'"):
        _ = being.avatars
    assert set(being.__all__) == {*being.MODULES, "__version__"}


def test_from_a_dataset_to_frames(scene: Path, tmp_path: Path) -> None:
    import torch

    import being

    run = being.train_avatar(scene, settings(2, 2), runs=tmp_path, device="cpu")
    engine = being.Engine.load(run.path)
    images = list(engine.stream(torch.zeros(3, 16, WIDTH)))
    assert [(image.shape, image.dtype) for image in images] == [((48, 48, 3), np.uint8)] * 3
