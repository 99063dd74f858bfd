"""Pictures as a network wants them: size, channel order and normalisation, read from what lies
beside the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
PREPROCESSOR = "preprocessor_config.json"  # the name the transformers library gives it
JSON_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class Normalisation:
    """(x / 255 - mean) / std of each channel, RGB."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Normalisation:
        """From `image_mean` and `image_std`; imagenet's where they are missing. Raises ValueError
        if they are odd.
        """
        values = []
        for key, usual in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
            value = settings.get(key) or usual
            if (
                not isinstance(value, (list, tuple))
                or len(value) != 3
                or not np.isfinite(np.asarray(value, np.float64)).all()
            ):
                raise ValueError(f"{key} is {value!r}, not three numbers")
            values.append((float(value[0]), float(value[1]), float(value[2])))
        if min(values[1]) <= 0:
            raise ValueError(f"image_std is {values[1]}: not positive")
        return cls(values[0], values[1])

    def __call__(self, frame: np.ndarray, height: int, width: int) -> np.ndarray:
        """float32 [3, height, width] of a frame uint8 [H, W, 3] RGB."""
        shrinks = frame.shape[0] > height
        small = cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        scaled = (small.astype(np.float32) / 255 - np.array(self.mean, np.float32)) / np.array(
            self.std, np.float32
        )
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a small JSON file; empty where there is none. Raises ValueError if it is not
    one.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > JSON_LIMIT:
        raise ValueError(f"{path.name} is larger than {JSON_LIMIT} bytes")
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return value
