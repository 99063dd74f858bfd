"""A SegFormer face parser through the `transformers` library: from the hub, its cache, or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from being.errors import EnvironmentFault, InputRejected
from being.preprocess.segmentation.parser import merge_classes, part_of_classes
from being.preprocess.segmentation.parser_input import PREPROCESSOR, Normalisation, read_settings

SIDE = 512  # px: the pictures such parsers were trained on
WEIGHTS = "model.safetensors"  # pickled weights are refused

Thing = TypeVar("Thing")


class SegformerParser:
    """Background, head, neck and torso by a SegFormer with the 19 classes of CelebAMask-HQ (Xie et
    al. 2021).
    """

    def __init__(self, name: str):
        """name: a folder, or a hub's owner/model.

        Raises EnvironmentFault (the package or one of the model's files cannot be had),
        InputRejected (it is another kind of model).
        """
        try:
            import torch
            from transformers import SegformerConfig, SegformerForSemanticSegmentation
        except ImportError as error:
            raise EnvironmentFault(
                "the parser 'segformer' needs the package transformers",
                str(error),
                "pip install transformers, or leave --parser out",
            ) from error
        config = self._had(name, lambda: read_settings(_file(name, "config.json")), "config.json")
        if config.get("model_type") != "segformer":
            raise InputRejected(
                f"{name} is not a SegFormer",
                f"its config.json says {config.get('model_type')!r}",
                "Name a SegFormer face parser, or give its ONNX export to --parser",
            )
        kept = SegformerConfig.from_dict(config)
        names = {int(number): str(name) for number, name in (kept.id2label or {}).items()}
        labels = [names[number] for number in sorted(names)]
        try:
            self._classes = part_of_classes(labels)
            self._normalised = Normalisation.of(self._settings(name))
        except ValueError as error:
            raise InputRejected(
                f"{name} is not a face parser",
                str(error),
                "Name a SegFormer trained on CelebAMask-HQ",
            ) from error
        weights = self._had(name, lambda: _file(name, WEIGHTS), WEIGHTS)
        self._network = self._had(
            name,
            lambda: SegformerForSemanticSegmentation.from_pretrained(
                weights.parent, config=kept, use_safetensors=True, local_files_only=True
            ),
            WEIGHTS,
        ).eval()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network.to(self._device)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probabilities float32 [4, 128, 128] of a frame uint8 [H, W, 3] RGB."""
        import torch

        with torch.inference_mode():
            values = torch.from_numpy(self._normalised(frame, SIDE, SIDE))[None].to(self._device)
            scores = self._network(pixel_values=values).logits[0].float().cpu().numpy()
        return merge_classes(scores, self._classes)

    @staticmethod
    def _had(name: str, make: Callable[[], Thing], file: str) -> Thing:
        try:
            return make()
        except (OSError, ValueError, RuntimeError) as error:
            raise EnvironmentFault(
                f"the face parser {name} cannot be had: {file} is missing or unreadable",
                str(error).split("\n")[0],
                f"Connect this machine once, or copy config.json, {PREPROCESSOR} and {WEIGHTS} of "
                "the model into a folder and give that folder to --parser",
            ) from error

    @staticmethod
    def _settings(name: str) -> dict[str, Any]:
        try:
            return read_settings(_file(name, PREPROCESSOR))
        except OSError:
            return {}  # imagenet's normalisation


def _file(name: str, file: str) -> Path:
    """Path of one file of the model: in the folder, the hub's cache or, fetched now, from the hub.
    Raises OSError.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} does not exist")
        return folder / file
    from transformers.utils import cached_file

    found = cached_file(name, file)
    if found is None:
        raise FileNotFoundError(f"{name} has no {file}")
    return Path(found)
