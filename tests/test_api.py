"""The Python API: its names are there, torch comes only when needed, and it goes from a dataset to
frames.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scene import WIDTH
from tiny_training import settings


def test_importing_the_package_brings_no_torch_and_has_the_classes_all_the_same() -> None:
    code = (
        "import sys, being, being.train\nassert not {'torch', 'numpy'} & set(sys.modules), 'heavy imports'\n"
        "from being import Avatar, Engine\nfrom being.model import avatar\nassert Avatar is avatar.Avatar\n"
        "from being.inference import engine\nassert Engine is engine.Engine\n"
        "from being.train import train\nfrom being.train.training import train as same\nassert train is same"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    import being
    import being.train

    for module in (being, being.train):
        with pytest.raises(
            AttributeError, match=f"module '{module.__name__}' has no attribute 'avatars'"
        ):
            _ = module.avatars
    assert set(being.__all__) <= {*being.PLACES, "__version__"}


def test_from_a_dataset_to_frames(scene: Path, tmp_path: Path) -> None:
    import torch

    from being import Engine
    from being.train import train

    run = train(scene, settings(2, 2), runs=tmp_path, device="cpu")
    engine = Engine.load(run.path)
    pictures = list(engine.stream(torch.zeros(3, 16, WIDTH)))
    assert [(p.shape, p.dtype) for p in pictures] == [((48, 48, 3), np.uint8)] * 3
