"""Input of a parser network: image size, channel order and normalisation, from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from being.reading.content import Unreadable, read_text
from being.reading.structured import parse_json

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
PREPROCESSOR = "preprocessor_config.json"  # the file name of the transformers library
VALUE_MAX = 1e6  # of a mean or deviation
STD_MIN = 1e-6
JSON_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of an image: (x / 255 - mean) / std of each channel, RGB."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Normalisation:
        """The normalisation of `image_mean` and `image_std`, imagenet's where they are missing.

        Raises ValueError if they are not valid.
        """
        values = []
        for key, default in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
            value = settings.get(key) or default
            if not _are_three_numbers(value):
                raise ValueError(f"{key} is {str(value)[:80]}, not three numbers")
            values.append((float(value[0]), float(value[1]), float(value[2])))
        if min(values[1]) < STD_MIN:
            raise ValueError(f"image_std is {values[1]}: below {STD_MIN}")
        return cls(values[0], values[1])

    def __call__(self, frame: np.ndarray, height: int, width: int) -> np.ndarray:
        """A frame uint8 [H, W, 3] RGB, resized and normalised: float32 [3, height, width]."""
        shrinks = frame.shape[0] > height
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        small = cv2.resize(frame, (width, height), interpolation=interpolation)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (small.astype(np.float32) / 255 - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _are_three_numbers(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(isinstance(number, (int, float)) and abs(number) <= VALUE_MAX for number in value)
    )


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a small JSON file, empty where there is no file.

    Raises ValueError if the file is too large or no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = parse_json(read_text(path, JSON_LIMIT))
    except Unreadable as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return value
