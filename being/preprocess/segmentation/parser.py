"""Parser networks (person segmentation, face parsing), loaded by name or from a file.

A parser is called with a frame uint8 [H, W, 3] RGB, from several threads. It returns probabilities
float32 [C, h, w] at a size of its own. With C = 1 they are of person; the head is then cut out by
landmarks. With C = 4 they are of background, head (with hair), neck and torso, and sum to 1.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from being.errors import UsageError
from being.face.litert import interpreter_class, load_network
from being.paths import expand_path

# The model of the name "segformer": MiT-B5 on CelebAMask-HQ, 19 classes.
SEGFORMER = "jonathandinu/face-parsing"


class Parser(Protocol):
    """A network that finds the person or its parts."""

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probabilities float32 [1 or 4, h, w] of a frame uint8 [H, W, 3] RGB.

        One channel is person; four are background, head, neck and torso.
        """


def load_parser(name: str | None = None) -> Parser:
    """The parser of a name.

    - None or "selfie": MediaPipe's selfie segmentation (offline, the default).
    - "segformer": a SegFormer face parser through `transformers`.
    - A path that ends in .onnx: a face-parsing or portrait model of the user's.
    - An existing folder, or "owner/model" of a hub: a SegFormer face parser there.

    Raises UsageError (no such parser), EnvironmentFault (a package or file is missing),
    InputRejected (the file is no such model).
    """
    if name in (None, "selfie"):
        return SelfieSegmentation()
    assert name is not None
    name = expand_path(name)
    path = Path(name)
    if path.suffix.lower() == ".onnx":
        from being.preprocess.segmentation.parser_onnx import OnnxParser

        return OnnxParser(path)
    if name == "segformer" or path.is_dir() or _is_hub_name(name):
        from being.preprocess.segmentation.parser_segformer import SegformerParser

        return SegformerParser(SEGFORMER if name == "segformer" else name)
    raise UsageError(
        f"there is no parser '{name}'",
        "it is no known name, no folder and no .onnx file",
        "Use selfie, segformer, a hub's owner/model, a folder with a SegFormer, or an .onnx file",
    )


def _is_hub_name(name: str) -> bool:
    """Whether a name has the form owner/model."""
    owner, slash, model = name.partition("/")
    return bool(slash and owner and model) and "/" not in model and not name.startswith((".", "~"))


class SelfieSegmentation:
    """The person's silhouette by MediaPipe's selfie segmentation.

    Each thread has a network of its own.
    """

    def __init__(self, model: Path | None = None):
        """model: a .tflite file, by default the one that `being.assets` provides.

        Raises EnvironmentFault without LiteRT.
        """
        interpreter_class("masks")
        if model is None:
            from being import assets

            model = assets.fetch("selfie_segmentation")
        self._content = Path(model).read_bytes()
        self._own = threading.local()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probability of person float32 [1, 256, 256] of a frame uint8 [H, W, 3] RGB."""
        if not hasattr(self._own, "network"):
            self._own.network = load_network(self._content, "masks")
        network = self._own.network
        source, result = network.get_input_details()[0], network.get_output_details()[0]
        _, height, width, _ = source["shape"]
        small = cv2.resize(frame, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        network.set_tensor(source["index"], small.astype(np.float32)[None] / 255)
        network.invoke()
        return network.get_tensor(result["index"])[0, :, :, 0][None].copy()
