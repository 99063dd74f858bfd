"""A parser network from the user's own ONNX file: face parsing or portrait matting.

Input: one image [1, 3, h, w] or [1, h, w, 3], float (normalised) or uint8 (as it is). A side that
the graph leaves open is 512 px. Normalisation: `image_mean` and `image_std` of a
preprocessor_config.json beside the file, or of the graph's own metadata (JSON lists of three
numbers); imagenet's otherwise.

First output, batch of one, channels first or last:

- 19 channels (or whole numbers 0 to 18): the classes of CelebAMask-HQ, logits or probabilities.
  Their order is that of an `id2label` in the graph's metadata or in a config.json beside the file,
  otherwise that of the family's BiSeNet.
- 1 channel: a portrait matte: the probability of person, or its logit.
- 2 channels: background and person, logits or probabilities.

The file is not trusted: its size is limited, and weights outside the file and custom operators are
not loaded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from being.errors import EnvironmentFault, InputRejected
from being.onnx_runtime import load_onnxruntime
from being.preprocess.segmentation.parser_classes import (
    CELEBAMASK,
    merge_classes,
    part_of_classes,
    probabilities,
)
from being.preprocess.segmentation.parser_input import PREPROCESSOR, Normalisation, read_settings
from being.reading.content import Unreadable
from being.reading.structured import parse_json

FILE_LIMIT = 512 << 20  # bytes
SIDE = 512  # px, where the graph leaves it open
SIDES = (32, 2048)  # px: smallest and largest side
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def _parse_setting(key: str, text: str) -> Any:
    """The JSON value of a graph's metadata. Raises ValueError."""
    try:
        return parse_json(text)
    except Unreadable as error:
        raise ValueError(f"{key}: {error}") from error


