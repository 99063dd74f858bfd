"""Who says where the person is and what its parts are: parsers behind one interface, chosen by name
or file.

A parser is called with a frame uint8 [H, W, 3] RGB, from several threads, and returns probabilities
float32 [C, h, w] at a size of its own: C = 1, of person (the head is then cut out by landmarks); or
C = 4, of background, head (with hair), neck and torso, which sum to 1.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from being.data.parsing import BACKGROUND, HEAD, NECK, TORSO
from being.errors import EnvironmentFault, UsageError

# what the name "segformer" stands for: MiT-B5 on CelebAMask-HQ, 19 classes
SEGFORMER = "jonathandinu/face-parsing"

# The 19 classes of CelebAMask-HQ in the order of the family's BiSeNet
# (zllrunning/face-parsing.PyTorch).
CELEBAMASK = (
    "background",
    "skin",
    "l_brow",
    "r_brow",
    "l_eye",
    "r_eye",
    "eye_g",
    "l_ear",
    "r_ear",
    "ear_r",
    "nose",
    "mouth",
    "u_lip",
    "l_lip",
    "neck",
    "neck_l",
    "cloth",
    "hair",
    "hat",
)
_PART = {"background": BACKGROUND, "neck": NECK, "neck_l": NECK, "cloth": TORSO}  # all others: head


class Parser(Protocol):
    """Says where the person is."""

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probabilities float32 [1 or 4, h, w] of a frame uint8 [H, W, 3] RGB, as the top of this
        file says.
        """


def parser(name: str | None = None) -> Parser:
    """The parser of that name.

    None or "selfie": MediaPipe's selfie segmentation (offline, the default); "segformer": a
    SegFormer face parser through `transformers`; an existing file that ends in .onnx: a
    face-parsing or portrait model of the user's; an existing folder or any other "owner/model": a
    SegFormer face parser there. Raises UsageError (no such parser), EnvironmentFault (a package or
    file is missing), InputRejected (a file that is not what it should be).
    """
    if name in (None, "selfie"):
        return SelfieSegmentation()
    assert name is not None
    path = Path(name).expanduser()
    if path.suffix.lower() == ".onnx":
        from being.preprocess.segmentation.parser_onnx import OnnxParser

        return OnnxParser(path)
    if name == "segformer" or path.is_dir() or _is_hub_name(name):
        from being.preprocess.segmentation.parser_segformer import SegformerParser

        return SegformerParser(SEGFORMER if name == "segformer" else name)
    raise UsageError(
        f"there is no parser '{name}'",
        "it is neither a name, nor a folder, nor a .onnx file",
        "Use selfie, segformer, a hub's owner/model, a folder with a SegFormer, or an .onnx file",
    )


def _is_hub_name(name: str) -> bool:
    owner, slash, model = name.partition("/")
    return bool(slash and owner and model) and "/" not in model and not name.startswith((".", "~"))


class SelfieSegmentation:
    """The person's silhouette by MediaPipe's selfie segmentation; each thread has a network of its
    own.
    """

    def __init__(self, model: Path | None = None):
        try:
            import ai_edge_litert.interpreter  # noqa: F401
        except ImportError as error:
            raise EnvironmentFault(
                "masks need the package ai-edge-litert",
                str(error),
                "Install being with its preprocess extra: pip install 'being[preprocess]'",
            ) from error
        if model is None:
            from being import assets

            model = assets.fetch("selfie_segmentation")
        self._content = Path(model).read_bytes()
        self._own = threading.local()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probability of person float32 [1, 256, 256] of a frame uint8 [H, W, 3] RGB."""
        if not hasattr(self._own, "network"):
            from ai_edge_litert.interpreter import Interpreter

            self._own.network = Interpreter(model_content=self._content, num_threads=1)
            self._own.network.allocate_tensors()
        network = self._own.network
        put, take = network.get_input_details()[0], network.get_output_details()[0]
        _, height, width, _ = put["shape"]
        small = cv2.resize(frame, (int(width), int(height)), interpolation=cv2.INTER_AREA)
        network.set_tensor(put["index"], small.astype(np.float32)[None] / 255)
        network.invoke()
        return network.get_tensor(take["index"])[0, :, :, 0][None].copy()


def merge_classes(scores: np.ndarray, classes: list[int]) -> np.ndarray:
    """Probabilities float32 [4, h, w] of background, head, neck, torso from scores float [C, h, w]
    of C classes.

    scores: logits, or probabilities that sum to 1; classes: for each class the part it belongs to.
    """
    parts = np.zeros((4, *scores.shape[1:]), np.float32)
    for share, part in zip(probabilities(scores), classes, strict=True):
        parts[part] += share
    return parts


def probabilities(scores: np.ndarray) -> np.ndarray:
    """float32 [C, h, w] that sum to 1 over C, from float [C, h, w]: the softmax, unless they are
    probabilities.
    """
    scores = scores.astype(np.float32)
    if scores.min() >= 0 and np.abs(scores.sum(0) - 1).max() < 1e-2:
        return scores
    scores = np.exp(scores - scores.max(0))
    return scores / scores.sum(0)


def part_of_classes(names: list[str]) -> list[int]:
    """The part (BACKGROUND, HEAD, NECK or TORSO) of each CelebAMask-HQ class name.

    Raises ValueError for names that are not these 19.
    """
    strange = sorted(set(names) ^ set(CELEBAMASK))
    if strange or len(names) != len(CELEBAMASK):
        raise ValueError(
            f"its classes are not the 19 of CelebAMask-HQ: {', '.join(strange[:6]) or 'some twice'}"
        )
    return [_PART.get(name, HEAD) for name in names]
