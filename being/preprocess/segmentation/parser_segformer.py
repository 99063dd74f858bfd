"""A SegFormer face parser through `transformers`, from a hub, its cache or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from being.assets.hub import load_transformers, local_first
from being.errors import EnvironmentFault, InputRejected
from being.preprocess.segmentation.parser_classes import merge_classes, part_of_classes
from being.preprocess.segmentation.parser_input import PREPROCESSOR, Normalisation, read_settings

SIDE = 512  # px: image size in the training of such parsers
WEIGHTS = "model.safetensors"  # pickled weights are refused

Part = TypeVar("Part")


class SegformerParser:
    """Background, head, neck and torso by a SegFormer (Xie et al. 2021).

    It must have the 19 classes of CelebAMask-HQ.
    """

    def __init__(self, name: str):
        """Load the model.

        name: a folder, or owner/model of a hub. Raises EnvironmentFault (the package or one of the
        model's files is missing), InputRejected (it is another type of model).
        """
        try:
            import torch

            transformers = load_transformers()
            config_class = transformers.SegformerConfig
            model_class = transformers.SegformerForSemanticSegmentation
        except ImportError as error:
            raise EnvironmentFault(
                "the parser 'segformer' needs the package transformers",
                str(error),
                "pip install transformers, or leave --parser out",
            ) from error

        # The configuration names the type of the model and its classes.
        config = self._load(name, lambda: read_settings(_file(name, "config.json")), "config.json")
        if config.get("model_type") != "segformer":
            raise InputRejected(
                f"{name} is not a SegFormer",
                f"its config.json says {config.get('model_type')!r}",
                "Name a SegFormer face parser, or give its ONNX export to --parser",
            )
        parsed = config_class.from_dict(config)
        names = {int(number): str(label) for number, label in (parsed.id2label or {}).items()}
        labels = [names[number] for number in sorted(names)]
        try:
            self._classes = part_of_classes(labels)
            self._normalise = Normalisation.from_settings(self._settings(name))
        except ValueError as error:
            raise InputRejected(
                f"{name} is not a face parser",
                str(error),
                "Name a SegFormer trained on CelebAMask-HQ",
            ) from error

        weights = self._load(name, lambda: _file(name, WEIGHTS), WEIGHTS)
        self._network = self._load(
            name,
            lambda: model_class.from_pretrained(
                weights.parent, config=parsed, use_safetensors=True, local_files_only=True
            ),
            WEIGHTS,
        ).eval()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network.to(self._device)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probabilities float32 [4, 128, 128] of a frame uint8 [H, W, 3] RGB."""
        import torch

        with torch.inference_mode():
            values = torch.from_numpy(self._normalise(frame, SIDE, SIDE))[None].to(self._device)
            scores = self._network(pixel_values=values).logits[0].float().cpu().numpy()
        return merge_classes(scores, self._classes)

    @staticmethod
    def _load(name: str, load: Callable[[], Part], file: str) -> Part:
        """The result of `load`, which reads `file`. Raises EnvironmentFault when it fails."""
        try:
            return load()
        except (OSError, ValueError, RuntimeError) as error:
            raise EnvironmentFault(
                f"the face parser {name} cannot be loaded: {file} is missing or unreadable",
                str(error).split("\n")[0],
                f"Connect this machine once, or copy config.json, {PREPROCESSOR} and {WEIGHTS} of "
                "the model into a folder and give that folder to --parser",
            ) from error

    @staticmethod
    def _settings(name: str) -> dict[str, Any]:
        """The preprocessor's settings, empty if the model has none."""
        try:
            return read_settings(_file(name, PREPROCESSOR))
        except OSError:
            return {}  # then imagenet's normalisation is used


def _file(name: str, file: str) -> Path:
    """Path of one file of the model: in the folder, in the hub's cache, or fetched from the hub.

    Raises OSError.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} does not exist")
        return folder / file
    cached_file = load_transformers().utils.cached_file
    found = local_first(lambda local: cached_file(name, file, local_files_only=local))
    if found is None:
        raise FileNotFoundError(f"{name} has no {file}")
    return Path(found)