class OnnxParser:
    """A parser network in an ONNX file: the parts of the person, or the silhouette."""

    def __init__(self, path: Path):
        """Load and validate the file, with one run on a black image.

        Raises EnvironmentFault without onnxruntime, InputRejected for a file that cannot be used.
        """
        try:
            onnxruntime = load_onnxruntime()
        except ImportError as error:
            raise EnvironmentFault(
                "a parser from a file needs the package onnxruntime",
                str(error),
                "pip install onnxruntime, or leave --parser out",
            ) from error
        self._path = path
        self._session = self._load(onnxruntime)

        # One image of three channels, float or uint8, of a reasonable size.
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = [list(i.shape) for i in inputs]
            self._refuse(f"it takes {shapes}, not one image [1, 3, h, w] or [1, h, w, 3]")
        self._input = inputs[0]
        shape = [size if isinstance(size, int) and size > 0 else None for size in self._input.shape]
        if shape[0] not in (None, 1) or not (shape[1] == 3) ^ (shape[3] == 3):
            self._refuse(f"its input is {self._input.shape}, not [1, 3, h, w] or [1, h, w, 3]")
        if self._input.type not in (*FLOATS, "tensor(uint8)"):
            self._refuse(f"its input is {self._input.type}, not float or uint8")
        self._channels_first = shape[1] == 3
        sides = shape[2:] if self._channels_first else shape[1:3]
        self._height, self._width = (side or SIDE for side in sides)
        if not all(SIDES[0] <= side <= SIDES[1] for side in (self._height, self._width)):
            size = f"{self._height} x {self._width} px"
            self._refuse(f"it takes images of {size}, not {SIDES[0]} to {SIDES[1]}")

        try:
            self._normalise, self._classes = self._settings()
        except (ValueError, OSError) as error:
            self._refuse(str(error))

        # Validates the output before the long work begins.
        self(np.zeros((64, 64, 3), np.uint8))

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Probabilities float32 [1 or 4, h, w] of a frame uint8 [H, W, 3] RGB."""
        if self._input.type == "tensor(uint8)":
            import cv2

            small = cv2.resize(frame, (self._width, self._height), interpolation=cv2.INTER_AREA)
            values = small.transpose(2, 0, 1)
        else:
            values = self._normalise(frame, self._height, self._width)
            values = values.astype(FLOATS[self._input.type])
        values = np.ascontiguousarray(values if self._channels_first else values.transpose(1, 2, 0))
        output = self._session.get_outputs()[0].name
        try:
            result = self._session.run([output], {self._input.name: values[None]})[0]
        except Exception as error:
            self._refuse(str(error).split("\n")[0])
        return self._parts(np.asarray(result))

    def _load(self, onnxruntime: Any) -> Any:
        """An inference session of the file, with one thread."""
        if not self._path.is_file():
            raise InputRejected(
                f"there is no file {self._path}", fix="Give the path of an ONNX file to --parser"
            )
        size = self._path.stat().st_size
        if size > FILE_LIMIT:
            self._refuse(f"it has {size >> 20} MiB, more than {FILE_LIMIT >> 20}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        external = "session.model_external_initializers_file_folder_path"

        # Weights outside the file are searched for in an empty folder, so they are never found.
        with tempfile.TemporaryDirectory(prefix="being-") as empty:
            options.add_session_config_entry(external, empty)
            try:
                return onnxruntime.InferenceSession(
                    self._path.read_bytes(),
                    options,
                    providers=["CPUExecutionProvider"],
                    # Its second attempt would print texts of the file.
                    enable_fallback=0,
                )
            # onnxruntime raises its own types, which have no public base.
            except Exception as error:
                self._refuse(str(error).split("\n")[0])

    def _settings(self) -> tuple[Normalisation, list[int]]:
        """Normalisation, and the part of each of 19 classes. Raises ValueError, OSError."""
        metadata = self._session.get_modelmeta().custom_metadata_map
        own = {
            key: _parse_setting(key, metadata[key])
            for key in ("image_mean", "image_std", "id2label")
            if key in metadata
        }
        settings = {
            **read_settings(self._path.with_name("config.json")),
            **read_settings(self._path.with_name(PREPROCESSOR)),
            **own,
        }
        normalisation = Normalisation.from_settings(settings)
        labels = settings.get("id2label")
        if labels is None:
            return normalisation, part_of_classes(list(CELEBAMASK))
        if not isinstance(labels, dict):
            raise ValueError("id2label is not an object")
        names = [str(labels.get(str(i))) for i in range(len(CELEBAMASK))]
        return normalisation, part_of_classes(names)

    def _parts(self, result: np.ndarray) -> np.ndarray:
        """Probabilities float32 [1 or 4, h, w] of the network's first output."""
        # [channels, h, w] or [h, w, channels].
        if result.ndim == 4 and result.shape[0] == 1:
            result = result[0]
        if result.ndim == 2:
            result = result[None]
        classes = len(CELEBAMASK)
        if result.ndim != 3 or min(result.shape) < 1 or max(result.shape) > 2 * SIDES[1]:
            self._refuse(f"it returns an array {list(result.shape)}, not [channels, h, w]")

        # Class numbers.
        if result.dtype.kind in "iu" and (result.shape[0] == 1 or result.shape[2] == 1):
            numbers = result.reshape(result.shape[1:] if result.shape[0] == 1 else result.shape[:2])
            low, high = numbers.min(), numbers.max()
            if low < 0 or high >= classes:
                self._refuse(f"it returns whole numbers {low} to {high}, not classes 0 to 18")
            return np.eye(4, dtype=np.float32)[np.array(self._classes)[numbers]].transpose(2, 0, 1)

        # Logits or probabilities of 19, 2 or 1 channels.
        if result.shape[0] not in (1, 2, classes) and result.shape[2] in (1, 2, classes):
            result = result.transpose(2, 0, 1)
        if result.dtype.kind != "f" or result.shape[0] not in (1, 2, classes):
            self._refuse(
                f"it returns {result.dtype} {list(result.shape)}: "
                "neither 19 classes nor a portrait's 1 or 2"
            )
        if not np.isfinite(result).all():
            self._refuse("it returns values that are not numbers")
        if len(result) == classes:
            return merge_classes(result, self._classes)
        if len(result) == 2:
            return probabilities(result)[1:]
        matte = result.astype(np.float32)
        if matte.min() >= -1e-3 and matte.max() <= 1 + 1e-3:
            return matte
        return 1 / (1 + np.exp(-matte))

    def _refuse(self, why: str) -> Any:
        """Raise InputRejected for the file."""
        raise InputRejected(
            f"{self._path} cannot parse faces",
            why,
            "Give an ONNX file of a 19-class CelebAMask-HQ face parser or of a portrait matte",
        )
