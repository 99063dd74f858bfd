"""The three renderers implement the protocol of `being.inference.protocol`.

mypy checks it too: `engine._choose_renderer` returns each of them as a `FrameRenderer`.
`test_cuda_interpreted.py` checks an instance of the CUDA renderer.
"""

from __future__ import annotations

import inspect
from importlib import import_module

import numpy as np
import pytest
from tiny_avatar import tiny_avatar

from being.inference.backends.cpu.head import status
from being.inference.backends.cpu.renderer import NativeRenderer
from being.inference.backends.torch import TorchRenderer
from being.inference.engine import Engine
from being.inference.protocol import (
    FrameRenderer,
    KeyFrameRenderer,
    PendingFrames,
    PlanarRenderer,
)

RENDERERS = {
    "torch": "TorchRenderer",
    "cpu.renderer": "NativeRenderer",
    "cuda.renderer": "CudaGraphRenderer",
}


@pytest.mark.parametrize("module", RENDERERS)
def test_the_methods_have_the_parameters_of_the_protocol(module):
    if module.startswith("cuda"):
        pytest.importorskip("triton")
    renderer = getattr(import_module(f"being.inference.backends.{module}"), RENDERERS[module])
    protocol, methods = FrameRenderer, ["submit", "decode_plates", "warm_up", "close"]
    if hasattr(renderer, "submit_planar"):
        protocol, methods = PlanarRenderer, [*methods, "submit_planar"]
    for method in methods:
        expected = inspect.signature(getattr(protocol, method)).parameters
        assert list(inspect.signature(getattr(renderer, method)).parameters) == list(expected)


@pytest.mark.parametrize("name", ["TorchRenderer", "NativeRenderer"])
def test_an_instance_implements_the_protocol(tmp_path, name):
    if name == "NativeRenderer" and not status().startswith("OK"):
        pytest.skip(status())
    engine = Engine(tiny_avatar(tmp_path), renderer="torch" if name == "TorchRenderer" else "auto")
    renderer = engine.renderer
    assert isinstance(renderer, (TorchRenderer, NativeRenderer)) and type(renderer).__name__ == name
    assert isinstance(renderer, FrameRenderer)
    assert isinstance(renderer, KeyFrameRenderer) == (name == "NativeRenderer")

    rows, poses = np.zeros((2, 8), np.int32), np.array([0, 1])
    renderer.warm_up(2)
    renderer.decode_plates(poses)
    pending = renderer.submit(rows, poses, engine.expression[poses])
    assert isinstance(pending, PendingFrames) and pending.ready
    images = pending.images()
    assert images.dtype == np.uint8 and images.shape == (2, renderer.size, renderer.size, 3)
    renderer.close()
